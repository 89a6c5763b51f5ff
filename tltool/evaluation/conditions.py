"""Give the conditions of each row, such as its temperature, from the tags of the data to a model that reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tltool.data.batches.batches import Batches
from tltool.data.formats.rows.further_columns import unit_of
from tltool.data.store import Store
from tltool.errors import ConfigError, DataError
from tltool.model.property_model import PropertyModel
from tltool.model.surgery import conditions as surgery
from tltool.model.surgery.edit import copy_of
from tltool.quantities import same_unit


def wanted(description: Mapping[str, Any]) -> dict[str, str]:
    """Return the conditions {name: unit} of the settled ``description`` of a data set."""
    named = (description.get("adapter") or {}).get("conditions") or {}
    return {name: unit_of(header) for name, header in named.items()} if isinstance(named, Mapping) else {}


def refuse(description: Mapping[str, Any]) -> None:
    """Raise ConfigError for a ``description`` with conditions, which pretraining cannot use."""
    if named := wanted(description):
        raise ConfigError(f"data.conditions={list(named)}: pretraining takes none; name them in transfer alone.")


def taken_up(
    source: PropertyModel, data: Batches, records: Store, named: Mapping[str, str]
) -> tuple[PropertyModel, Batches]:
    """Return ``source`` with inputs for the conditions ``named`` {name: unit}, and ``data`` with those of each row.

    A source that has them already is the same; ``source`` itself is not changed. Raise ConfigError if it has others.
    """
    known = dict(source.spec.get(surgery.KEY) or {})
    if not known and not named:
        return source, data
    if known and set(known) != set(named):
        raise ConfigError(
            f"The source takes the conditions {', '.join(known)}, and data.conditions={list(named)} names others; name "
            "the same, or another source."
        )
    for name, unit in known.items():
        if not same_unit(unit, named[name]):
            raise DataError(
                f"The source has {name} in {unit or 'no stated unit'}, and the data have it in "
                f"{named[name] or 'no stated unit'}; convert the column."
            )
    data = placed(data, records, known or named)
    if not known and data.table.conditions is not None:
        source = copy_of(source)
        surgery.give(source, named, data.table.conditions[data.split["train"]])
    return source, data


def placed(data: Batches, records: Store, named: Mapping[str, str]) -> Batches:
    """Return ``data`` with the numbers (n, k) of the conditions ``named``; raise DataError if there are none."""
    if not named:
        return data
    for name in named:
        if name not in records.tags:
            raise DataError(
                f"The model takes {name} besides the crystal, and the data set "
                f"{records.attributes.get('name', '')!r} does not say it; name its column, with "
                f"data.conditions=[{name}]."
            )
    columns = np.stack([[float(word or "nan") for word in records.tags[name]] for name in named], axis=1)
    table = torch.from_numpy(columns).to(torch.get_default_dtype())
    return replace(data, table=replace(data.table, conditions=table))


def given(spec: Mapping[str, Any], numbers: Mapping[str, float]) -> list[float] | None:
    """Return the conditions that a model of ``spec`` takes from ``numbers`` {name: number}; None if none are given.

    Raise ConfigError if one is missing, is no number, or is not one that the model takes.
    """
    names = list(spec.get(surgery.KEY) or {})
    if not numbers:
        return None
    if set(names) != set(numbers):
        takes = "conditions={" + ", ".join(f"{name}: NUMBER" for name in names) + "}" if names else "no conditions="
        raise ConfigError(f"conditions={dict(numbers)} does not match the model; give {takes}.")
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not np.isfinite(number):
            raise ConfigError(f"conditions: {name}={number!r} must be a number.")
    return [float(numbers[name]) for name in names]


def missing(spec: Mapping[str, Any], root: object) -> str:
    """Return the sentence for a prediction without the conditions that a model of ``spec`` takes."""
    names: Sequence[str] = list(spec.get(surgery.KEY) or {})
    return (
        f"The model takes {' and '.join(names)} besides the crystal; put a table with columns file and "
        f"{', '.join(names)} beside the structures in {root}, or give conditions={{"
        f"{', '.join(f'{name}: NUMBER' for name in names)}}}."
    )
