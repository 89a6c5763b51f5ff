"""Read a table file with a structure in each row, one row at a time: CSV, Parquet, or JSON of several layouts.

The structure stands in one column (pymatgen or JARVIS dict, CIF or POSCAR text) or in three, as plain numbers. A table
without structures has a column of formulas.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tltool.data.download.listing import RECORD
from tltool.data.formats import formulas, label_choice, label_columns, label_sample, structure_value, tables
from tltool.data.formats.label_choice import Wish
from tltool.data.formats.label_columns import Columns
from tltool.data.formats.label_sample import Sample
from tltool.data.formats.rows import further_columns, repeated_rows
from tltool.data.formats.rows.further_columns import Further
from tltool.data.formats.rows.repeated_rows import Said
from tltool.data.formats.tables import Row
from tltool.data.own_labels import Settled
from tltool.data.record import Crystal, Dropped, Record, reason
from tltool.errors import ConfigError, DataError
from tltool.instantiate import Idle
from tltool.quantities import Quantities, table_of

_NONE = ("", "nan", "null", "None")


class _Reading(NamedTuple):
    """How to read the labels of a row, and what stands beside them."""

    wanted: Columns
    further: Further
    header_line: int | None
    commas: list[str]


def read(
    root: Path,
    /,
    *,
    id_column: str | None,
    structure_column: str | list[str],
    formula_column: str | None,
    labels: list[str],
    columns: list[str] | None,
    per_cell: list[str],
    largest: dict[str, float],
    tags: dict[str, str],
    header_line: int | None,
    decimal_commas: list[str],
    repeated: str,
    weight: str | None,
    uncertainty: str | None,
    conditions: dict[str, str] | list[str],
    define: dict[str, Any] | None,
) -> Iterator[Record | Dropped]:
    """Yield a record per row of the table ``root`` (a file, or a folder with one table), and in words what is left out.

    Ids are those in ``id_column``, or ``stem-1``, ``stem-2``, ... by row if that is None. ``structure_column`` is one
    column, or three: lattice (3, 3) in Å, species (n,), fractional positions (n, 3). ``formula_column`` is read in its
    place if it is not None. ``columns`` hold the quantities ``labels``, one by one, each in its unit, but per cell for
    those in ``per_cell``; a row with a label beyond ``largest`` is left out. ``tags`` maps names to columns that are
    kept as words. A dotted column leads into nested values. The header of a CSV stands in ``header_line``, or first if
    that is None; the columns ``decimal_commas`` have a comma for the point. ``repeated`` rows of one id are an error,
    or the first is kept with the mean of their labels (``repeated_rows``). ``weight``, ``uncertainty`` and
    ``conditions`` are further columns (``further_columns``). ``define`` has the definitions of quantities that do not
    ship. Raises DataError for a file that cannot be read, a column that it lacks and an id that
    occurs twice.
    """
    wanted = label_columns.columns(labels, columns, per_cell, largest, tags, table_of(define or {}))
    if formula_column is not None:
        structure_column = formula_column
        if per_cell:
            raise ConfigError(f"data.adapter.per_cell={per_cell}: a formula has no cell; give labels per atom.")
    cell = [structure_column] if isinstance(structure_column, str) else list(structure_column)
    if len(cell) not in (1, 3):
        raise ConfigError(
            f"data.adapter.structure_column={cell} must be one column, or lattice, species and positions."
        )
    further = further_columns.further(weight, uncertainty, conditions)
    repeated_rows.require(repeated, labels, uncertainty is not None)
    path = _file(root)
    stem = path.name.split(".")[0]
    seen: dict[str, str] = {}
    own = [*label_columns.names(wanted), *([id_column] if id_column else [])]
    further_columns.require_different(further, [*cell, *own], str(path))
    how = _Reading(wanted, further, header_line, decimal_commas)
    means = _means(path, id_column, how, repeated) if id_column and repeated != "error" else {}
    for n, (where, row) in enumerate(tables.rows(path, [*cell, *own, *further.columns], header_line), start=1):
        crystal_name = label_columns.text(tables.value(row, id_column)) if id_column else f"{stem}-{n}"
        if not crystal_name:
            yield Dropped(where, "no id", path.name)
            continue
        found = _said(row, how)
        name = crystal_name + found.beside.suffix
        if found.beside.fault:
            yield Dropped(crystal_name, found.beside.fault, f"{path.name}, {where}")
            continue
        if name in seen and repeated != "error":
            continue
        if name in seen:
            raise DataError(
                f"{path}: {where} and {seen[name]} have the same id {name!r}; rename or remove one, or take the mean "
                "of such rows with data.adapter.repeated=mean."
            )
        seen[name] = where
        (said, beside), at = means.get(name) or found, f"{path.name}, {where}"
        if lost := label_columns.unlabelled(name, said, at):
            yield lost
            continue
        try:
            crystal = _crystal(row, cell, where, formula_column is not None)
        except DataError as error:
            yield Dropped(name, reason(error), at)
        else:
            tags = tables.cells(row, wanted.tags) | further_columns.tags(crystal_name, beside, further)
            yield label_columns.converted(name, crystal, said, tags, wanted, at)


def _said(row: Row, how: _Reading) -> Said:
    """Return what the cells of labels in a ``row`` say, and what stands beside them."""
    cells = tables.cells(row, how.wanted.labels)
    cells |= {q: label_columns.decimal_point(cells[q]) for q, c in how.wanted.labels.items() if c in how.commas}
    beside = {column: tables.value(row, column) for column in how.further.columns}
    return Said(
        label_columns.labels(cells, how.wanted.known),
        further_columns.beside(beside, how.further),
    )


def _means(path: Path, id_column: str, how: _Reading, repeated: str) -> dict[str, Said]:
    """Return what the rows of each id, under the same conditions, say together."""
    every: dict[str, list[Said]] = {}
    columns = [id_column, *label_columns.names(how.wanted), *how.further.columns]
    for _, row in tables.rows(path, columns, how.header_line):
        found = _said(row, how)
        if not found.beside.fault:
            name = label_columns.text(tables.value(row, id_column)) + found.beside.suffix
            every.setdefault(name, []).append(found)
    return repeated_rows.every_joined(every, how.wanted.known, repeated, str(path))


def idle_keys(node: Mapping[str, Any], config: Mapping[str, Any], /) -> dict[str, Idle]:
    """Return what has no effect beside a column of formulas (see ``instantiate.idle_keys``)."""
    column = node.get("formula_column")
    why = f"{{at}}.formula_column={column} is read in place of structures"
    return {} if column is None else {"structure_column": Idle(why, "set {at}.formula_column=null")}


def settle(root: Path, node: Mapping[str, Any], wish: Wish, known: Quantities, /) -> Settled:
    """Return which columns of the table ``root`` hold labels (see ``own_labels``), and that of the ids.

    Raises DataError for a file that cannot be read and a label that is not a number.
    """
    path = _file(root)
    beside = further_columns.further(node.get("weight"), node.get("uncertainty"), node.get("conditions"))
    settled = label_choice.is_settled(wish, known) and not beside.columns
    sample = Sample([], [], None, []) if settled else label_sample.sampled(path)
    further = further_columns.settled(node, sample.headers, path.name)
    id_column, how = node.get("id_column"), list(sample.told)
    if sample.headers and id_column == "id" and "id" not in sample.headers:
        id_column = next(iter(label_choice.id_columns(sample.headers)), None)
        how += [f"ids in column {id_column!r}" if id_column else "ids are the numbers of the rows"]
    column = node.get("formula_column") or node.get("structure_column") or ()
    taken = {id_column, *([column] if isinstance(column, str) else column), *(node.get("tags") or {}).values()}
    taken |= set(further_columns.further(**further).columns)
    if node.get("formula_column") is None:
        taken |= {
            header for header in sample.headers if label_choice.key(header) in ("structure", "cif", "poscar", "atoms")
        }
    there = {*sample.headers, *(str(name) for _, row in sample.rows for name in row)}
    for name in [column] if isinstance(column, str) else column:
        if there and not {name, name.partition(".")[0]} & there:
            kind = "formula" if node.get("formula_column") else "structure"
            raise DataError(
                f"{path.name}: no column holds the {kind}s; {name!r} is not there, only {', '.join(sample.headers)}. "
                f"Name it with data.adapter.{kind}_column=NAME, or use folder in place of table if the structures are "
                "files."
            )
    chosen = label_sample.chosen(sample, taken, wish, known, path.name)
    chosen = label_sample.with_every_class(chosen, path, sample, wish)
    how += [f"decimal commas in {', '.join(chosen.commas)}"] if chosen.commas else []
    how += further_columns.told(further_columns.further(**further))
    keys = {"id_column": id_column, "header_line": sample.header_line, "decimal_commas": chosen.commas}
    keys |= {"repeated": node.get("repeated") or repeated_rows.REPEATED[0], **further}
    return Settled(keys, chosen, [label_choice.told(path.name, how, chosen)])


def _file(root: Path) -> Path:
    """Return ``root``, or the one table in the folder ``root``."""
    if root.is_file():
        return root
    found = sorted(
        path for path in root.iterdir() if tables.is_table(path) and path.name[0] != "." and path.name != RECORD
    )
    if len(found) != 1:
        some = ", ".join(path.name for path in found[:5]) or "none"
        raise DataError(
            f"{root} is a folder with {len(found)} tables ({some}); pass the file itself as data.root=FILE."
        )
    return found[0]


def _crystal(row: Row, columns: list[str], where: str, as_formula: bool) -> Crystal:
    values = [tables.value(row, column) for column in columns]
    if any(value is None or value != value or value in _NONE for value in values):
        raise DataError(f"{where}: no {'formula' if as_formula else 'structure'}.")
    if as_formula:
        return formulas.composition(values[0], where)
    if len(values) == 1:
        return structure_value.crystal(values[0], where)
    lattice, species, frac = values
    return structure_value.from_columns(lattice, species, frac, where)
