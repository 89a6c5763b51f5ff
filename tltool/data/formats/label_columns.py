"""Convert cells to labels, or say why they are none, and build records; all adapters read labels here.

An empty cell is no label. A cell with anything other than a number is counted and never guessed: ``1_0``, ``1,5``,
``1.5 eV`` and ``1.5(2)`` are not numbers. Of a class, the label is the place of the cell's word
among its classes. ``quantities.py`` has the limits of each quantity.
"""

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from tltool.data.record import Crystal, Dropped, Record
from tltool.errors import ConfigError
from tltool.quantities import Quantities, Quantity, class_word, shipped

_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?inf(?:inity)?", re.IGNORECASE)
_COMMA = re.compile(r"[-+]?[0-9.]+(?:,[0-9]+)+(?:[eE][-+]?[0-9]+)?")
_MINUS = "\N{MINUS SIGN}"
_MISSING = {"", "nan", "-nan", "+nan", "na", "n/a", "#n/a", "null", "none", "-", "--", "?"}
_CLASSES = {"true": 1.0, "false": 0.0}
_NOT = "not a number"
_SHOWN = 6  # classes in a message


class Columns(NamedTuple):
    """Where things stand: ``labels`` {quantity: column}, ``tags`` {tag: column}, and what to do with the labels.

    ``per_cell`` quantities are divided by the number of sites; a label beyond ``largest``, of either sign, is wrong.
    ``known`` has the definitions of the quantities.
    """

    labels: Mapping[str, str]
    tags: Mapping[str, str]
    per_cell: frozenset[str]
    largest: Mapping[str, float]
    known: Quantities


class Labels(NamedTuple):
    """What a row says of each quantity: its label, or (why not, what stands there); nothing of an empty cell."""

    good: dict[str, float]
    bad: dict[str, tuple[str, str]]


def columns(
    labels: list[str],
    columns: list[str] | None,
    per_cell: list[str],
    largest: Mapping[str, float],
    tags: Mapping[str, str],
    known: Quantities | None = None,
) -> Columns:
    """Return the keys of an adapter's YAML as one value; raise ConfigError where they do not go together.

    ``known`` are the quantities that may be named: those that ship, unless given. Without ``columns`` they are called
    as the labels.
    """
    known = shipped() if known is None else known
    columns = list(labels) if columns is None else columns
    if not labels or len(set(labels)) != len(columns) or len(labels) != len(columns):
        raise ConfigError(
            f"data.adapter.labels={labels} and data.adapter.columns={columns} must name one column for each quantity."
        )
    named = {known.named(name).name: column for name, column in zip(labels, columns, strict=True)}
    for key, names in (("per_cell", per_cell), ("largest", largest)):
        for name in names:
            if name not in named:
                raise ConfigError(
                    f"data.adapter.{key} names {name!r}, which is not one of the labels {', '.join(named)}."
                )
    for name in per_cell:
        if known[name].per != "atom":
            raise ConfigError(f"data.adapter.per_cell names {name!r}, whose unit {known[name].unit} is not per atom.")
    for name, limit in largest.items():
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 < limit < math.inf:
            raise ConfigError(f"data.adapter.largest: {name}={limit!r} must be a number above zero.")
    return Columns(named, tags, frozenset(per_cell), largest, known)


def names(wanted: Columns) -> list[str]:
    """Return all columns that hold a label or a tag."""
    return [*wanted.labels.values(), *wanted.tags.values()]


def labels(found: Mapping[str, Any], known: Quantities | None = None, /) -> Labels:
    """Return what the cells ``found`` {quantity: cell} say, as they stand there; ``known`` as in ``columns``."""
    said = Labels({}, {})
    known = shipped() if known is None else known
    for name, cell in found.items():
        try:
            value = _label(cell, known.named(name))
        except ValueError as error:
            said.bad[name] = str(error), _shown(cell)
        else:
            if value is not None:
                said.good[name] = value
    return said


def unlabelled(name: str, said: Labels, where: str = "") -> Dropped | None:
    """Return why a record of that id is left out for want of a label, with ``where`` and what stands there, or None."""
    if said.good:
        return None
    for key, (why, cell) in said.bad.items():
        return Dropped(name, f"{key} is {why}", f"{where}: {cell}" if where else cell)
    return Dropped(name, "no label")


def record(name: str, crystal: Crystal, said: Labels, tags: Mapping[str, str], where: str = "") -> Record | Dropped:
    """Return the record of what is ``said``, or why it is left out; the tag ``without`` says which labels it lost."""
    lost = [f"{key}: {why}" for key, (why, _) in said.bad.items()]
    return unlabelled(name, said, where) or Record(name, crystal, said.good, _less(tags, lost))


def converted(
    name: str, crystal: Crystal, said: Labels, tags: Mapping[str, Any], wanted: Columns, where: str = ""
) -> Record | Dropped:
    """Return ``record`` with labels and the cells ``tags`` as ``wanted`` has them; the tag ``mat_id`` is the id.

    Dropped if a label is beyond ``wanted.largest``.
    """
    n = len(crystal.numbers)
    good = {key: value / n if key in wanted.per_cell else value for key, value in said.good.items()}
    for key, limit in wanted.largest.items():
        if abs(good.get(key, 0.0)) > limit:
            return Dropped(name, f"{key} beyond {limit:g}{wanted.known[key].in_unit}", f"{good[key]:g}")
    words = {"mat_id": name} | {tag: text(cell) for tag, cell in tags.items()}
    return record(name, crystal, said._replace(good=good), {tag: word for tag, word in words.items() if word}, where)


