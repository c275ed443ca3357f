"""Dockerfiles: from text to values, and from those to the build graph."""

from __future__ import annotations

from pycontainer.build.dockerfile._document import Dockerfile, Stage
from pycontainer.build.dockerfile._heredocs import Heredoc
from pycontainer.build.dockerfile._instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from pycontainer.build.dockerfile._lines import Directives
from pycontainer.build.dockerfile._lint import BuildWarning, check
from pycontainer.build.dockerfile._location import Location
from pycontainer.build.dockerfile._printed import PrintedDockerfile

__all__ = [
    "Add",
    "Arg",
    "BuildWarning",
    "Cmd",
    "Copy",
    "Directives",
    "Dockerfile",
    "Entrypoint",
    "Env",
    "Expose",
    "From",
    "Healthcheck",
    "Heredoc",
    "Instruction",
    "Label",
    "Location",
    "Maintainer",
    "Onbuild",
    "PrintedDockerfile",
    "Run",
    "Shell",
    "Stage",
    "StopSignal",
    "User",
    "Volume",
    "Workdir",
    "check",
]
