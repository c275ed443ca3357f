"""A log in several files, so that it takes no more than so much of the disk.

The first is ``log``, the next ones ``log.1``, ``log.2`` and so on; numbers only grow, and the oldest
files go. A file that is full ends with a mark, by which who follows it hears of the next one.
"""

from __future__ import annotations

import os

__all__ = ["MARK", "Rotation", "name_of", "numbers"]

MARK = bytes(16)
"""A header of neither stream."""

_NAME = "log"
_LEAST = 64
_FLAGS = os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC


class Rotation:
    """The files of a log in the current directory."""

    def __init__(self, most: int, files: int) -> None:
        """Limit the log.

        Args:
            most: Bytes of a file.
            files: How many files there are at most.
        """
        self._most = most
        self.most_of_a_frame = max(most - len(MARK), _LEAST)
        self._files = files
        self._number = max(numbers("."), default=0)

    def open(self) -> int:
        """The newest file, for appending."""
        return os.open(name_of(self._number), _FLAGS, 0o600)

    def room(self, fd: int, size: int) -> int:
        """The file to which a frame of a size goes: the given one, or a new one in its place."""
        end = os.fstat(fd).st_size
        if not end or end + size <= self._most:
            return fd
        try:
            new = os.open(name_of(self._number + 1), _FLAGS, 0o600)
        except OSError:  # a full disk: the log grows where it is
            return fd
        self._number += 1
        try:
            os.write(fd, MARK)
        except OSError:  # readers look for the next file also by themselves, if later
            pass
        os.close(fd)
        for number in numbers("."):
            if number <= self._number - self._files:
                os.unlink(name_of(number))
        return new


def name_of(number: int) -> str:
    """The name of a file of the log."""
    return f"{_NAME}.{number}" if number else _NAME


def numbers(directory: str) -> list[int]:
    """The numbers of the files that are there."""
    found = []
    for name in os.listdir(directory):
        if name == _NAME:
            found.append(0)
        elif name.startswith(f"{_NAME}.") and name[len(_NAME) + 1 :].isdecimal():
            found.append(int(name[len(_NAME) + 1 :]))
    return sorted(found)
