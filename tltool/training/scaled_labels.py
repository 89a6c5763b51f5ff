"""Between labels and what a network is to give for them: the scalers of a fit, and the goals that they make."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tltool.data.batches.batches import Batches
from tltool.data.batches.tensor_table import evaluation_size
from tltool.errors import ConfigError
from tltool.model.property_model import PropertyModel
from tltool.model.scaler import ClassScaler, Scaler, composition, fit_scaler
from tltool.quantities import Quantity

_SCALER_ROWS = 200_000
_DECADES = 100.0
"""Largest over smallest label from which a quantity of scale ``auto`` is learnt as its logarithm."""


def scalers(data: Batches, reference: bool, scale: str) -> dict[str, Scaler | ClassScaler]:
    """Return a scaler for each quantity, fitted on the training rows only; of millions, on rows at equal intervals.

    ``reference`` and ``scale`` as in ``Settings``, for numbers; raises ConfigError for a label that has no logarithm.
    """
    rows = data.split["train"]
    rows = rows[:: -(-len(rows) // _SCALER_ROWS) or 1]
    parts = torch.split(rows, evaluation_size(data.table))
    fractions = torch.cat([composition(data.table.select(part)) for part in parts])
    logs, limits = logarithmic(data, scale), bounds(data, scale)
    empty = {name: Scaler(name in logs, limits.get(name)) for name in data.quantities}
    labels, weights = data.labels[rows], label_weights(data, empty)
    found: dict[str, Scaler | ClassScaler] = {}
    for k, (name, at) in enumerate(data.columns.items()):
        about, counts = data.known[name], None if weights is None else weights[rows, k]
        numbers = (labels[:, at.start], fractions, reference, name in logs, scale == "minmax", counts, limits.get(name))
        found[name] = ClassScaler(about.class_names) if about.is_class else fit_scaler(*numbers)
    return found


def bounds(data: Batches, scale: str) -> dict[str, tuple[float, float]]:
    """Return the bounds of each quantity that is learnt as its logit: of the scale ``logit``, unless ``scale`` is set.

    Differences from a base never are.
    """
    if scale != "auto" or data.base is not None:
        return {}
    abouts = [data.known[name] for name in data.number_columns]
    return {about.name: (about.least, about.most) for about in abouts if about.scale == "logit"}


def label_weights(data: Batches, scalers: Mapping[str, nn.Module]) -> Tensor | None:
    """Return (n, q): how much each label counts in training, 1 on average over the training rows; None if equally.

    It is ``data.weight`` of the row as it stands, or falls with the square of the standard deviation ``data.deviation``
    of the label on the scale that the ``scalers`` learn: of a logarithm the relative one. Then the mean over the
    training rows is 1. Raise ConfigError for a deviation of a class.
    """
    if data.weight is None and data.deviation is None:
        return None
    found = data.labels.new_ones(len(data.labels), len(data.quantities))
    if data.weight is not None:
        found = found * data.weight[:, None]
    if data.deviation is None:
        return found
    rows = data.split["train"]
    for k, (name, at) in enumerate(data.columns.items()):
        if data.known[name].is_class:
            raise ConfigError(f"data.uncertainty: {name} is a class, which has no uncertainty; use data.weight.")
        label = data.labels[:, at.start]
        deviation = data.deviation * scalers[name].steepness(label)  # type: ignore[operator]
        share = torch.where(torch.isfinite(label), deviation, torch.nan).square().reciprocal()
        found[:, k] *= torch.nan_to_num(share / share[rows].nanmean(), nan=1.0)
    return found


def logarithmic(data: Batches, scale: str) -> list[str]:
    """Return the quantities that are learnt as their logarithms; raise ConfigError for a label that has none."""
    labels = data.labels[data.split["train"]]
    return [name for name, k in data.number_columns.items() if _is_logarithmic(data, labels[:, k], name, scale)]


def _is_logarithmic(data: Batches, labels: Tensor, name: str, scale: str) -> bool:
    """Say whether quantity ``name``, with these training ``labels`` (r,), is learnt as its logarithm.

    Differences from a base never are by themselves.
    """
    if scale == "auto":
        return data.base is None and is_logarithmic(data.known.named(name), labels.cpu().numpy())
    if scale != "log":
        return False
    least = float(torch.nan_to_num(labels, nan=torch.inf).min())
    if least <= 0:
        raise ConfigError(
            f"fit.scale=log: {name} has a training label of {least:g}, and its logarithm does not exist; use "
            "fit.scale=auto."
        )
    return True


def is_logarithmic(about: Quantity, labels: npt.NDArray[Any]) -> bool:
    """Say whether training ``labels`` (r,) of a quantity are learnt as their logarithms with ``fit.scale=auto``."""
    there = labels[np.isfinite(labels)]
    if about.scale not in ("log", "auto") or not len(there) or there.min() <= 0:
        return False
    return about.scale == "log" or bool(there.max() >= _DECADES * there.min())


@torch.no_grad()
def goals_of(model: PropertyModel, data: Batches) -> Tensor:
    """Return (n, v): what the network should give for each training row, NaN elsewhere; the scaler does not change.

    Raises ConfigError for a label that has no logarithm where the model, by a head that it kept, learns logarithms.
    """
    goals = torch.full_like(data.labels, torch.nan)
    for batch in data.of("train", evaluation_size(data.table)):
        goals[batch.rows] = model.targets(batch.labels, batch.graph)
    lost = torch.isfinite(data.labels) & ~torch.isfinite(goals)
    for name, k in data.number_columns.items():
        rows = data.split["train"][lost[data.split["train"], k]]
        if len(rows):
            least = float(data.labels[rows[0], k])
            raise ConfigError(
                f"The source learnt the logarithm of {name}, and a training label is {least:g}, which has none; use "
                "mode.head=new, with fit.scale=linear."
            )
    return goals
