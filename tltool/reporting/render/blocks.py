"""The parts of a report as plain values; each renderer writes them in its own format."""

from typing import NamedTuple


class Heading(NamedTuple):
    """A heading: level 1 is the title, level 2 begins a section."""

    level: int
    text: str


class Paragraph(NamedTuple):
    """Plain text."""

    text: str


class Bullets(NamedTuple):
    """A list of plain text."""

    items: list[str]


class Verbatim(NamedTuple):
    """Lines to be copied as they are."""

    text: str


class Grid(NamedTuple):
    """A table: headers, ``align`` (l or r for each column), rows of text, and the indices of the best rows."""

    header: list[str]
    align: str
    rows: list[list[str]]
    best: frozenset[int] = frozenset()


class Picture(NamedTuple):
    """A picture as PNG and as SVG, and a name for its file.

    ``width`` in the page is third, half (side by side) or full.
    """

    name: str
    png: bytes
    svg: str
    caption: str
    width: str


Block = Heading | Paragraph | Bullets | Verbatim | Grid | Picture
