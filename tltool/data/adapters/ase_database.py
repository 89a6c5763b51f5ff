"""Read an ASE database (SQLite ``.db`` or JSON); labels are key-value pairs, calculator results, or in ``data``."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tltool.data.formats import label_choice, label_columns, label_sample
from tltool.data.formats.label_choice import Wish
from tltool.data.formats.tables import Row, cells, value
from tltool.data.own_labels import Settled
from tltool.data.record import Crystal, Dropped, Record, checked, reason
from tltool.errors import DataError, nearest
from tltool.quantities import Quantities, table_of

_SAMPLED = 2_000
_SUFFIXES = (".db", ".json")
_RESULTS = ("id", "unique_id", "energy", "free_energy", "magmom", "formula", "natoms", "volume")


def read(
    root: Path,
    /,
    *,
    selection: str,
    id_column: str,
    labels: list[str],
    columns: list[str] | None,
    per_cell: list[str],
    largest: dict[str, float],
    tags: dict[str, str],
    define: dict[str, Any] | None,
) -> Iterator[Record | Dropped]:
    """Yield a record, or a ``Dropped`` with its reason, per row of the database ``root`` (a file, or its folder).

    ``selection`` is a query of ASE, such as ``natoms<20,source=mp``; empty takes all rows. A column is a key of the
    key-value pairs, a result of the calculator (``energy``, per cell), ``id``, ``unique_id``, or a dotted path into
    ``data``. ``define`` has the definitions of quantities that do not ship. The other arguments are those of the
    adapter of tables. Raise DataError for a file that cannot be read, a column that no row has, and an id that occurs
    twice.
    """
    wanted = label_columns.columns(labels, columns, per_cell, largest, tags, table_of(define or {}))
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
        said, at = label_columns.labels(cells(row, wanted.labels), wanted.known), f"row {entry.id}"
        try:
            crystal = _crystal(entry)
        except DataError as error:
            yield Dropped(name, reason(error), at)
        else:
            yield label_columns.converted(name, crystal, said, cells(row, wanted.tags), wanted, at)
    if not known:
        raise DataError(
            f"{path}: no row matches selection={selection!r}; correct it, or leave it empty to take all rows."
        )
    for column in sorted(missing):
        raise DataError(f"{path}: no row has the key {column!r}.{nearest(column, known)}")


def settle(root: Path, node: Mapping[str, Any], wish: Wish, known: Quantities, /) -> Settled:
    """Return which keys of the database ``root`` hold labels (see ``own_labels``); raise the errors of ``read``."""
    path = _file(root)
    given = wish.names and wish.columns and all(name in known or name in wish.define for name in wish.names)
    rows: list[tuple[int, Row]] = []
    if not given:
        entries = islice(_entries(path, str(node.get("selection") or "")), _SAMPLED)
        rows = [(int(entry.id), _row(entry)) for entry in entries]
    used = set(_RESULTS) - set(wish.names or ()) - set(wish.columns or ())
    taken = {*used, str(node.get("id_column")), *(node.get("tags") or {}).values()}
    chosen = label_sample.chosen(label_sample.of_rows(rows), taken, wish, known, path.name)
    return Settled({}, chosen, [label_choice.told(path.name, [], chosen)])


def _file(root: Path) -> Path:
    """Return ``root``, or the one database in the folder ``root``."""
    found = [root] if root.is_file() else sorted(path for path in root.iterdir() if path.suffix in _SUFFIXES)
    if len(found) != 1:
        some = ", ".join(path.name for path in found[:5]) or "none"
        raise DataError(f"{root} is a folder with {len(found)} databases ({some}); name one as data.root=FILE.")
    if found[0].suffix not in _SUFFIXES:
        raise DataError(f"{found[0]} is not an ASE database of a known type; the name must end with .db or .json.")
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
            f"{path}: selection={selection!r} is not a query of ASE; correct it, as in natoms<20,source=mp."
        ) from error
    try:
        # Reading needs no lock file, which cannot be made in a read-only folder.
        # Outside a with, ASE opens its SQLite file again for every row and closes none of them.
        with connect(str(path), use_lock_file=False) as database:
            yield from database.select(selection or None)
    except Exception as error:  # whatever sqlite, json and ase make of a damaged file
        raise DataError(
            f"{path} cannot be read as an ASE database with selection={selection!r}; repair the file, write it again "
            "with ase.db, or correct the selection."
        ) from error


def _row(entry: Any) -> Row:
    results: dict[str, Any] = {key: entry.get(key) for key in _RESULTS}
    data: dict[str, Any] = dict(entry.data)
    pairs: dict[str, Any] = entry.key_value_pairs
    # People search by the key-value pairs, so these have priority over results and data of the same name.
    return {k: v for k, v in results.items() if v is not None} | data | {"data": data} | pairs


def _crystal(entry: Any) -> Crystal:
    where, lattice = f"row {entry.id}", np.array(entry.cell, dtype=np.float64)
    if not entry.pbc.all():
        raise DataError(f"{where}: is not periodic in three directions; give a crystal with a cell.")
    if abs(np.linalg.det(lattice)) < 1e-3:
        raise DataError(f"{where}: the volume of the cell is zero; check the lattice vectors.")
    return checked(Crystal(lattice, np.linalg.solve(lattice.T, entry.positions.T).T, entry.numbers), where)
