"""The command line: ``demo`` does the whole job, ``doctor`` looks at the machine, ``registry`` serves one."""

from __future__ import annotations

import argparse
import sys

import pycontainer
from pycontainer._cli.registry import add_arguments, registry
from pycontainer.errors import Error

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return the exit code: 0, or 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="pycontainer", description=pycontainer.__doc__)
    parser.add_argument("--version", action="version", version=pycontainer.__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="build, push, pull and run an image, in a place of its own")
    commands.add_parser("doctor", help="what this machine can and cannot do, and the remedies")
    add_arguments(commands.add_parser("registry", help="serve a registry from a directory"))
    parsed = parser.parse_args(arguments)
    command = parsed.command
    try:
        if command == "demo":
            from pycontainer._cli.demo import demo

            return demo()
        if command == "registry":
            return registry(parsed)
        from pycontainer._cli.doctor import doctor

        return doctor()
    except Error as error:
        print(f"pycontainer {command}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
