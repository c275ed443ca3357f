"""Ports as images announce them."""

from __future__ import annotations

__all__ = ["each_port"]


def each_port(port: int | str) -> list[str]:
    """A port, or each of a range, with its protocol.

    Raises:
        ValueError: It is none.
    """
    number, _, protocol = str(port).partition("/")
    first, _, last = number.partition("-")
    low, high = (int(text) if text.isdecimal() else 0 for text in (first, last or first))
    protocol = protocol.lower() or "tcp"
    if not 1 <= low <= high <= 65535 or protocol not in ("tcp", "udp", "sctp"):
        raise ValueError(f"not a port: {port!r}; write 8080, '8080/udp' or '8000-8010'")
    return [f"{each}/{protocol}" for each in range(low, high + 1)]
