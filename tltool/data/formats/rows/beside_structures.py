"""Read the conditions under which new structures are to be predicted from the table that stands beside them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from tltool.data.formats import csv_rows, label_choice, label_columns, label_table, structure_files
from tltool.data.formats.rows import further_columns
from tltool.data.formats.rows.further_columns import Beside, Further
from tltool.errors import DataError
from tltool.quantities import same_unit

_SUFFIXES = (".csv", ".tsv")


def table_in(root: Path) -> Path | None:
    """Return the table in the folder ``root``, or ``root`` itself if it is one; None without.

    Raise DataError if there are several.
    """
    if root.is_file():
        return root if root.suffix in _SUFFIXES else None
    found = sorted(path for path in root.iterdir() if path.suffix in _SUFFIXES and path.name[0] != ".")
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:5])
        raise DataError(f"{root}: has {len(found)} tables ({names}); leave the one that holds the conditions.")
    return found[0] if found else None


def conditions(path: Path, units: Mapping[str, str], names: set[str]) -> dict[str, list[Beside]]:
    """Return the conditions ``units`` {name: unit} in the table at ``path`` by the ``names`` of structures.

    A structure with several rows has several. Raise DataError for a table without such a column, with another unit in
    its header, or without a column of names.
    """
    layout = label_table.layout(path, lambda cell: structure_files.stem(cell.strip()) in names)
    further = _columns(layout.header, units, path)
    hits = {
        header: sum(structure_files.stem(cell) in names for cell in layout.column(k))
        for k, header in enumerate(layout.header)
    }
    likely = [*label_choice.id_columns(layout.header), *hits]
    column = max(likely, key=lambda header: hits[header], default="")
    if not hits.get(column):
        raise DataError(
            f"{path}: no column holds the names of the structures, such as {min(names, default='a.cif')}; write them "
            "into a column called file."
        )
    found: dict[str, list[Beside]] = {}
    for name, beside in _rows(path, column, further, layout.line if layout.title else None):
        several = found.setdefault(name, [])
        several += [] if beside in several else [beside]
    return found


def _columns(headers: list[str], units: Mapping[str, str], path: Path) -> Further:
    columns = {}
    for name, unit in units.items():
        same = [header for header in headers if label_choice.key(header) == label_choice.key(name)]
        if not same:
            raise DataError(
                f"{path}: has no column {name!r}, which the model takes besides the crystal; add it, or give "
                f"conditions={{{name}: NUMBER}} for all structures."
            )
        stated = further_columns.unit_of(same[0])
        if stated and unit and not same_unit(stated, unit):
            raise DataError(
                f"{path}: {same[0]!r} is in {stated}, and the model takes it in {unit}; convert the column."
            )
        columns[name] = same[0]
    return Further(None, None, columns)


def _rows(path: Path, column: str, further: Further, header_line: int | None) -> Iterator[tuple[str, Beside]]:
    for _, cells in csv_rows.read(path, [column, *further.columns], header_line=header_line):
        if name := structure_files.stem(label_columns.text(cells[column])):
            yield name, further_columns.beside(cells, further)
