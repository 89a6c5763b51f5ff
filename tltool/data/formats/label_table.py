"""Find out how people laid out a table of labels: separator, title, header, and what each column holds.

Nothing is guessed where two readings are possible: a cell such as ``1,234`` may be a decimal or a thousand, and then
the table is refused with what to do. Sizes: r rows.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tltool.data.formats import csv_rows
from tltool.data.formats.label_columns import is_missing, is_number, is_numeric
from tltool.errors import DataError
from tltool.quantities import MOST_CLASSES, class_names_of

_TITLES = 3  # lines with a single cell that may stand above the header
_SNIFFED = 200
_UNIT = re.compile(r"\s*(?P<name>[^(\[]*?)\s*(?:\((?P<round>.+)\)|\[(?P<square>.+)\])\s*")
_COMMA = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?")
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+")
_WITH_UNIT = re.compile(r"[-+]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][-+]?\d+)?\s*(?P<unit>[^\W\d_%°][^,;]*|[%°].*)")
_MOST_CLASSES = 20  # of a column of words that is not said to be a class


class Layout(NamedTuple):
    """How a table is laid out: its ``separator``, the ``header`` in ``line``, the ``title`` above it, and its rows.

    A table without a header has an empty ``header``. ``rows`` are (r) lists of as many cells as the header has.
    """

    separator: str
    header: list[str]
    line: int
    title: str
    rows: list[tuple[int, list[str]]]

    def column(self, number: int) -> list[str]:
        """Return the cells (r) of a column."""
        return [cells[number].strip() for _, cells in self.rows]


class Column(NamedTuple):
    """What a column holds: ``kind`` is number, comma (decimal comma), unit, words, text or empty.

    Words are few, and each of them stands in two rows on average; text is all else that is no number.

    ``example`` is the first cell that shows it, in ``line``; ``classes`` are the names of its classes if it is one,
    empty where the cells say too many different things.
    """

    kind: str
    example: str = ""
    line: int = 0
    classes: tuple[str, ...] = ()


def layout(path: Path, matches: Callable[[str], bool], most: int | None = None) -> Layout:
    """Return how the CSV at ``path`` is laid out; ``matches`` says if a cell is the id of a known structure.
    Only the first ``most`` rows are read if that is not None.

    Raise DataError for a file that cannot be read, is empty, or has no separator that gives all rows as many cells.
    """
    found: list[tuple[int, Layout]] = []
    wrong: DataError | None = None
    for separator in ("\t", ";", ","):
        try:
            if one := _laid_out(path, separator, _SNIFFED):
                hits = sum(any(map(matches, cells)) for _, cells in one.rows)
                found.append((hits, one))
        except DataError as error:
            wrong = error
    if not found:
        if wrong:
            raise wrong
        raise DataError(
            f"{path}: is no table with at least two columns and rows of one length; give it a header with an id and a "
            "label, such as id,kappa (W/mK), and a row for each crystal."
        )
    best = max(hits for hits, _ in found)
    chosen = next(one for hits, one in found if hits == best)
    whole = _laid_out(path, chosen.separator, most)
    if whole is None:
        raise DataError(
            f"{path}: not every row has {len(chosen.rows[0][1])} cells, as the first ones have; give each row a cell "
            "for each column."
        )
    return whole


def _laid_out(path: Path, separator: str, most: int | None) -> Layout | None:
    """Return the layout with this separator, of the first ``most`` rows; None if the rows do not fit it."""
    lines = _lines(path, separator, most)
    titles: list[tuple[int, list[str]]] = []
    while len(lines) > 1 and len(titles) < _TITLES and _filled(lines[0][1]) == 1 and _filled(lines[1][1]) <= 1:
        titles.append(lines.pop(0))
    if len(lines) > 1 and _filled(lines[0][1]) == 1 and _filled(lines[1][1]) > 1:
        titles.append(lines.pop(0))
    if not lines or _filled(lines[0][1]) < 2:
        return None
    title = " ".join(next(cell.strip() for cell in cells if cell.strip()) for _, cells in titles)
    line, header = lines[0][0], [cell.strip() for cell in lines[0][1]]
    while header and not header[-1] and all(len(cells) < len(header) or not cells[-1].strip() for _, cells in lines):
        header.pop()
    width = len(header)
    if any(len(cells) < width or any(cell.strip() for cell in cells[width:]) for _, cells in lines):
        return None
    bare = any(is_number(cell) for cell in header) or all(is_numeric(cell) for cell in header[1:])
    rows = [(at, cells[:width]) for at, cells in lines]
    return Layout(separator, [] if bare else header, line, title, rows if bare else rows[1:])


def _lines(path: Path, separator: str, most: int | None) -> list[tuple[int, list[str]]]:
    found = []
    for line, cells in csv_rows.lines(path, separator):
        if any(cell.strip() for cell in cells):
            found.append((line, cells))
        if most is not None and len(found) > most:
            break
    return found


def _filled(cells: Sequence[str]) -> int:
    return sum(bool(cell.strip()) for cell in cells)


def heading(header: str) -> tuple[str, str]:
    """Return the name and the unit that a header states: ``kappa (W/mK)`` and ``kappa [W/mK]`` are in W/mK."""
    found = _UNIT.fullmatch(header)
    if not found or not found["name"]:
        return header.strip(), ""
    unit = unicodedata.normalize("NFC", (found["round"] or found["square"]).strip())
    return found["name"], unit


def judged(cells: Iterable[tuple[int, str]], where: str) -> Column:
    """Return what a column of ``cells`` (line, text) holds; raise DataError, naming ``where``, for two readings."""
    there = [(line, cell) for line, cell in cells if not is_missing(cell)]
    if not there:
        return Column("empty")
    words = {cell for _, cell in there}
    classes = class_names_of(words) if len(words) <= 2 * MOST_CLASSES else ()
    return _kind(there, where)._replace(classes=classes if len(classes) <= MOST_CLASSES else ())


def _kind(there: list[tuple[int, str]], where: str) -> Column:
    half = len(there) / 2
    commas = [(line, cell) for line, cell in there if _COMMA.fullmatch(cell) or _THOUSANDS.fullmatch(cell)]
    numbers = [(line, cell) for line, cell in there if is_number(cell)]
    if commas and len(commas) + len(numbers) >= half:
        return _with_commas(commas, numbers, where)
    if len(numbers) >= half:
        return Column("number", numbers[0][1], numbers[0][0])
    units = [(line, cell) for line, cell in there if not is_number(cell) and _WITH_UNIT.fullmatch(cell)]
    if len(units) + len(numbers) >= half:
        return Column("unit", units[0][1], units[0][0])
    (line, first), words = there[0], {cell for _, cell in there}
    few = 2 <= len(words) <= _MOST_CLASSES and len(there) >= 2 * len(words)
    return Column("words" if few else "text", first, line)


def _with_commas(commas: list[tuple[int, str]], numbers: list[tuple[int, str]], where: str) -> Column:
    """Return a column of decimal commas; raise DataError if a point or a thousand may be meant."""
    line, cell = commas[0]
    if pointed := next(((n, word) for n, word in numbers if "." in word), None):
        raise DataError(
            f"{where} has {cell!r} in line {line} and {pointed[1]!r} in line {pointed[0]}: a comma and a point; write "
            "the point as the decimal separator, and nothing between thousands."
        )
    plain = next(((n, word) for n, word in commas if _COMMA.fullmatch(word) and not _THOUSANDS.fullmatch(word)), None)
    grouped = next(((n, word) for n, word in commas if not _COMMA.fullmatch(word)), None)
    if plain is None or grouped is not None:
        line, cell = grouped or commas[0]
        raise DataError(
            f"{where} has {cell!r} in line {line}, which may be {cell.replace(',', '.', 1)} or "
            f"{cell.replace(',', '')}; write the point as the decimal separator, and nothing between thousands."
        )
    return Column("comma", plain[1], plain[0])


def unit_of(cell: str) -> str:
    """Return the unit behind the number in a cell such as ``1.5 GPa``."""
    found = _WITH_UNIT.fullmatch(cell)
    return found["unit"].strip() if found else ""


def columns(found: Layout, path: Path, numbers: Iterable[int]) -> Iterator[tuple[int, Column]]:
    """Yield what each of the columns with these ``numbers`` holds."""
    for k in numbers:
        name = found.header[k] if found.header else f"number {k + 1}"
        yield k, judged([(line, cells[k].strip()) for line, cells in found.rows], f"{path}: column {name!r}")
