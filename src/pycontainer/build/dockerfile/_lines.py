"""From a Dockerfile's text to logical lines: directives, comments, continuations.

The rules are those of BuildKit's parser (frontend/dockerfile/parser).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from pycontainer.build.dockerfile._location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SPACE", "Directives", "Line", "LineReader"]

SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680"
    + "".join(map(chr, range(0x2000, 0x200B)))
    + ("\u2028\u2029\u202f\u205f\u3000")
)
"""What Unicode (and Go) calls white space; Python's `str.isspace` knows four more."""

_DIRECTIVE: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)[ \t\v\f\r]*=[ \t\v\f\r]*(.+?)[ \t\v\f\r]*")
_DIRECTIVES: Final = ("syntax", "escape", "check")
_ESCAPES: Final = ("\\", "`")


@frozen
class Directives:
    """What a Dockerfile's first comments set.

    Attributes:
        syntax: The frontend that the file asks for; this library reads it in any case.
        escape: The character that escapes others and continues lines.
        check: Options of the lint, as written.
    """

    syntax: str = ""
    escape: str = "\\"
    check: str = ""

    def __str__(self) -> str:
        written = {
            "syntax": self.syntax,
            "escape": "" if self.escape == "\\" else self.escape,
            "check": self.check,
        }
        return "".join(f"# {name}={value}\n" for name, value in written.items() if value)


@frozen
class Line:
    """An instruction's text, its continuations joined.

    Attributes:
        text: Without white space at its ends.
        location: Where it stands.
        gap: The number of an empty line between its continuations; 0 if there is none.
    """

    text: str
    location: Location
    gap: int = 0


@define
class LineReader:
    """Reads a Dockerfile line by line.

    Args:
        text: All of it.
        file: Its name, for errors.

    Attributes:
        directives: What its first comments set.
        comments: The comment right above an instruction, by the number of its first line.
    """

    text: str = field(repr=False)
    file: str = "Dockerfile"
    directives: Directives = field(factory=Directives, init=False)
    comments: dict[int, str] = field(factory=dict, init=False, repr=False)
    _raw: list[str] = field(init=False, repr=False)
    _at: int = field(default=0, init=False)
    _directives: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._raw = self.text.removeprefix("\ufeff").split("\n")
        if not self._raw[-1]:
            self._raw.pop()
        self._read_directives()

    def __iter__(self) -> Iterator[Line]:
        """The logical lines; heredocs in between are taken by `heredoc`."""
        while self._at < len(self._raw):
            start = self._at
            line = self._logical(start)
            if line.text:
                self._note_comment(start)
                yield line

    def _note_comment(self, start: int) -> None:
        """Remember the comment that stands right above a line, unless it is a directive."""
        above = self._raw[start - 1].strip(SPACE) if start > self._directives else ""
        if above.startswith("#"):
            self.comments[start + 1] = above.lstrip("#").strip(SPACE)

    def location(self, start: int, end: int | None = None) -> Location:
        """The lines from index `start` to before `end`, by default to where reading has got."""
        lines = self._raw[start : self._at if end is None else end]
        return Location(self.file, start + 1, tuple(line.rstrip("\r") for line in lines))

    def heredoc(self, line: Line, delimiter: str, *, chomp: bool) -> str:
        """Take the lines up to a heredoc's end, as they are.

        Raises:
            DockerfileError: The end is missing.
        """
        content: list[str] = []
        while self._at < len(self._raw):
            raw = self._raw[self._at]
            self._at += 1
            end = raw.rstrip("\r")
            if (end.lstrip("\t") if chomp else end) == delimiter:
                return "".join(f"{each}\n" for each in content)
            content.append(raw)
        raise line.location.error(
            f"the heredoc {delimiter!r} has no end",
            near="<<",
            remedy=f"write {delimiter} alone on the line after its text",
        )

    def extended(self, line: Line) -> Location:
        """The location of a line and the heredocs taken after it."""
        return self.location(line.location.first - 1)

    # --- lines -------------------------------------------------------------------------------

    def _logical(self, start: int) -> Line:
        gap = 0
        first = self._raw[start].rstrip("\r").lstrip(SPACE)
        self._at = start + 1
        if first.startswith("#"):
            return Line("", self.location(start))
        text, continues = self._continuation(first)
        while continues and self._at < len(self._raw):
            raw = self._raw[self._at].rstrip("\r")
            self._at += 1
            bare = raw.lstrip(SPACE)
            if bare.startswith("#"):
                continue
            if not bare:
                gap = gap or self._at
                continue
            piece, continues = self._continuation(raw)
            text += piece
        return Line(self._finished(text), self.location(start), gap)

    def _continuation(self, line: str) -> tuple[str, bool]:
        """A line without the escape at its end, and whether there was one that is not escaped."""
        escape = self.directives.escape
        bare = line.rstrip(" \t")
        if not bare.endswith(escape) or bare.endswith(escape * 2):
            return line, False
        return bare[:-1], True

    def _finished(self, text: str) -> str:
        """Without white space at its ends, nor an escape that has nothing to escape."""
        text = text.strip(SPACE)
        while text.endswith(self.directives.escape) and not text.endswith(
            self.directives.escape * 2
        ):
            text = text[:-1].rstrip(SPACE)
        return text

    # --- directives --------------------------------------------------------------------------

    def _read_directives(self) -> None:
        """Directives come first: anything else, also an empty line, ends them."""
        found: dict[str, str] = {}
        for index, raw in enumerate(self._raw):
            line = raw.rstrip("\r").lstrip(SPACE)
            match = _DIRECTIVE.fullmatch(line[1:].lstrip(SPACE)) if line[:1] == "#" else None
            if match is None or match[1].lower() not in _DIRECTIVES:
                break
            name, value = match[1].lower(), match[2]
            location = self.location(index, index + 1)
            if name in found:
                raise location.error(f"the directive {name} is there twice", near=match[1])
            if name == "escape" and value not in _ESCAPES:
                raise location.error(
                    f"{value!r} cannot be the escape character",
                    near=value,
                    remedy="choose a backslash or a backtick",
                )
            found[name] = value
            self._directives = index + 1
        self.directives = Directives(**found)
