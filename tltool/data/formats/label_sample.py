"""The first rows of a table file of any kind, from which its labels are chosen."""

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from tltool.data.formats import label_choice, label_columns, label_table, tables
from tltool.data.formats.label_choice import Chosen, Wish
from tltool.data.formats.label_table import Column
from tltool.errors import DataError
from tltool.quantities import Quantities, class_names_of, defined, described

_ROWS = 2_000
_NAMES = {",": [], ";": ["semicolons separate the cells"], "\t": ["tabs separate the cells"]}


class Sample(NamedTuple):
    """The ``headers`` and first ``rows`` of a table, each with its number; ``header_line`` where a title is above it.

    ``told`` says in words what is unusual.
    """

    headers: list[str]
    rows: list[tuple[int, Mapping[str, Any]]]
    header_line: int | None
    told: list[str]


def sampled(path: Path) -> Sample:
    """Return the first rows of the table at ``path``; raise DataError for a file that cannot be read."""
    if tables.kind(path) not in (".csv", ".tsv"):
        rows = [(n, row) for n, (_, row) in enumerate(islice(tables.rows(path, []), _ROWS), start=1)]
        return of_rows(rows)
    found = label_table.layout(path, lambda cell: False, most=_ROWS)
    if not found.header:
        raise DataError(f"{path}: has no header; write the names of the columns into the first line.")
    rows = [(line, dict(zip(found.header, cells, strict=True))) for line, cells in found.rows]
    title = [f"a title, {found.title[:40]!r}, stands above the header"] if found.title else []
    return Sample(found.header, rows, found.line if title else None, [*_NAMES[found.separator], *title])


def of_rows(rows: list[tuple[int, Mapping[str, Any]]]) -> Sample:
    """Return a sample of ``rows`` with named values; values that hold others are no columns."""
    names = dict.fromkeys(key for _, row in rows for key, value in row.items() if not _is_nested(value))
    return Sample([str(name) for name in names], rows, None, [])


def _is_nested(value: Any) -> bool:
    return isinstance(value, (Mapping, list, tuple)) or (hasattr(value, "__array__") and getattr(value, "ndim", 0) > 0)


def chosen(sample: Sample, taken: Iterable[str], wish: Wish, known: Quantities, where: str) -> Chosen:
    """Return the labels of the table ``where``, not in the columns ``taken``; raise the errors of ``choose``."""
    if wish.names and wish.columns and label_choice.is_settled(wish, known):
        abouts = [known.get(name) or defined(name, wish.define[name], f"data.define.{name}") for name in wish.names]
        abouts = [
            defined(q.name, {"unit": q.unit, **wish.define.get(q.name, {})}) for q in abouts if q.name in wish.define
        ]
        return Chosen(list(wish.names), list(wish.columns), [], {q.name: described(q) for q in abouts}, [], [])
    nested = [column for column in wish.columns or wish.names or () if "." in column]
    headers = [header for header in sample.headers if header not in set(taken)]
    return label_choice.choose([*headers, *nested], lambda column: judged(sample, column, where), wish, known, where)


def with_every_class(found: Chosen, path: Path, sample: Sample, wish: Wish) -> Chosen:
    """Return what was ``found`` in a ``sample``, with the classes of the whole table at ``path`` where it is longer."""
    if len(sample.rows) < _ROWS:
        return found
    definitions = dict(found.definitions)
    for name, column in zip(found.names, found.columns, strict=True):
        node = definitions[name]
        if node.get("classes") and not (wish.define.get(name) or {}).get("classes"):
            rows = tables.rows(path, [column], sample.header_line)
            words = {label_columns.text(tables.value(row, column)) for _, row in rows}
            classes = class_names_of(word for word in words if not label_columns.is_missing(word))
            definitions[name] = described(defined(name, node | {"classes": list(classes)}, f"{path.name}: {column!r}"))
    return found._replace(definitions=definitions)


def judged(sample: Sample, column: str, where: str) -> Column:
    """Return what ``column`` holds; values that are numbers already are numbers, true and false are words."""
    cells = [(n, label_columns.text(tables.value(row, column))) for n, row in sample.rows]
    return label_table.judged(cells, f"{where}: column {column!r}")
