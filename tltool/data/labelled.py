"""A crystal and a row of named values -> a record: which column is which quantity, tag or id, and what is too large.

Shared by the adapters of tables and of databases, which differ in how they come by the row and the crystal.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tltool.data.record import Crystal, Dropped, Record
from tltool.data.rows import Row, value
from tltool.errors import ConfigError
from tltool.quantities import quantity


class Columns(NamedTuple):
    """Where things stand: ``labels`` {quantity: column}, ``tags`` {tag: column}, and what to do with the labels.

    ``per_cell`` quantities are divided by the number of sites; a label beyond ``largest``, of either sign, is wrong.
    """

    labels: Mapping[str, str]
    tags: Mapping[str, str]
    per_cell: frozenset[str]
    largest: Mapping[str, float]


def columns(
    labels: list[str], columns: list[str], per_cell: list[str], largest: Mapping[str, float], tags: Mapping[str, str]
) -> Columns:
    """Return the keys of an adapter's YAML as one value; raise ConfigError where they do not go together."""
    if not labels or len(set(labels)) != len(columns) or len(labels) != len(columns):
        raise ConfigError(
            f"data.adapter.labels={labels} and data.adapter.columns={columns} must name one column for each quantity."
        )
    named = {quantity(name).name: column for name, column in zip(labels, columns, strict=True)}
    for key, names in (("per_cell", per_cell), ("largest", largest)):
        for name in names:
            if name not in named:
                raise ConfigError(
                    f"data.adapter.{key} names {name!r}, which is not one of the labels {', '.join(named)}."
                )
    for name in per_cell:
        if not quantity(name).unit.endswith("/atom"):
            raise ConfigError(
                f"data.adapter.per_cell names {name!r}, whose unit {quantity(name).unit} is not per atom."
            )
    for name, limit in largest.items():
        if not number(limit) or limit <= 0:
            raise ConfigError(f"data.adapter.largest: {name}={limit!r} must be a number above zero.")
    return Columns(named, tags, frozenset(per_cell), largest)


def names(wanted: Columns) -> list[str]:
    """Return all columns that hold a label or a tag."""
    return [*wanted.labels.values(), *wanted.tags.values()]


def numbers(row: Row, wanted: Columns) -> dict[str, float]:
    """Return the labels that ``row`` has, as they stand there; null, NaN, infinity and words are no label."""
    found = {name: number(value(row, column)) for name, column in wanted.labels.items()}
    return {name: label for name, label in found.items() if label is not None}


def record(name: str, crystal: Crystal, labels: Mapping[str, float], row: Row, wanted: Columns) -> Record | Dropped:
    """Return the record of ``labels`` (from ``numbers``) with the tags of ``row``, or why it is left out.

    The tag ``mat_id``, by which data sets are joined, is the id unless ``wanted`` names a column for it.
    """
    n = len(crystal.numbers)
    scaled = {key: label / n if key in wanted.per_cell else label for key, label in labels.items()}
    for key, limit in wanted.largest.items():
        if abs(scaled.get(key, 0.0)) > limit:
            return Dropped(name, f"{key} beyond {limit:g} {quantity(key).unit}")
    words = {"mat_id": name} | {tag: text(value(row, column)) for tag, column in wanted.tags.items()}
    return Record(name, crystal, scaled, {tag: word for tag, word in words.items() if word})


def number(found: Any) -> float | None:
    """Return a finite number, or None for anything else."""
    if isinstance(found, (bool, np.bool_, np.ndarray)):
        return None
    try:
        result = float(found)
    except (TypeError, ValueError):
        return None
    return result if math.isfinite(result) else None


def text(found: Any) -> str:
    """Return what stands in a cell as a word, empty for null and NaN."""
    missing = found is None or (isinstance(found, float) and math.isnan(found))
    return "" if missing else str(found).strip()
