"""Read a folder of structure files with a CSV of labels, in the layout of cgcnn and alignn (``id_prop.csv``)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from tltool.data.formats import csv_rows, label_columns, structure_files
from tltool.data.formats.label_columns import Labels
from tltool.data.record import Dropped, Record, reason
from tltool.errors import DataError


class _Row(NamedTuple):
    """A row of the table: where it stands, its id as it stands there, and what it says."""

    where: str
    name: str
    said: Labels


def read(
    root: Path, /, *, table: str, id_column: str, labels: list[str], columns: list[str]
) -> Iterator[Record | Dropped]:
    """Yield a record per structure in ``root`` that has a row, and in words what is left out.

    ``table`` is a CSV in ``root`` whose ``id_column`` holds the file names, with or without suffix and folder;
    ``columns`` are those that hold the quantities ``labels``, one by one, each in its unit. A CSV of two columns may
    have no header if one quantity is asked for. Raises DataError for a CSV that is missing, lacks a column, has a row
    of another length or names an id twice, and for two files of one id; ConfigError for an unknown quantity.
    """
    wanted = label_columns.columns(labels, columns, [], {}, {})
    path = root / table
    if not path.is_file():
        raise DataError(f"{path}: there is no such table of labels; name it with data.adapter.table=FILE.")
    bare = [id_column, *columns] if len(columns) == 1 else []
    rows, nameless = _rows(path, id_column, wanted.labels, bare)
    yield from nameless
    by_file = _by_file(rows)
    origin: dict[str, Path] = {}
    used: set[str] = set()
    for file in structure_files.files(root):
        for name, _, crystal in structure_files.readings(file):
            if name in origin:
                raise DataError(f"{file} and {origin[name]} have the same id {name!r}; rename or remove one.")
            origin[name] = file
            row = rows.get(name) or _of((*file.absolute().parent.parts, name), by_file.get(name, ()), path)
            used |= {row.name} if row else set()
            yield _record(name, crystal, row)
    for row in rows.values():
        if row.name not in used:
            yield Dropped(row.name, "no structure file", row.where)


def _record(name: str, crystal: Any, row: _Row | None) -> Record | Dropped:
    if isinstance(crystal, DataError):
        return Dropped(name, reason(crystal))
    if row is None:
        return Dropped(name, "no row in the table")
    return label_columns.record(name, crystal, row.said, {}, row.where)


def _rows(
    path: Path, id_column: str, columns: Mapping[str, str], bare: Sequence[str]
) -> tuple[dict[str, _Row], list[Dropped]]:
    """Return the rows by id, without the suffix of a structure file, and those that have none."""
    rows: dict[str, _Row] = {}
    nameless = []
    for where, cells in csv_rows.read(path, [id_column, *columns.values()], bare):
        given = label_columns.text(cells[id_column])
        name = structure_files.stem(given)
        if not name:
            nameless.append(Dropped(where, "no id", path.name))
            continue
        if name in rows:
            raise DataError(f"{path}: the id {name!r} occurs twice; keep one row of it.")
        said = label_columns.labels({label: cells[column] for label, column in columns.items()})
        rows[name] = _Row(f"{path.name}, {where}", given, said)
    if not rows:
        raise DataError(f"{path}: has no row with an id; give it an id and a label per line.")
    return rows, nameless


def _by_file(rows: dict[str, _Row]) -> dict[str, list[_Row]]:
    """Return the rows whose ids are paths, by the name of the file without its suffix."""
    found: dict[str, list[_Row]] = {}
    for row in rows.values():
        if (parts := _parts(row.name)) != (row.name,):
            found.setdefault(structure_files.stem(parts[-1]), []).append(row)
    return found


def _parts(name: str) -> tuple[str, ...]:
    return PurePath(name.replace("\\", "/")).parts or (name,)


def _of(own: tuple[str, ...], rows: Sequence[_Row], table: Path) -> _Row | None:
    """Return the row whose path is the end of ``own``, the parts of a structure's path; DataError if there are two."""
    found: list[_Row] = []
    for row in rows:
        parts = _parts(row.name)
        parts = (*parts[:-1], structure_files.stem(parts[-1]))
        found += [row] if own[-len(parts) :] == parts else []
    if len(found) > 1:
        raise DataError(
            f"{table}: {found[0].name!r} and {found[1].name!r} both name {'/'.join(own[-2:])}; keep one row."
        )
    return found[0] if found else None
