"""What a user's table says of a row besides its labels: how much it counts, and under which conditions it was measured.

A weight counts as so many equal rows. An uncertainty is the standard deviation of the labels of a row, in their unit.
Conditions, such as a temperature, are numbers that a model takes in addition to the crystal: rows of one crystal under
different conditions are different records, with ids such as ``NaCl@300``, and the tag ``CRYSTAL`` says what they share.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tltool.data.formats import label_choice, label_columns, label_table
from tltool.errors import ConfigError, DataError
from tltool.quantities import name_of

WEIGHT, DEVIATION, CRYSTAL = "row_weight", "row_deviation", "row_crystal"
"""Tags of a record: its weight, the standard deviation of its labels, and the id of its crystal."""


class Further(NamedTuple):
    """The columns: of ``weight`` or ``uncertainty``, None without, and of conditions {name: column}."""

    weight: str | None
    uncertainty: str | None
    conditions: Mapping[str, str]

    @property
    def columns(self) -> list[str]:
        """All columns."""
        return [column for column in (self.weight, self.uncertainty) if column] + list(self.conditions.values())


class Beside(NamedTuple):
    """What the cells of a row say: ``weight`` and ``deviation``, NaN without, conditions, or why they say nothing."""

    weight: float
    deviation: float
    conditions: tuple[float, ...]
    fault: str

    @property
    def suffix(self) -> str:
        """What the id of the row has after that of its crystal: @ and the conditions, or nothing."""
        return "@" + ",".join(f"{value:.15g}" for value in self.conditions) if self.conditions else ""


def further(
    weight: str | None, uncertainty: str | None, conditions: Sequence[str] | Mapping[str, str] | None
) -> Further:
    """Return the keys of a data YAML as one value; raise ConfigError for a weight and an uncertainty at once."""
    if weight is not None and uncertainty is not None:
        raise ConfigError(
            f"data.weight={weight} and data.uncertainty={uncertainty} both say how much a row counts; leave one out."
        )
    named = conditions if isinstance(conditions, Mapping) else {str(name): str(name) for name in conditions or ()}
    return Further(weight, uncertainty, dict(named))


def settled(node: Mapping[str, Any], headers: Sequence[str], where: str) -> dict[str, Any]:
    """Return the keys of an adapter's ``node`` with the ``headers`` of the table ``where`` that they mean.

    Conditions are then {name: header}. Raise DataError for a column that is not there, ConfigError for two conditions
    of one name.
    """
    wanted = further(node.get("weight"), node.get("uncertainty"), node.get("conditions"))
    if not wanted.columns:
        return {"weight": None, "uncertainty": None, "conditions": {}}

    def found(column: str | None) -> str | None:
        return None if column is None else label_choice.column_called(column, headers, where)

    conditions: dict[str, str] = {}
    for column in wanted.conditions.values():
        header = label_choice.column_called(column, headers, where)
        name = name_of(label_table.heading(header)[0]) or "condition"
        if name in conditions:
            raise ConfigError(f"data.conditions: two columns of {where} are called {name}; rename one of them.")
        conditions[name] = header
    return {"weight": found(wanted.weight), "uncertainty": found(wanted.uncertainty), "conditions": conditions}


def unit_of(header: str) -> str:
    """Return the unit that the ``header`` of a condition states, "" without one."""
    return label_table.heading(header)[1]


def beside(cells: Mapping[str, Any], wanted: Further) -> Beside:
    """Return what ``cells`` {column: cell} of a row say of the columns ``wanted``, as numbers."""
    try:
        weight = _number(cells[wanted.weight], "weight", 0.0) if wanted.weight else math.nan
        deviation = _number(cells[wanted.uncertainty], "uncertainty") if wanted.uncertainty else math.nan
        if deviation == 0:
            raise ValueError("its uncertainty is zero")
        conditions = tuple(_number(cells[column], name, -math.inf) for name, column in wanted.conditions.items())
    except ValueError as error:
        return Beside(math.nan, math.nan, (), str(error))
    return Beside(weight, deviation, conditions, "")


def tags(name: str, found: Beside, wanted: Further) -> dict[str, str]:
    """Return the tags of the record of the crystal ``name``."""
    numbers = {WEIGHT: found.weight, DEVIATION: found.deviation}
    numbers |= dict(zip(wanted.conditions, found.conditions, strict=False))
    words = {tag: f"{value:.15g}" for tag, value in numbers.items() if not math.isnan(value)}
    return words | ({CRYSTAL: name} if wanted.conditions else {})


def told(wanted: Further) -> list[str]:
    """Return in words what the columns are taken for."""
    found = [f"rows count by column {wanted.weight!r}"] if wanted.weight else []
    found += [f"uncertainties in column {wanted.uncertainty!r}"] if wanted.uncertainty else []
    columns = ", ".join(map(repr, wanted.conditions.values()))
    return found + ([f"conditions in column{'s' * (len(wanted.conditions) > 1)} {columns}"] if columns else [])


def require_different(wanted: Further, others: Sequence[str], where: str) -> None:
    """Raise DataError if a column is also one of the ``others``, which hold ids or labels."""
    for column in wanted.columns:
        if column in others:
            raise DataError(
                f"{where}: column {column!r} cannot be a weight, an uncertainty or a condition and also an id or a "
                "label; name another column."
            )


def _number(cell: Any, name: str, least: float = 0.0) -> float:
    word = label_columns.text(cell)
    if label_columns.is_missing(word):
        raise ValueError(f"no {name}")
    if not label_columns.is_number(word):
        raise ValueError(f"its {name} is not a number")
    value = float(word.replace("\N{MINUS SIGN}", "-"))
    if not math.isfinite(value):
        raise ValueError(f"its {name} is infinite")
    if value < least:
        raise ValueError(f"its {name} is below zero")
    return value
