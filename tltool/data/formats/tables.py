"""Read a table file as rows of {column: value}: CSV, Parquet, JSON lines, a JSON list, and pandas' split JSON.

The name gives the type: ``.csv``, ``.tsv``, ``.parquet``, ``.jsonl``, ``.ndjson``, ``.json``, each also with ``.gz``,
``.xz`` or ``.bz2``. Rows come one by one. Memory does not grow with the file, except for a compressed Parquet file, or
JSON whose columns are named after its rows. This module does not interpret the rows.
"""

import io
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from tltool.data.formats import csv_rows, decompress, json_stream
from tltool.errors import DataError

Row = Mapping[str, Any]
_Rows = Iterator[tuple[str, Row]]

KINDS = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json")
_PACKED = (".gz", ".xz", ".bz2")
_MISSING = object()
_HOW = "write the table as a list of objects (pandas: orient='records') or as JSON lines"


def rows(path: Path, wanted: Collection[str], /, header_line: int | None = None) -> _Rows:
    """Yield the place of each row (``line 3``, or ``row 2`` counted from 1) and the row itself.

    ``wanted`` are the columns that the caller needs; a dotted name is a path into nested values. ``header_line`` is
    that of a CSV with a title above its header. Raise DataError for a file that cannot be read, and for a wanted column
    that no row has.
    """
    missing, first = set(wanted), None
    with csv_rows.plain_errors(path):
        for where, row in _read(path, wanted, header_line):
            first = row if first is None else first
            if missing:
                missing -= {column for column in missing if _found(row, column) is not _MISSING}
            yield where, row
    if first is None:
        raise DataError(f"{path}: has no row; give a table with a structure in each row.")
    # A row of JSON may lack a column, so a column is missing only if no row has it.
    inner = (f"{key}.{word}" for key, part in first.items() if isinstance(part, Mapping) for word in part)
    for column in sorted(missing):
        raise DataError(f"{path}: has no column {column!r}.{csv_rows.near(column, [*first, *inner])}")


def _read(path: Path, wanted: Collection[str], header_line: int | None) -> _Rows:
    suffix = kind(path)
    if suffix == ".parquet":
        return _parquet(path, wanted)
    if suffix == ".json":
        return _json(path)
    return (
        _json_lines(path) if suffix in (".jsonl", ".ndjson") else csv_rows.read(path, wanted, header_line=header_line)
    )


def kind(path: Path) -> str:
    """Return the type of the file, one of ``KINDS``, from its name; raise DataError for any other name."""
    if not is_table(path):
        raise DataError(f"{path} is not a table of a known type; use {' '.join(KINDS)}, also with .gz .xz .bz2.")
    return _suffix(path)


def is_table(path: Path) -> bool:
    """Return whether the name of ``path`` is that of a table."""
    return _suffix(path) in KINDS


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return Path(next((name.removesuffix(packed) for packed in _PACKED if name.endswith(packed)), name)).suffix


def value(row: Row, column: str) -> Any:
    """Return the value in ``column`` of ``row``, or None; ``a.b`` is b in a, unless a column has this name."""
    found = _found(row, column)
    return None if found is _MISSING else found


def cells(row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
    """Return {name: value} for ``columns`` {name: column}."""
    return {name: value(row, column) for name, column in columns.items()}


def _found(row: Row, column: str) -> Any:
    found = row.get(column, _MISSING)
    if found is _MISSING and "." in column:
        found = row
        for word in column.split("."):
            found = found.get(word, _MISSING) if isinstance(found, Mapping) else _MISSING
    return found


def _parquet(path: Path, wanted: Collection[str]) -> _Rows:
    import pyarrow
    from pyarrow import parquet

    with decompress.opened(path) as file:
        try:
            plain = path.suffix.lower() not in _PACKED
            table: Any = parquet.ParquetFile(path if plain else io.BytesIO(file.read()))
            names = table.schema_arrow.names
            csv_rows.require(wanted, names, path)
            used = [name for name in names if name in wanted or any(word.startswith(f"{name}.") for word in wanted)]
            before = 0
            for batch in table.iter_batches(batch_size=1024, columns=used):
                for n, row in enumerate(batch.to_pylist(), start=before + 1):
                    yield f"row {n}", row
                before += len(batch)
        except pyarrow.ArrowException as error:
            raise DataError(f"{path} cannot be read as Parquet; repair it or download it again.") from error


def _json_lines(path: Path) -> _Rows:
    with csv_rows.text(path) as file:
        for n, line in enumerate(file, start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    place = f" (error at character {error.pos + 1})" if isinstance(error, json.JSONDecodeError) else ""
                    raise DataError(f"{path}, line {n}: is not JSON{place}; repair it or download it again.") from error
                yield f"line {n}", _object(row, path, f"line {n}")


def _json(path: Path) -> _Rows:
    with csv_rows.text(path) as file:
        if _is_lines(file):
            yield from _json_lines(path)
            return
    with csv_rows.text(path) as file:
        yield from _listed(path, json_stream.members(file, path))


def _listed(path: Path, members: Iterator[tuple[str, bool, Any]]) -> _Rows:
    """Yield the elements of the first list of objects, or the rows of ``{columns, index, data}``."""
    head: dict[str, list[Any]] = {"columns": [], "index": []}
    early: list[Any] = []  # rows of values that came before the names of their columns
    used, n = None, 0
    for key, listed, item in members:
        if not listed:
            continue
        if key in head:
            head[key].append(item)
        elif key == "data" and isinstance(item, list):
            if not head["columns"]:
                early.append(item)
                continue
            used, n = key, n + 1
            yield f"row {n}", _split(item, head, n, path)
        elif used in (None, key) and (key == "" or isinstance(item, dict)):
            used, n = key, n + 1
            yield f"row {n}", _object(item, path, f"row {n}")
    for item in early:
        used, n = "data", n + 1
        yield f"row {n}", _split(item, head, n, path)
    if used is None:
        raise DataError(f"{path}: contains no list of rows; {_HOW}.")


def _split(item: list[Any], head: Mapping[str, list[Any]], n: int, path: Path) -> Row:
    for column in head["columns"] if n == 1 else ():
        if head["columns"].count(column) > 1:
            raise DataError(f"{path}: has two columns {column!r}; rename one of them.")
    if len(item) != len(head["columns"]):
        raise DataError(
            f"{path}, row {n}: has {len(item)} values for {len(head['columns'])} columns; write the file again."
        )
    index = {"index": head["index"][n - 1]} if n <= len(head["index"]) else {}
    return index | dict(zip(head["columns"], item, strict=True))


def _is_lines(file: TextIO) -> bool:
    """Return whether the first line is a complete object and more text follows: JSON lines in a file named .json."""
    try:
        return isinstance(json.loads(file.readline(json_stream.PIECE)), dict) and file.readline(3).strip() != ""
    except (ValueError, RecursionError):
        return False


def _object(row: Any, path: Path, where: str) -> Row:
    if not isinstance(row, dict):
        raise DataError(f"{path}, {where}: is not an object with named columns; {_HOW}.")
    return row
