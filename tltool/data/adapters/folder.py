"""Read a folder of structure files with a CSV of labels, in the layout of cgcnn and alignn (``id_prop.csv``)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from tltool.data.download.listing import RECORD
from tltool.data.formats import csv_rows, label_choice, label_columns, label_table, structure_files
from tltool.data.formats.label_choice import Wish
from tltool.data.formats.label_columns import Columns
from tltool.data.formats.label_table import Layout
from tltool.data.formats.rows import further_columns, repeated_rows
from tltool.data.formats.rows.further_columns import Further
from tltool.data.formats.rows.repeated_rows import Said
from tltool.data.own_labels import Settled
from tltool.data.record import Dropped, Record, reason
from tltool.errors import DataError
from tltool.quantities import Quantities, table_of

_USUAL = "id_prop.csv"
_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.xz", ".csv.bz2")
_SEPARATORS = {",": "", ";": "semicolons separate its cells", "\t": "tabs separate its cells"}


class _Row(NamedTuple):
    """What the table says of a crystal: where it stands, its id as it stands there, and what is said by suffix.

    A suffix is what the id of a record has after that of its crystal (``further_columns``), nothing without conditions.
    """

    where: str
    name: str
    said: dict[str, Said]


class _Reading(NamedTuple):
    """How to read the rows of the table."""

    id_column: str
    wanted: Columns
    further: Further
    header_line: int | None
    commas: Sequence[str]
    repeated: str


def read(
    root: Path,
    /,
    *,
    table: str,
    id_column: str,
    labels: list[str],
    columns: list[str],
    header_line: int | None,
    decimal_commas: list[str],
    repeated: str,
    weight: str | None,
    uncertainty: str | None,
    conditions: dict[str, str] | list[str],
    define: dict[str, Any] | None,
) -> Iterator[Record | Dropped]:
    """Yield a record per structure in ``root`` that has a row, and in words what is left out.

    ``table`` is a CSV in ``root`` whose ``id_column`` holds the file names, with or without suffix and folder;
    ``columns`` are those that hold the quantities ``labels``, one by one, each in its unit. A CSV of two columns may
    have no header if one quantity is asked for. The header stands in ``header_line``, or first if that is None; the
    columns ``decimal_commas`` have a comma for the point. ``repeated`` rows of one id are an error, or their mean is
    taken (``repeated_rows``). ``weight``, ``uncertainty`` and ``conditions`` are further columns
    (``further_columns``). ``define`` has the definitions of quantities that do not
    ship. ``settle`` finds all these keys. Raises DataError for a CSV that is missing, lacks a column, has a row
    of another length or names an id twice, and for two files of one id; ConfigError for an unknown quantity.
    """
    wanted = label_columns.columns(labels, columns, [], {}, {}, table_of(define or {}))
    beside = further_columns.further(weight, uncertainty, conditions)
    repeated_rows.require(repeated, labels, uncertainty is not None)
    path = root / table
    if not path.is_file():
        raise DataError(f"{path}: there is no such table of labels; name it with data.adapter.table=FILE.")
    bare = [id_column, *columns] if len(columns) == 1 else []
    further_columns.require_different(beside, [id_column, *columns], str(path))
    rows, nameless = _rows(path, _Reading(id_column, wanted, beside, header_line, decimal_commas, repeated), bare)
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
            yield from _records(name, crystal, row, beside)
    for row in rows.values():
        if row.name not in used:
            yield Dropped(row.name, "no structure file", row.where)


def _records(name: str, crystal: Any, row: _Row | None, wanted: Further) -> Iterator[Record | Dropped]:
    if isinstance(crystal, DataError):
        yield Dropped(name, reason(crystal))
    elif row is None:
        yield Dropped(name, "no row in the table")
    else:
        for suffix, said in row.said.items():
            if said.beside.fault:
                yield Dropped(name, said.beside.fault, row.where)
                continue
            tags = further_columns.tags(name, said.beside, wanted)
            yield label_columns.record(name + suffix, crystal, said.labels, tags, row.where)


def _rows(path: Path, how: _Reading, bare: Sequence[str]) -> tuple[dict[str, _Row], list[Dropped]]:
    """Return the rows by id, without the suffix of a structure file, and those that have none."""
    rows: dict[str, _Row] = {}
    every: dict[tuple[str, str], list[Said]] = {}
    nameless = []
    columns = [how.id_column, *how.wanted.labels.values(), *how.further.columns]
    for where, cells in csv_rows.read(path, columns, bare, how.header_line):
        given = label_columns.text(cells[how.id_column])
        name = structure_files.stem(given)
        if not name:
            nameless.append(Dropped(where, "no id", path.name))
            continue
        points = {column: label_columns.decimal_point(cells[column]) for column in how.commas}
        found = {label: points.get(column, cells[column]) for label, column in how.wanted.labels.items()}
        beside = further_columns.beside(cells, how.further)
        several = every.setdefault((name, beside.fault or beside.suffix), [])
        if several and how.repeated == "error" and not beside.fault:
            under = f" under the same conditions ({beside.suffix[1:]})" if beside.suffix else ""
            raise DataError(
                f"{path}: the id {name!r} occurs twice{under}; keep one row of it, or take the mean of its rows with "
                "data.adapter.repeated=mean."
            )
        several.append(Said(label_columns.labels(found, how.wanted.known), beside))
        rows.setdefault(name, _Row(f"{path.name}, {where}", given, {}))
    if not rows:
        raise DataError(f"{path}: has no row with an id; give it an id and a label per line.")
    for (name, suffix), said in repeated_rows.every_joined(every, how.wanted.known, how.repeated, str(path)).items():
        rows[name].said[suffix] = said
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


def settle(root: Path, node: Mapping[str, Any], wish: Wish, known: Quantities, /) -> Settled:
    """Return which table in ``root``, and which of its columns, hold ids and labels (see ``own_labels``).

    Raises DataError for a folder without a table or with several, a table without ids of the structure files, and a
    label that is not a number.
    """
    path = _table(root, node.get("table"))
    files = structure_files.files(root)
    stems = {structure_files.stem(file.name) for file in files}
    found = label_table.layout(path, lambda cell: _is_of(cell, stems))
    if found.header:
        id_column = _id_column(found, path, node.get("id_column"), stems, files)
        headers = [header for header in found.header if header != id_column]
    else:
        id_column, headers = _without_header(found, path, node)
    further = further_columns.settled(node, headers, path.name)
    beside = further_columns.further(**further)
    headers = [header for header in headers if header not in beside.columns]
    chosen = label_choice.choose(headers, lambda header: _judged(found, path, header), wish, known, path.name)
    keys = {
        "table": path.relative_to(root).as_posix(),
        "id_column": id_column,
        "header_line": found.line if found.title else None,
        "decimal_commas": chosen.commas,
        "repeated": node.get("repeated") or repeated_rows.REPEATED[0],
        **further,
    }
    return Settled(keys, chosen, [_told(found, path, id_column, chosen, beside)])


def _table(root: Path, given: str | None) -> Path:
    """Return the table of labels in ``root``: the one that is named, ``id_prop.csv``, or the only one."""
    if given is not None:
        if not (root / given).is_file():
            raise DataError(f"{root / given}: there is no such table of labels; name it with data.adapter.table=FILE.")
        return root / given
    if not root.is_dir():
        raise DataError(f"data.root={root} is a file; name the folder that holds the structures and their table.")
    tables = sorted(
        p for p in root.iterdir() if p.name.lower().endswith(_SUFFIXES) and p.name[0] != "." and p.is_file()
    )
    tables = [p for p in tables if p.name != RECORD]
    usual = [path for path in tables if path.name == _USUAL] or tables
    if not usual:
        raise DataError(
            f"{root}: there is no table of labels; put a CSV with a column of file names and one of numbers there, or "
            "name it with data.adapter.table=FILE."
        )
    if len(usual) > 1:
        names = ", ".join(path.name for path in usual[:5])
        raise DataError(
            f"{root}: has {len(usual)} tables ({names}); choose one with data.adapter.table={usual[0].name}."
        )
    return usual[0]


def _is_of(cell: str, stems: set[str]) -> bool:
    """Say whether a cell is the name of one of the files ``stems``, or of one of several structures in it."""
    name = structure_files.stem(_parts(cell.strip())[-1])
    return bool(name) and (name in stems or name.rpartition("-")[0] in stems)


def _id_column(found: Layout, path: Path, given: str | None, stems: set[str], files: Sequence[Path]) -> str:
    """Return the column of ids: the one that is named, or that with most names of files."""
    if given is not None:
        csv_rows.require([given], found.header, path)
        return given
    hits = {h: sum(_is_of(cell, stems) for cell in found.column(k)) for k, h in enumerate(found.header) if h}
    usual = label_choice.id_columns(found.header)
    best = max(hits.values(), default=0)
    likely = [header for header in (*usual, *hits) if best and hits[header] == best]
    if likely:
        return likely[0]
    known_alone = all(file.suffix not in (".json", ".gz", ".xyz", ".extxyz") for file in files)
    if usual and not known_alone:
        return usual[0]
    column = usual[0] if usual else next(iter(hits))
    cells = ", ".join(found.column(found.header.index(column))[:3])
    names = ", ".join(file.name for file in files[:3])
    raise DataError(
        f"{path}: no column holds the names of the structure files; {column!r} has {cells}, and the files are {names}. "
        "Write the file names into a column, or name it with data.adapter.id_column=NAME."
    )


def _without_header(found: Layout, path: Path, node: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the names of the two columns of a table without a header."""
    if len(found.rows[0][1]) != 2:
        raise DataError(
            f"{path}: has no header; write one above its {len(found.rows[0][1])} columns, such as id,kappa (W/mK)."
        )
    return str(node.get("id_column") or "id"), [*(node.get("columns") or ["label"])]


def _judged(found: Layout, path: Path, header: str) -> label_table.Column:
    """Return what the column of labels called ``header`` holds."""
    k = found.header.index(header) if found.header else 1
    return next(column for _, column in label_table.columns(found, path, [k]))


def _told(found: Layout, path: Path, id_column: str, chosen: label_choice.Chosen, beside: Further) -> str:
    """Return in one line what was assumed of the table and its labels."""
    how = [f"ids in column {id_column!r}"] if found.header else ["no header: ids, then labels"]
    how += [_SEPARATORS[found.separator]] if _SEPARATORS[found.separator] else []
    how += [f"decimal commas in {', '.join(chosen.commas)}"] if chosen.commas else []
    how += further_columns.told(beside)
    how += [f"a title, {found.title[:40]!r}, above the header"] if found.title else []
    return label_choice.told(path.name, how, chosen)
