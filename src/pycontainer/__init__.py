"""Build, ship and run OCI containers inside your Python program.

The names below are loaded when they are first used, so that ``import pycontainer`` costs next to
nothing and pulls in no optional dependency (PEP 562).
"""

# `typing` is not imported: the container launcher loads this package too and counts each millisecond.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.errors import Error

__all__ = [
    "Error",
]

__version__ = "0.1.0"

_HOMES = {
    "Error": "errors",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
