"""Read Matbench's files: JSON in pandas' split layout, with a pymatgen Structure and a value in each row.

``{"index": [...], "columns": [...], "data": [[...], ...]}``, compressed or not, is read row by row. The number in
``index`` is the official row, which gives the id. The sha256 in the YAML shows whether the file is the official one.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tltool import quantities
from tltool.data.formats import decompress, json_stream, label_columns
from tltool.data.formats.structure_files import from_dict
from tltool.data.matbench_folds import TASKS, official_id
from tltool.data.record import Dropped, Record
from tltool.errors import DataError

_INDEX, _COLUMNS, _DATA = "index", "columns", "data"


def read(root: Path, /, *, file: str, task: str, column: str, quantity: str) -> Iterator[Record | Dropped]:
    """Yield a record per row of ``root/file`` (or of the file ``root``); ``column`` is ``quantity`` in its unit.

    Ids are the official ones, such as ``mb-phonons-0001``. Raise DataError if the file is damaged, has another layout,
    lacks a column, or has row numbers that ``task`` does not have, and ConfigError for an unknown quantity.
    """
    wanted = quantities.quantity(quantity)
    path = root / file if root.is_dir() else root
    for name, structure, value in _rows(path, task, column):
        if not isinstance(structure, dict):
            yield Dropped(name, "no structure")
            continue
        said = label_columns.labels({wanted.name: value})
        if lost := label_columns.unlabelled(name, said):
            yield lost
            continue
        try:
            yield label_columns.record(name, from_dict(structure, name), said, {})
        except DataError as error:
            yield Dropped(name, "partly occupied sites" if "occupied" in str(error) else "unusable structure")


def _rows(path: Path, task: str, column: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield id, structure and value of each row; rows before index and columns are kept until these are read."""
    head: dict[str, Any] = {}
    waiting: list[Any] = []
    names: list[str] | None = None
    places: tuple[int, int] = (0, 0)
    done = 0
    for key, value in _members(path):
        if key == _DATA:
            waiting.append(value)
        else:
            head[key] = value
        if names is None and {_INDEX, _COLUMNS} <= head.keys():
            names, places = _names(path, head[_INDEX], task), _places(path, head[_COLUMNS], column)
        if names is not None:
            for row in waiting:
                if not isinstance(row, list) or len(row) != len(head[_COLUMNS]) or done == len(names):
                    raise DataError(f"{path}: row {done} does not match index and columns; download the file again.")
                yield names[done], row[places[0]], row[places[1]]
                done += 1
            waiting.clear()
    if names is None or done < len(names):
        raise DataError(
            f"{path} does not have the layout of Matbench (index, columns and one row per index); check the file."
        )


def _members(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the members of the object in ``path``: rows of data one at a time, other lists completely."""
    lists: dict[str, list[Any]] = {}
    with decompress.opened(path) as packed, io.TextIOWrapper(packed, encoding="utf-8") as text:
        for key, _, value in json_stream.members(text, path):
            yield from [(name, lists.pop(name)) for name in list(lists) if name != key]
            if key == _DATA:
                yield key, value
            else:
                lists.setdefault(key, []).append(value)
    yield from lists.items()


def _places(path: Path, columns: Any, column: str) -> tuple[int, int]:
    for name in ("structure", column):
        if not isinstance(columns, list) or name not in columns:
            raise DataError(f"{path} has no column {name!r} (columns: {columns}); name the file of this task.")
        if columns.count(name) > 1:
            raise DataError(f"{path} has two columns {name!r}; rename one of them.")
    return columns.index("structure"), columns.index(column)


def _names(path: Path, index: Any, task: str) -> list[str]:
    """Return the ids of the rows with the numbers ``index``."""
    numbers: list[Any] = index if isinstance(index, list) else [None]
    if not all(type(number) is int and number >= 0 for number in numbers) or len(set(numbers)) < len(numbers):
        raise DataError(f"{path}: index must contain different row numbers from 0; download the file again.")
    last = max(numbers, default=0)
    rows = TASKS[task].rows if task in TASKS else last + 1
    if last >= rows:
        raise DataError(f"{path} has a row {last}, but {task} has only {rows:,} rows; name the file of this task.")
    return [official_id(task, number, rows) for number in numbers]
