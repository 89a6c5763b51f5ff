"""Give numbers of the whole crystal, such as its charge, from the tags of the data to the encoder's state.

The numbers are not scaled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tltool.data.batches.batches import Batches
from tltool.data.record import Floats, Ints
from tltool.data.store import Store
from tltool.errors import ConfigError, DataError


def encoder_with(encoder: Mapping[str, Any], tags: Sequence[str]) -> dict[str, Any]:
    """Return the YAML node ``encoder`` with the state inputs ``tags``; raise ConfigError if it has no state."""
    if not tags:
        return dict(encoder)
    if "state_inputs" not in encoder:
        raise ConfigError(f"state={list(tags)}: {encoder['_target_']} has no state inputs; use encoder=megnet.")
    return dict(encoder) | {"state_inputs": len(tags)}


def placed(data: Batches, records: Store, spec: Mapping[str, Any]) -> Batches:
    """Return ``data`` with the numbers (n, k) of the tags that a model's ``spec`` names under ``state``.

    Raise DataError if the data set does not have a tag, or if the tag of a used row is not a number.
    """
    tags = list(spec.get("state") or [])
    if not tags:
        return data
    rows = data.rows().cpu().numpy()
    columns = np.stack([_column(records, tag, rows) for tag in tags], axis=1)
    return replace(data, table=replace(data.table, state=torch.from_numpy(columns).to(torch.get_default_dtype())))


def given(spec: Mapping[str, Any], state: Mapping[str, float]) -> list[float]:
    """Return the numbers that a model of ``spec`` takes, from ``state`` {tag: number}, the same for all crystals.

    Raises ConfigError if one is missing, or one is given that the model does not take.
    """
    tags = list(spec.get("state") or [])
    if set(tags) != set(state):
        takes = "state={" + ", ".join(f"{tag}: NUMBER" for tag in tags) + "}" if tags else "no state="
        raise ConfigError(f"state={dict(state)} does not match the model; give {takes}.")
    for tag, number in state.items():
        if not isinstance(number, (int, float)) or not np.isfinite(number):
            raise ConfigError(f"state: {tag}={number!r} must be a number.")
    return [float(state[tag]) for tag in tags]


def _column(records: Store, tag: str, rows: Ints) -> Floats:
    if tag not in records.tags:
        has = ", ".join(sorted(records.tags)) or "none"
        raise DataError(
            f"The data set {records.attributes.get('name', '')!r} has no tag {tag!r} (tags: {has}); add its column to "
            "data.adapter.tags."
        )
    words, found = records.tags[tag], np.full(len(records), np.nan)
    for row in rows.tolist():
        try:
            found[row] = float(words[row])
        except ValueError:
            found[row] = np.nan
        if not np.isfinite(found[row]):
            raise DataError(
                f"{records.ids[row]}: the tag {tag} is {words[row]!r}, which is not a number; correct or remove the "
                "row."
            )
    return found