def within(item: Record | Dropped, known: Quantities | None = None) -> Record | Dropped:
    """Return ``item`` without labels that are not finite or that the quantity cannot be; Dropped if none is left.

    ``known`` as in ``columns``.
    """
    known = shipped() if known is None else known
    if isinstance(item, Dropped):
        return item
    lost = {name: why for name, value in item.labels.items() if (why := _beyond(value, known.get(name)))}
    if lost and len(lost) == len(item.labels):
        name, why = next(iter(lost.items()))
        return Dropped(item.id, f"{name} is {why}", f"{item.labels[name]:g}")
    kept = {name: value for name, value in item.labels.items() if name not in lost}
    return item._replace(labels=kept, tags=_less(item.tags, [f"{k}: {w}" for k, w in lost.items()])) if lost else item


def is_number(cell: str) -> bool:
    """Say whether the text of a cell is a number."""
    return bool(_NUMBER.fullmatch(cell.strip().replace(_MINUS, "-")))


def is_missing(cell: str) -> bool:
    """Say whether a cell is empty, or has one of the words for a missing number."""
    return cell.strip().lower() in _MISSING


def is_numeric(cell: str) -> bool:
    """Say whether the text of a cell is a number, or one of the words for a missing one."""
    return is_number(cell) or (is_missing(cell) and bool(cell.strip()))


def decimal_point(cell: str) -> str:
    """Return the text of a cell that has a decimal comma with a point in its place."""
    return cell.replace(",", ".", 1)


def text(found: Any) -> str:
    """Return what stands in a cell as a word, empty for null and NaN; a whole number has no decimals."""
    if found is None or (isinstance(found, float) and math.isnan(found)):
        return ""
    # A column of whole numbers with a gap is one of floats to pandas; 12.0 is the 12 that a CSV has.
    whole = isinstance(found, float) and found.is_integer() and abs(found) < 1 << 53
    return str(int(found)) if whole else str(found).strip()


def _label(cell: Any, wanted: Quantity) -> float | None:
    """Return the number in a cell, None for an empty one; raise ValueError that says what it is instead."""
    if cell is None:
        return None
    if wanted.classes:
        return _class(text(cell), wanted)
    if isinstance(cell, str):
        return _from_text(cell.strip(), wanted)
    if isinstance(cell, (bool, np.bool_)):
        if wanted.is_class:
            return float(cell)
        raise ValueError(_NOT)
    if not isinstance(cell, (int, float, Decimal, np.integer, np.floating)):
        raise ValueError(_NOT)
    try:
        value = float(cell)
    except OverflowError:
        value = math.inf
    if math.isinf(value):
        raise ValueError("infinite")
    return None if math.isnan(value) else value


def _class(cell: str, wanted: Quantity) -> float | None:
    """Return the place of a word among the classes; a word such as none is missing unless it is one of them."""
    word = class_word(cell)
    if word in wanted.classes:
        return float(wanted.classes.index(word))
    if is_missing(cell):
        return None
    shown = ", ".join(wanted.classes[:_SHOWN]) + (", ..." if len(wanted.classes) > _SHOWN else "")
    raise ValueError(f"none of its classes ({shown})")


def _from_text(word: str, wanted: Quantity) -> float | None:
    if word.lower() in _MISSING:
        return None
    if wanted.is_class and word.lower() in _CLASSES:
        return _CLASSES[word.lower()]
    plain = word.replace(_MINUS, "-")
    if _NUMBER.fullmatch(plain):
        value = float(plain)
        if math.isinf(value):
            raise ValueError("infinite")
        return value
    if _INFINITE.fullmatch(plain):
        raise ValueError("infinite")
    if _COMMA.fullmatch(plain):
        raise ValueError(f"{_NOT}: it has a comma; write a point as the decimal separator")
    if _NUMBER.match(plain):
        raise ValueError(f"{_NOT} alone: more stands behind it")
    raise ValueError(_NOT)


def _beyond(value: float, about: Quantity | None) -> str:
    """Say why ``value`` cannot be a label of the quantity, empty if it can."""
    if not math.isfinite(value):
        return "infinite" if math.isinf(value) else _NOT
    if about is None:
        return ""
    if about.is_class:
        there = value in range(len(about.class_names))
        return "" if there else "neither 0 nor 1" if not about.classes else "none of its classes"
    return "" if about.least <= value <= about.most else f"beyond {about.least:g} to {about.most:g}{about.in_unit}"


def _less(tags: Mapping[str, str], lost: list[str]) -> dict[str, str]:
    before = [tags["without"]] if tags.get("without") else []
    return dict(tags) | ({"without": ", ".join(before + lost)} if lost else {})


def _shown(cell: Any) -> str:
    shown = repr(cell)
    return shown if len(shown) <= 42 else f"{shown[:40]}..."
