"""Read a CSV or TSV file as rows of {column: text}; raise an error if a row does not match the columns.

Text is UTF-8, or UTF-16 if the file begins with a byte order mark. Cells are separated by commas, semicolons or tabs:
by the separator with which the first row has all wanted columns. Every row has as many cells as the first. Rows come
one by one.
"""

import codecs
import csv
import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tltool.data.formats import decompress
from tltool.data.formats.label_columns import is_numeric
from tltool.errors import DataError, nearest

_SEPARATORS = (",", ";", "\t")
_LONGEST = 1 << 30  # characters of a cell: a structure as text is longer than the csv module's 131,072
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def lines(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line and the cells of each row, whatever it is; raise DataError for a file that is no text."""
    csv.field_size_limit(max(_LONGEST, csv.field_size_limit()))
    begin = 1
    with plain_errors(path), text(path, newline="") as file:
        for end, cells in _records(file, separator, path):
            if any("\0" in cell for cell in cells):
                raise DataError(f"{path}: is not text in UTF-8; save it in the encoding UTF-8.")
            yield begin, cells
            begin = end + 1


def read(
    path: Path, wanted: Collection[str], /, bare: Sequence[str] = (), header_line: int | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the place of each row (``line 3``) and the row itself.

    ``wanted`` are the columns that the caller needs; the column may also be the part of the name before a dot. ``bare``
    are the names of the columns of a table without a header: its first row has that number of cells, the last cell is a
    number, and no cell is a wanted name. Raise DataError for a file that cannot be read, is empty, lacks a wanted
    column or has it twice, and for a row with more or fewer cells than the first. ``header_line`` is the line of the
    header, if a title stands above it.
    """
    csv.field_size_limit(max(_LONGEST, csv.field_size_limit()))
    with plain_errors(path):
        separator, header, has_header = _layout(path, wanted, bare, header_line)
        n, begin = len(header), 1
        with text(path, newline="") as file:
            for end, cells in _records(file, separator, path):
                where, begin = f"line {begin}", end + 1
                if not any(cell.strip() for cell in cells) or (header_line is not None and end < header_line):
                    continue
                if has_header:
                    has_header = False
                    continue
                if len(cells) != n and (len(cells) < n or any(cell.strip() for cell in cells[n:])):
                    raise DataError(
                        f"{path}, {where} (it begins with {cells[0][:40]!r}): has {len(cells)} cells, but the first "
                        f"row has {n}; give every row one cell per column, and put a cell that contains a "
                        f"{_name(separator)} or a line break into double quotes."
                    )
                yield where, dict(zip(header, cells[:n], strict=True))


def require(wanted: Collection[str], header: Sequence[str], path: Path) -> None:
    """Raise DataError unless each wanted column, or the part of its name before a dot, is once in ``header``."""
    for column in wanted:
        if column not in header and column.split(".")[0] not in header:
            raise DataError(f"{path}: has no column {column!r}.{near(column, header)}")
        if header.count(column) > 1:
            raise DataError(f"{path}: has two columns {column!r}; rename one of them.")


def near(column: str, names: Sequence[object]) -> str:
    """Return ``errors.nearest`` of at most 60 ``names``, each shortened to 40 characters."""
    return nearest(column, [str(name)[:40] for name in names[:60]])


def text(path: Path, newline: str | None = None) -> TextIO:
    """Open the decompressed text of ``path`` without its byte order mark; use it in a ``with``."""
    with decompress.opened(path) as file:
        head = file.read(4)
    encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")
    return io.TextIOWrapper(decompress.opened(path), encoding=encoding, newline=newline)


@contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """Replace errors of reading text by a DataError that names ``path``."""
    try:
        yield
    except UnicodeError as error:
        before = ""
        if isinstance(error, UnicodeDecodeError):
            words = bytes(error.object[max(0, error.start - 20) : error.start]).decode("utf-8", "ignore").split("\n")
            before = f" after {words[-1]!r}" if words[-1].strip() else ""
        raise DataError(
            f"{path}: is not UTF-8 text{before}, or is damaged; save it with the encoding UTF-8."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or 'it is damaged'}); repair it or download it again."
        ) from error


def _layout(
    path: Path, wanted: Collection[str], bare: Sequence[str], header_line: int | None
) -> tuple[str, list[str], bool]:
    """Return the separator, the names of the columns, and whether the first row is a header."""
    order = ("\t", ",", ";") if ".tsv" in path.name.lower() else _SEPARATORS
    found: dict[str, list[str]] = {}
    wrong: list[DataError] = []
    for separator in order:
        try:
            found[separator] = _first(path, separator, header_line or 0)
        except DataError as error:
            wrong.append(error)
    if not found:
        raise wrong[0]
    if not any(found.values()):
        raise DataError(f"{path}: is empty; give a table with a header (an id and a label) and a row for each crystal.")
    if any("\0" in name for names in found.values() for name in names):
        raise DataError(f"{path}: is not UTF-8 text; save it with the encoding UTF-8.")
    for separator, names in found.items():
        if all(column in names or column.split(".")[0] in names for column in wanted):
            require(wanted, names, path)
            return separator, names, True
    for separator, cells in found.items():
        if bare and len(cells) == len(bare) and is_numeric(cells[-1]) and not set(wanted) & set(cells):
            return separator, list(bare), False
    most = max(found, key=lambda separator: len(found[separator]))
    require(wanted, found[most], path)
    raise AssertionError("a column is missing")


def _first(path: Path, separator: str, line: int) -> list[str]:
    """Return the cells of the first row, without empty ones at its end."""
    with text(path, newline="") as file:
        rows = (cells for end, cells in _records(file, separator, path) if end >= line)
        cells = next((cells for cells in rows if any(map(str.strip, cells))), [])
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    return names


def _records(file: TextIO, separator: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the last line number and the cells of each record; raise DataError if quotes do not match."""
    lines = csv.reader(_uncommented(file), delimiter=separator, strict=True, skipinitialspace=True)
    try:
        for cells in lines:
            yield lines.line_num, cells
    except csv.Error as error:
        raise DataError(
            f"{path}, line {lines.line_num}: a double quote is missing or misplaced; a cell of a column that begins "
            "with a double quote must end with one, directly before the separator."
        ) from error


def _uncommented(file: TextIO) -> Iterator[str]:
    """Yield the lines; a comment (``# ``) or blank line before the header becomes an empty line."""
    before = True
    for line in file:
        before = before and (line.startswith("# ") or not line.strip())
        yield "\n" if before else line


def _name(separator: str) -> str:
    return {",": "comma", ";": "semicolon", "\t": "tab"}[separator]
