"""A folder of structure files with a CSV of labels, as cgcnn and alignn have it (``id_prop.csv``)."""

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from tltool.data import structure_files
from tltool.data.record import Dropped, Record, reason
from tltool.errors import ConfigError, DataError
from tltool.quantities import quantity


def read(
    root: Path, /, *, table: str, id_column: str, labels: list[str], columns: list[str]
) -> Iterator[Record | Dropped]:
    """Yield a record per structure in ``root`` that has a row, and in words what is left out.

    ``table`` is a CSV in ``root`` whose ``id_column`` holds the file names, with or without suffix; ``columns`` are
    those that hold the quantities ``labels``, one by one, each in its unit. A CSV of two columns may have no header if
    one quantity is asked for. Raises DataError for a CSV that is missing, lacks a column or names an id twice, and for
    two files of one id; ConfigError for an unknown quantity.
    """
    if not labels or len(labels) != len(columns):
        raise ConfigError(
            f"data.adapter.labels={labels} and data.adapter.columns={columns} must name one column for each quantity."
        )
    names = {quantity(name).name: column for name, column in zip(labels, columns, strict=True)}
    rows = _rows(root / table, id_column, names)
    origin: dict[str, Path] = {}
    for path in structure_files.files(root):
        for name, crystal in structure_files.attempts(path):
            if name in origin:
                raise DataError(f"{path} and {origin[name]} have the same id {name!r}; rename or remove one.")
            origin[name] = path
            if isinstance(crystal, DataError):
                yield Dropped(name, reason(crystal))
            elif name not in rows:
                yield Dropped(name, "no row in the table")
            elif not rows[name]:
                yield Dropped(name, "no label")
            else:
                yield Record(name, crystal, rows[name])
    for name in rows:
        if name not in origin:
            yield Dropped(name, "no structure file")


def _rows(path: Path, id_column: str, columns: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Return the finite labels of each id."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [[word.strip() for word in line] for line in csv.reader(file) if any(word.strip() for word in line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        cause = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read as a CSV table ({cause}); name the table of labels.") from error
    if not lines:
        raise DataError(f"{path}: is empty; it needs an id and a label per line.")
    header = lines[0]
    wanted = {id_column, *columns.values()}
    if not wanted & set(header) and len(columns) == 1 and len(header) == 2 and _number(header[1]) is not None:
        header = [id_column, *columns.values()]
    else:
        lines = lines[1:]
    missing = sorted(wanted - set(header))
    if missing:
        raise DataError(f"{path}: has no column {' or '.join(map(repr, missing))}; it has {', '.join(header)}.")
    rows: dict[str, dict[str, float]] = {}
    for line in lines:
        cells = dict(zip(header, line, strict=False))
        name = structure_files.stem(cells[id_column])
        if name in rows:
            raise DataError(f"{path}: the id {name!r} occurs twice; keep one row of it.")
        values = {label: _number(cells.get(column, "")) for label, column in columns.items()}
        rows[name] = {label: value for label, value in values.items() if value is not None and math.isfinite(value)}
    return rows


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
