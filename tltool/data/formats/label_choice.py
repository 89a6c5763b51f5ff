"""Choose which columns of a user's table are labels, and define each as a quantity: name, unit of the header, scale.

What the user names is taken as named: a column of words is a class. Otherwise every column of numbers is a label,
except ids and columns that are known to hold something else, such as a space group; what was taken and what was left is
said.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tltool.data.formats import label_table
from tltool.data.formats.csv_rows import near
from tltool.data.formats.label_table import Column
from tltool.errors import ConfigError, DataError
from tltool.quantities import MOST_CLASSES, Quantities, Quantity, defined, described, name_of, same_unit

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
_SHOWN = 4  # classes in a message
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
        columns = [column_called(column, headers, where) for column in wish.columns]
    elif wish.names is not None:
        columns = _of_names(wish, headers, judge, known, where)
    else:
        columns, left = _discovered(headers, judge, where)
    kinds = {column: judge(column) for column in columns}
    names = list(wish.names) if wish.names is not None else [_name(column, where) for column in columns]
    if len(names) != len(columns):
        raise ConfigError(f"data.quantities={names} and data.adapter.columns={columns} must name one column for each.")
    _require_different(names, columns, where)
    for name, column in zip(names, columns, strict=True):
        if isinstance(wish.define.get(name), Mapping) and wish.define[name].get("classes"):
            continue
        _require_labels(name, column, kinds[column], _is_class(name, wish, known), where)
    for name in wish.define:
        if name not in names and name not in {_name(h, where) for h in headers}:
            raise ConfigError(f"data.define names {name!r}, which is no label of {where}.{near(name, names)}")
    pairs = list(zip(names, columns, strict=True))
    abouts = [_about(name, column, kinds[column], wish, known, where) for name, column in pairs]
    definitions = {one.name: described(one) for one in abouts}
    commas = [column for (_, column), one in zip(pairs, abouts, strict=True) if _has_commas(kinds[column], one)]
    told = [_told(one, column, kinds[column], wish, known) for (_, column), one in zip(pairs, abouts, strict=True)]
    return Chosen(names, columns, commas, definitions, told, left)


def is_settled(wish: Wish, known: Quantities) -> bool:
    """Say whether the user's words say all, so that nobody has to look into the table."""
    if not wish.names or not wish.columns:
        return False
    return all(
        bool(wish.define[name].get("classes")) or wish.define[name].get("kind") != "class"
        if isinstance(wish.define.get(name), Mapping)
        else name in known
        for name in wish.names
    )


def _is_class(name: str, wish: Wish, known: Quantities) -> bool:
    node = wish.define.get(name)
    if isinstance(node, Mapping):
        return node.get("kind") == "class" or bool(node.get("classes"))
    return name in known and known[name].is_class


def _has_commas(kind: Column, about: Quantity) -> bool:
    return kind.kind == "comma" and not about.is_class


def column_called(column: str, headers: Sequence[str], where: str) -> str:
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


def _of_names(
    wish: Wish, headers: Sequence[str], judge: Callable[[str], Column], known: Quantities, where: str
) -> list[str]:
    """Return the columns of the quantities that are named: those of their names, or the only label there is.

    A name that neither tltool nor the user defines is no name for a column that is called otherwise.
    """
    names = list(wish.names or ())
    try:
        return [column_called(name, headers, where) for name in names]
    except DataError as error:
        usual = [h for h in headers if key(h) in _LABEL]
        if len(names) > 1:
            raise
        if len(usual) == 1:
            return usual
        if names[0] not in known and names[0] not in wish.define:
            meant = [
                one.name for one in known.values() if names[0].replace("_", " ") in one.meaning and not one.log10_of
            ]
            raise DataError(f"{error} tltool knows {names[0]} as {meant[0]}." if meant else str(error)) from error
        columns, _ = _discovered(headers, judge, where)
        if len(columns) == 1:
            return columns
        raise


def _discovered(headers: Sequence[str], judge: Callable[[str], Column], where: str) -> tuple[list[str], list[str]]:
    """Return the columns that hold labels, and in words those that were left."""
    columns, classes, left, units = [], [], [], []
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
            classes += [header] if kind.kind == "words" else []
            left += {
                "words": [f"{header} ({_classes(kind)}; learn it with data.quantities=[{_name(header, where)}])"],
                "text": [f"{header} (text)"],
                "empty": [f"{header} (empty)"],
            }.get(kind.kind, [])
    if units:
        raise DataError(units[0])
    if not columns and len(classes) == 1:
        return classes, [one for one in left if not one.startswith(f"{classes[0]} (")]
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
        f"the header, as '{name} ({unit})', and numbers alone into the cells. If it is a class, say "
        f"data.define={{{_name(column, where)}: {{kind: class}}}}."
    )


