"""Which files stay out of a copy: the patterns of ``.dockerignore`` and ``COPY --exclude``.

The rules are those of moby's patternmatcher: the last pattern that matches a path, or a directory above it,
decides; ``**`` crosses directories; ``!`` takes back in.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from pycontainer.build._glob import PatternError, Scanner, class_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pycontainer.layers import Entry

__all__ = ["IgnorePatterns", "read_patterns"]

_WILD: Final = re.compile(r"[]*?[\\]")

_BELOW: Final = r"(?:/.*)?"
"""What is in a directory shares its lot."""


def read_patterns(text: str) -> tuple[str, ...]:
    """The patterns of a ``.dockerignore``, cleaned; comments and empty lines are left out.

    Raises:
        PatternError: A line is no pattern; the error names its number.
    """
    patterns = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        pattern = "" if line.startswith("#") else line.strip()
        if not pattern:
            continue
        try:
            IgnorePatterns((pattern,))
        except PatternError as error:
            raise PatternError(f"line {number}: {error}") from error
        patterns.append(pattern)
    return tuple(patterns)


@frozen
class IgnorePatterns:
    """Patterns, in their order.

    Attributes:
        patterns: As they are written.

    Raises:
        PatternError: One is no pattern.
    """

    patterns: tuple[str, ...] = ()
    _rules: tuple[tuple[bool, re.Pattern[str]], ...] = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_rules", tuple(_rules(self.patterns)))

    @property
    def takes_back(self) -> bool:
        """Whether something in an ignored directory may be wanted again."""
        return any(not ignores for ignores, _ in self._rules)

    def ignores(self, path: str) -> bool:
        """Whether a path, relative to the root that the patterns are seen from, is left out."""
        for ignores, pattern in reversed(self._rules):
            if pattern.fullmatch(path):
                return ignores
        return False

    def prunes(self, path: str) -> bool:
        """Whether nothing in a directory can be wanted."""
        return not self.takes_back and self.ignores(path)

    def keep(self, entries: Iterable[tuple[str, Entry]]) -> Iterator[Entry]:
        """The entries that are not left out; of each the path that the patterns are held against.

        An ignored directory is there if something in it is. Entries come in the order of a walk.
        """
        above: list[tuple[str, Entry]] = []
        for path, entry in entries:
            while above and not path.startswith(above[-1][0] + "/"):
                above.pop()
            if self.ignores(path):
                above.append((path, entry))
                continue
            for _, directory in above:
                yield directory
            above.clear()
            yield entry


def _rules(patterns: Iterable[str]) -> Iterator[tuple[bool, re.Pattern[str]]]:
    """What each run of patterns of one kind says, as one expression."""
    run: list[str] = []
    kind = True
    for written in patterns:
        negated = written.startswith("!")
        text = written[1:].strip() if negated else written
        if negated and not text:
            raise PatternError("'!' stands alone")
        if negated == kind and run:
            yield kind, _joined(run)
            run = []
        kind = not negated
        cleaned = posixpath.normpath(text).lstrip("/")
        if cleaned and cleaned != ".":
            run.append(_expression(cleaned))
    if run:
        yield kind, _joined(run)


def _joined(expressions: Iterable[str]) -> re.Pattern[str]:
    return re.compile(f"(?:{'|'.join(expressions)}){_BELOW}", re.DOTALL)


def _expression(pattern: str) -> str:
    if pattern.startswith("**") and not _WILD.search(pattern, 2) and pattern[2:3] != "/":
        return ".*" + re.escape(pattern[2:])  # the end of any path: **.pyc is **/*.pyc
    scanner = Scanner(pattern)
    parts: list[str] = []
    while scanner.more:
        character = scanner.take()
        if character == "*" and scanner.skip("*"):
            scanner.skip("/")
            across = _across(last=not scanner.more)
            if parts[-1:] != [across]:
                parts.append(across)
        elif character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[":
            parts.append(class_of(scanner))
        elif character == "\\":
            parts.append(re.escape(scanner.take()))
        else:
            parts.append(re.escape(character))
    return "".join(parts)


def _across(*, last: bool) -> str:
    """What ``**`` stands for: all that follows, or any number of directories."""
    return ".*" if last else "(?:.*/)?"
