"""Containers as programs use them: started, looked after, gone without a trace."""

from __future__ import annotations

from pycontainer.containers import ready
from pycontainer.containers._attach import Attachment
from pycontainer.containers._changes import Change
from pycontainer.containers._container import Container
from pycontainer.containers._details import Details
from pycontainer.containers._devices import Device
from pycontainer.containers._events import events
from pycontainer.containers._files import ContainerFiles
from pycontainer.containers._health import Health, HealthCheck, HealthProbe
from pycontainer.containers._limits import Limits
from pycontainer.containers._logs import LogLine, LogOptions
from pycontainer.containers._mount import IdRange, Mount
from pycontainer.containers._names import Names
from pycontainer.containers._namespaces import Namespaces
from pycontainer.containers._process import Completed, Process
from pycontainer.containers._processes import NetworkUsage, ProcessInfo, Usage
from pycontainer.containers._prune import Pruned, prune
from pycontainer.containers._run import run
from pycontainer.containers._security import Security
from pycontainer.containers._volume import Volume

__all__ = [
    "Attachment",
    "Change",
    "Completed",
    "Container",
    "ContainerFiles",
    "Details",
    "Device",
    "Health",
    "HealthCheck",
    "HealthProbe",
    "IdRange",
    "Limits",
    "LogLine",
    "LogOptions",
    "Mount",
    "Names",
    "Namespaces",
    "NetworkUsage",
    "Process",
    "ProcessInfo",
    "Pruned",
    "Security",
    "Usage",
    "Volume",
    "events",
    "prune",
    "ready",
    "run",
]