def _classes(kind: Column) -> str:
    """Return how many classes a column has, and the first of them."""
    some = ", ".join(kind.classes[:_SHOWN]) + (", ..." if len(kind.classes) > _SHOWN else "")
    return f"{len(kind.classes)} classes: {some}"


def _require_labels(name: str, column: str, kind: Column, is_class: bool, where: str) -> None:
    """Raise DataError for a column that holds no labels: neither numbers, nor classes where ``is_class`` or words."""
    if kind.kind == "empty":
        raise DataError(f"{where}: column {column!r} is empty; give it labels, or name another column.")
    if is_class or kind.kind == "words":
        if not kind.classes:
            raise DataError(
                f"{where}: column {column!r} has more than {MOST_CLASSES} different words; a class has 2 to "
                f"{MOST_CLASSES}. Join some of them, or name another column with data.adapter.columns=[NAME]."
            )
        if len(kind.classes) < 2:
            raise DataError(
                f"{where}: every row of column {column!r} is {kind.classes[0]!r}; a class needs rows of two classes."
            )
    elif kind.kind == "unit":
        raise DataError(_of_unit(column, kind, where))
    elif kind.kind not in ("number", "comma"):
        raise DataError(
            f"{where}, line {kind.line}: column {column!r} has {kind.example[:40]!r}, which is no number; name a "
            "column of numbers with data.adapter.columns=[NAME], or say data.define={"
            f"{name}: {{kind: class}}}} if its words are classes."
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


def _about(name: str, column: str, kind: Column, wish: Wish, known: Quantities, where: str) -> Quantity:
    """Return the quantity in ``column``: as the user defines it, or known, or with the unit that the header states.

    The classes of a column of words, and of a class whose definition lists none, are those of the column.
    """
    stated = label_table.heading(column)[1]
    if name in wish.define:
        node = wish.define[name]
        if isinstance(node, Mapping) and node.get("unit") is None and not _is_class(name, wish, known):
            node = dict(node) | {"unit": known[name].unit if name in known else stated}
        about = defined(name, node, f"data.define.{name}")
        return _with_classes(about, kind) if about.is_class else _of_unit_stated(about, stated, column, where)
    if name in known and known[name].is_class:
        return _with_classes(known[name], kind)
    if kind.kind == "words":
        return defined(name, {"kind": "class", "classes": list(kind.classes)}, f"{where}: column {column!r}")
    if name in known:
        return _of_unit_stated(known[name], stated, column, where)
    return defined(name, {"unit": stated[:40], "scale": "auto"}, f"{where}: column {column!r}")


def _with_classes(about: Quantity, kind: Column) -> Quantity:
    """Return the class with the names of a column, unless it lists its own, or the column says 0 and 1, or so."""
    plain = {"0", "1", "true", "false"}
    if about.classes or {name.lower() for name in kind.classes} <= plain:
        return about
    return defined(about.name, described(about) | {"classes": list(kind.classes)})


def _of_unit_stated(about: Quantity, stated: str, column: str, where: str) -> Quantity:
    """Return ``about``; raise DataError if the header states another unit."""
    if stated and not same_unit(stated, about.unit):
        raise DataError(
            f"{where}: the header {column!r} says {stated}, but the quantity {about.name} is in "
            f"{about.unit or 'no stated unit'}; convert the column, or take it under another name, as "
            f"data.quantities=[my_{about.name}] data.adapter.columns=['{column}']."
        )
    return about


def _told(about: Quantity, column: str, kind: Column, wish: Wish, known: Quantities) -> str:
    """Return what was assumed of a quantity."""
    renamed = f" from column {column!r}" if column != about.name else ""
    if about.is_class:
        names = ", ".join(about.class_names[:_SHOWN]) + (", ..." if len(about.class_names) > _SHOWN else "")
        return f"{about.name}{renamed} is a class ({len(about.class_names)}: {names})"
    unit = f"in {about.unit}" if about.unit not in ("", "1") else "without a unit"
    if about.name in wish.define:
        source = "as data.define says"
    elif about.name in known:
        source = "as tltool knows it"
    else:
        source = "as its header says" if label_table.heading(column)[1] else "its header states none"
    hint = ""
    if about.name not in wish.define and about.name not in known and set(kind.classes) == {"0", "1"}:
        hint = f" (to learn 0 and 1 as classes, say data.define={{{about.name}: {{kind: class}}}})"
    return f"{about.name}{renamed} is a number {unit} ({source}), scale {about.scale}{hint}"


def told(table: str, how: Sequence[str], chosen: Chosen) -> str:
    """Return in one line what was assumed of a ``table`` and its labels, and ``how`` it is read; "" for nothing."""
    left = [f"not learnt: {', '.join(chosen.left)}"] if chosen.left else []
    reading = "; ".join(how)
    parts = ["; ".join([*chosen.told, *left]), reading[:1].upper() + reading[1:]]
    return f"{table}: {'. '.join(filter(None, parts))}." if chosen.told else ""
