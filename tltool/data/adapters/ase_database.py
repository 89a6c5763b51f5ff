"""Read an ASE database (SQLite ``.db`` or JSON); labels are key-value pairs, calculator results, or in ``data``."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tltool.data.formats import label_columns
from tltool.data.formats.tables import Row, cells, value
from tltool.data.record import Crystal, Dropped, Record, checked, reason
from tltool.errors import DataError, nearest

_SUFFIXES = (".db", ".json")
_RESULTS = ("id", "unique_id", "energy", "free_energy", "magmom", "formula", "natoms", "volume")


def read(
    root: Path,
    /,
    *,
    selection: str,
    id_column: str,
    labels: list[str],
    columns: list[str],
    per_cell: list[str],
    largest: dict[str, float],
    tags: dict[str, str],
) -> Iterator[Record | Dropped]:
    """Yield a record per row of the database ``root`` (a file, or a folder with one), and what is left out.

    ``selection`` is a query in ASE's words, such as ``natoms<20,source=mp``; empty takes all. A column is a key of the
    key-value pairs, a result of the calculator (``energy``, per cell), ``id``, ``unique_id``, or a dotted path that
    begins in ``data``. The keys are those of the adapter of tables. Raises DataError for a file that cannot be read, a
    column that no row has and an id that occurs twice.
    """
    wanted = label_columns.columns(labels, columns, per_cell, largest, tags)
    path = _file(root)
    missing = {id_column, *label_columns.names(wanted)}
    known: set[str] = set()
    seen: dict[str, int] = {}
    for entry in _entries(path, selection):
        row = _row(entry)
        missing -= {column for column in missing if value(row, column) is not None}
        known = known or set(row)
        name = label_columns.text(value(row, id_column))
        if name in seen:
            raise DataError(
                f"{path}: rows {seen[name]} and {entry.id} have the same id {name!r}; rename or remove one."
            )
        if not name:
            yield Dropped(f"row {entry.id}", "no id")
            continue
        seen[name] = entry.id
        said, at = label_columns.labels(cells(row, wanted.labels)), f"row {entry.id}"
        try:
            crystal = _crystal(entry)
        except DataError as error:
            yield Dropped(name, reason(error), at)
        else:
            yield label_columns.converted(name, crystal, said, cells(row, wanted.tags), wanted, at)
    if not known:
        raise DataError(f"{path}: no row matches selection={selection!r}; correct it, or leave it empty to take all.")
    for column in sorted(missing):
        raise DataError(f"{path}: no row has the key {column!r}.{nearest(column, known)}")


def _file(root: Path) -> Path:
    """Return ``root``, or the one database in the folder ``root``."""
    found = [root] if root.is_file() else sorted(path for path in root.iterdir() if path.suffix in _SUFFIXES)
    if len(found) != 1:
        some = ", ".join(path.name for path in found[:5]) or "none"
        raise DataError(f"{root} is a folder with {len(found)} databases ({some}); pass data.root=FILE.")
    if found[0].suffix not in _SUFFIXES:
        raise DataError(f"{found[0]} is not known as an ASE database; its name must end with .db or .json.")
    return found[0]


def _entries(path: Path, selection: str) -> Iterator[Any]:
    from ase import db
    from ase.db import core

    connect: Callable[..., Any] = db.connect
    parse: Callable[..., Any] = core.parse_selection
    try:
        parse(selection or None)
    except Exception as error:  # whatever ase makes of a wrong query
        raise DataError(
            f"{path}: selection={selection!r} is no query in ASE's words; correct it, as in natoms<20,source=mp."
        ) from error
    try:
        # Reading needs no lock file, which could not be made in a folder that is not ours.
        yield from connect(str(path), use_lock_file=False).select(selection or None)
    except Exception as error:  # whatever sqlite, json and ase make of a damaged file
        raise DataError(
            f"{path} cannot be read as an ASE database with selection={selection!r}; repair the file, write it again "
            "with ase.db, or correct the selection."
        ) from error


def _row(entry: Any) -> Row:
    results: dict[str, Any] = {key: entry.get(key) for key in _RESULTS}
    data: dict[str, Any] = dict(entry.data)
    pairs: dict[str, Any] = entry.key_value_pairs
    # The pairs are what people search by, so they win over a result and over data of the same name.
    return {k: v for k, v in results.items() if v is not None} | data | {"data": data} | pairs


def _crystal(entry: Any) -> Crystal:
    where, lattice = f"row {entry.id}", np.array(entry.cell, dtype=np.float64)
    if not entry.pbc.all():
        raise DataError(f"{where}: is not periodic in three directions; give a crystal with its cell.")
    if abs(np.linalg.det(lattice)) < 1e-3:
        raise DataError(f"{where}: the cell has no volume; check the lattice vectors.")
    return checked(Crystal(lattice, np.linalg.solve(lattice.T, entry.positions.T).T, entry.numbers), where)
