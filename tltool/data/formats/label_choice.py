"""Choose which columns of a user's table are labels, and define each as a quantity: name, unit of the header, scale.

What the user names is taken as named. Otherwise every column of numbers is a label, except ids and columns that are
known to hold something else, such as a space group; what was taken and what was left is said.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tltool.data.formats import label_table
from tltool.data.formats.csv_rows import near
from tltool.data.formats.label_table import Column
from tltool.errors import ConfigError, DataError
from tltool.quantities import Quantities, Quantity, defined, described, name_of, same_unit

IDS = (
    "id", "ids", "file", "file name", "filename", "name", "material id", "material", "mat id", "structure",
    "structure id", "structure file", "structure name", "cif", "cif file", "path", "mp id", "mpid", "jid",
    "identifier", "label id", "key",
)  # fmt: skip
"""What people call the column of ids, in the order in which they are looked for; _, - and capitals do not count."""

_NO_LABELS = {
    "formula", "composition", "pretty formula", "reduced formula", "chemical formula", "elements", "nelements",
    "space group", "spacegroup", "space group number", "spacegroup number", "sg", "sg number", "spg", "spgnum",
    "crystal system", "prototype", "nsites", "natoms", "n atoms", "n sites", "number of atoms", "number of sites",
    "index", "no", "nr", "number", "row", "split", "fold", "set", "part", "seed", "year", "date", "doi", "reference",
    "ref", "source", "comment", "comments", "note", "notes", "remark", "weight", "n", "count", "",
    "temperature", "pressure", "t", "p",
}  # fmt: skip
_ERROR_OF = ("std", "stdev", "sd", "sigma", "err", "error", "uncertainty", "unc", "se")
_LABEL = ("label", "target", "value", "property", "prop", "y")


class Chosen(NamedTuple):
    """The labels of a table: ``names`` of the quantities, their ``columns``, how each is defined, and what was left.

    ``commas`` are the columns with decimal commas; ``definitions`` are plain data, as ``data.define`` has them.
    """

    names: list[str]
    columns: list[str]
    commas: list[str]
    definitions: dict[str, dict[str, Any]]
    told: list[str]
    left: list[str]


class Wish(NamedTuple):
    """What the user says: ``names`` of the quantities and ``columns``, or None, and definitions by name."""

    names: list[str] | None
    columns: list[str] | None
    define: Mapping[str, Any]


def key(header: str) -> str:
    """Return a header as it is compared: without unit, capitals, and with spaces for _ and -."""
    return re.sub(r"[\s_\-.]+", " ", label_table.heading(header)[0]).strip().casefold()


def id_columns(headers: Sequence[str]) -> list[str]:
    """Return the headers that people give to ids, the likeliest first."""
    return sorted((h for h in headers if key(h) in IDS), key=lambda h: IDS.index(key(h)))


def choose(headers: Sequence[str], judge: Callable[[str], Column], wish: Wish, known: Quantities, where: str) -> Chosen:
    """Return the labels among the columns ``headers`` of the table ``where`` (not that of ids).

    ``judge`` says what a column holds; ``known`` are the quantities that are defined without the user's words. Raise
    DataError for a column that is not there or holds no numbers, and for a unit that contradicts a definition.
    """
    left: list[str] = []
    if wish.columns is not None:
        columns = [_found(column, headers, where) for column in wish.columns]
    elif wish.names is not None:
        columns = _of_names(wish.names, headers, judge, where)
    else:
        columns, left = _discovered(headers, judge, where)
    kinds = {column: judge(column) for column in columns}
    for column, kind in kinds.items():
        _require_numbers(column, kind, where)
    names = list(wish.names) if wish.names is not None else [_name(column, where) for column in columns]
    if len(names) != len(columns):
        raise ConfigError(f"data.quantities={names} and data.adapter.columns={columns} must name one column for each.")
    _require_different(names, columns, where)
    for name in wish.define:
        if name not in names and name not in {_name(h, where) for h in headers}:
            raise ConfigError(f"data.define names {name!r}, which is no label of {where}.{near(name, names)}")
    abouts = [_about(name, column, wish, known, where) for name, column in zip(names, columns, strict=True)]
    definitions = {one.name: described(one) for one in abouts}
    commas = [column for column, kind in kinds.items() if kind.kind == "comma"]
    told = [_told(one, column, wish, known) for one, column in zip(abouts, columns, strict=True)]
    return Chosen(names, columns, commas, definitions, told, left)


def _found(column: str, headers: Sequence[str], where: str) -> str:
    """Return the header that ``column`` names: itself, or the only one of that name without unit or capitals."""
    if column in headers:
        return column
    same = [h for h in headers if label_table.heading(h)[0] == column] or [h for h in headers if key(h) == key(column)]
    if len(same) > 1:
        raise DataError(f"{where}: {column!r} may be column {same[0]!r} or {same[1]!r}; give the whole name.")
    if not same:
        raise DataError(
            f"{where}: has no column {column!r}.{near(column, headers)} Name the columns of the labels with "
            "data.adapter.columns=[...], and that of the ids with data.adapter.id_column=NAME."
        )
    return same[0]


def _of_names(names: Sequence[str], headers: Sequence[str], judge: Callable[[str], Column], where: str) -> list[str]:
    """Return the columns of the quantities ``names``: those of their names, or the only label there is."""
    try:
        return [_found(name, headers, where) for name in names]
    except DataError:
        usual = [h for h in headers if key(h) in _LABEL]
        if len(names) > 1:
            raise
        if len(usual) == 1:
            return usual
        columns, _ = _discovered(headers, judge, where)
        if len(columns) == 1:
            return columns
        raise


def _discovered(headers: Sequence[str], judge: Callable[[str], Column], where: str) -> tuple[list[str], list[str]]:
    """Return the columns that hold labels, and in words those that were left."""
    columns, left, units = [], [], []
    names = {key(h) for h in headers}
    for header in headers:
        if key(header) in _NO_LABELS or key(header) in IDS or key(header).startswith("unnamed:"):
            left.append(header)
        elif _is_error_of(key(header), names):
            left.append(f"{header} (an uncertainty)")
        else:
            kind = judge(header)
            columns += [header] if kind.kind in ("number", "comma") else []
            units += [_of_unit(header, kind, where)] if kind.kind == "unit" else []
            left += {
                "words": [f"{header} ({len(kind.classes)} different words)"],
                "text": [f"{header} (text)"],
                "empty": [f"{header} (empty)"],
            }.get(kind.kind, [])
    if units:
        raise DataError(units[0])
    if not columns:
        raise DataError(
            f"{where}: no column holds numbers to learn ({', '.join(left) or 'it has no other column'}); name one "
            "with data.adapter.columns=[NAME]."
        )
    return columns, left


def _is_error_of(name: str, names: set[str]) -> bool:
    if name in _ERROR_OF:
        return True
    return any(name in (f"{other} {word}", f"{word} {other}") for word in _ERROR_OF for other in names)


def _of_unit(column: str, kind: Column, where: str) -> str:
    name, _ = label_table.heading(column)
    unit = label_table.unit_of(kind.example)
    return (
        f"{where}, line {kind.line}: column {column!r} has {kind.example!r}, a number with a unit; write the unit into "
        f"the header, as '{name} ({unit})', and numbers alone into the cells."
    )


def _require_numbers(column: str, kind: Column, where: str) -> None:
    if kind.kind == "unit":
        raise DataError(_of_unit(column, kind, where))
    if kind.kind == "empty":
        raise DataError(f"{where}: column {column!r} is empty; give it numbers, or name another column.")
    if kind.kind not in ("number", "comma"):
        raise DataError(
            f"{where}, line {kind.line}: column {column!r} has {kind.example[:40]!r}, which is no number; name a "
            "column of numbers with data.adapter.columns=[NAME]."
        )


def _name(column: str, where: str) -> str:
    return name_of(label_table.heading(column)[0]) or "label"


def _require_different(names: Sequence[str], columns: Sequence[str], where: str) -> None:
    for n, name in enumerate(names):
        if name in names[:n]:
            other = columns[names.index(name)]
            raise DataError(
                f"{where}: the columns {other!r} and {columns[n]!r} would both be the quantity {name}; choose with "
                f"data.quantities=[{name}] data.adapter.columns=['{columns[n]}'], or rename one."
            )


def _about(name: str, column: str, wish: Wish, known: Quantities, where: str) -> Quantity:
    """Return the quantity in ``column``: as the user defines it, or known, or with the unit that the header states."""
    stated = label_table.heading(column)[1]
    if name in wish.define:
        node = wish.define[name]
        if isinstance(node, Mapping) and node.get("unit") is None:
            node = dict(node) | {"unit": known[name].unit if name in known else stated}
        about = defined(name, node, f"data.define.{name}")
    elif name in known:
        about = known[name]
    else:
        return defined(name, {"unit": stated[:40], "scale": "auto"}, f"{where}: column {column!r}")
    if stated and not same_unit(stated, about.unit):
        raise DataError(
            f"{where}: the header {column!r} says {stated}, but the quantity {name} is in "
            f"{about.unit or 'no stated unit'}; convert the column, or take it under another name, as "
            f"data.quantities=[my_{name}] data.adapter.columns=['{column}']."
        )
    return about


def _told(about: Quantity, column: str, wish: Wish, known: Quantities) -> str:
    """Return what was assumed of a quantity."""
    unit = f"in {about.unit}" if about.unit not in ("", "1") else "without a unit"
    what = "a class" if about.is_class else f"a number {unit}"
    if about.name in wish.define:
        source = "as data.define says"
    elif about.name in known:
        source = "as tltool knows it"
    else:
        source = "as its header says" if label_table.heading(column)[1] else "its header states none"
    renamed = f" from column {column!r}" if column != about.name else ""
    return f"{about.name}{renamed} is {what} ({source}), scale {about.scale}"


def told(table: str, how: Sequence[str], chosen: Chosen) -> str:
    """Return in one line what was assumed of a ``table`` and its labels, and ``how`` it is read; "" for nothing."""
    left = [f"not learnt: {', '.join(chosen.left)}"] if chosen.left else []
    reading = "; ".join(how)
    parts = ["; ".join([*chosen.told, *left]), reading[:1].upper() + reading[1:]]
    return f"{table}: {'. '.join(filter(None, parts))}." if chosen.told else ""
