"""An image of the interpreter that runs this program: no network, no package manager."""

from __future__ import annotations

from pycontainer.images._interpreter.interpreter import (
    Copy,
    Interpreter,
    container_config,
    gather,
)

__all__ = ["Copy", "Interpreter", "container_config", "gather"]
