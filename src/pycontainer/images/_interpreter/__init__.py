"""An image of the interpreter that runs this program: no network, no package manager."""

from __future__ import annotations

from pycontainer.images._interpreter.interpreter import Interpreter, container_config, gather

__all__ = ["Interpreter", "container_config", "gather"]
