"""Cross-validation inside the training rows: the error of each candidate on unseen rows, and the choice."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from tltool import metrics
from tltool.data.batches.batches import Batches
from tltool.data.record import Floats
from tltool.training.fit import Settings

_LEAST_WEIGHT = 0.05
"""Share of the weight of the best candidate below which a candidate is not worth its fit."""


class Standing(NamedTuple):
    """Mean error of a candidate and its standard error; its difference to the best, and the standard error of that."""

    error: float
    standard_error: float
    behind: float
    behind_standard_error: float


def cut(data: Batches, settings: Settings, folds: int, seed: int) -> Iterator[tuple[Batches, torch.Tensor]]:
    """Yield, for each fold, ``data`` with this fold as test and the others as train, and the indices of its rows.

    Rows of one crystal are in one fold. Only training rows of ``data`` are in these two parts; its test rows are in
    none. Its validation rows keep their part where ``settings`` select or stop by it, as the outer fit will; they are
    never counted as an error.
    """
    rows = data.split["train"]
    generator = torch.Generator().manual_seed(seed)
    unit = torch.arange(len(rows))
    if data.crystal is not None:
        unit = torch.unique(data.crystal.to(rows.device)[rows], return_inverse=True)[1].cpu()
    order = torch.randperm(int(unit.max()) + 1, generator=generator)
    stops = settings.select == "best" or settings.patience is not None
    val = data.split["val"] if stops else rows[:0]
    for k in range(folds):
        held = torch.zeros(len(rows), dtype=torch.bool)
        held[torch.isin(unit, order[k::folds])] = True
        where = held.to(rows.device)
        yield replace(data, split={"train": rows[~where], "val": val, "test": rows[where]}), held


def row_errors(predictions: Floats, data: Batches) -> Floats:
    """Return (r,): the error of ``predictions`` (r, v) for the training rows, the mean over labels of |error| / MAD.

    MAD is that of each quantity over the training rows; 1 stands for what always predicting the mean does. Of a class,
    the error is the Brier score, and 1 stands for what always predicting the shares of the classes does.
    """
    labels = data.labels[data.split["train"]].double().cpu().numpy()
    total, count = np.zeros(len(labels)), np.zeros(len(labels))
    for name, at in data.columns.items():
        label, prediction = labels[:, at], predictions[:, at]
        present = np.isfinite(label[:, 0])
        mean = label[present].mean(axis=0) if present.any() else np.zeros(label.shape[1])
        one = metrics.brier if data.known[name].is_class else _absolute
        usual = one(np.broadcast_to(mean, label.shape), label)[present]
        scale = usual.mean() if present.any() and usual.mean() > 0 else 1.0
        total += np.where(present, one(prediction, label) / scale, 0.0)
        count += present
    found: Floats = total / count.clip(1)
    return found


def _absolute(prediction: Floats, label: Floats) -> Floats:
    found: Floats = np.abs(prediction - label)[:, 0]
    return found


def standings(errors: Mapping[str, Floats]) -> dict[str, Standing]:
    """Return the standing of each candidate from its errors (n,) on the same rows; the difference of the best is 0."""
    best = min(errors.values(), key=lambda found: float(found.mean()))
    return {name: Standing(*_mean(found), *_mean(found - best)) for name, found in errors.items()}


def weights(found: Mapping[str, Standing], tolerance: float, most: int) -> dict[str, float]:
    """Return the weight of each candidate in the mean, the best first; those below a twentieth of its weight get none.

    The weight falls by a factor e for each ``tolerance``, as a share of the error of the best, that a candidate is
    behind it. At most ``most`` candidates have one, and with a tolerance of 0 the best alone. On exponential
    weights see Dalalyan and Tsybakov, Machine Learning 72, 39 (2008).
    """
    names = sorted(found, key=lambda name: found[name].error)[:most]
    best = found[names[0]].error
    behind = np.array([found[name].error / best - 1.0 if best > 0 else float(found[name].error > 0) for name in names])
    shares = np.exp(-behind / tolerance) if tolerance > 0 else (np.arange(len(names)) == 0).astype(float)
    shares = np.where(shares < _LEAST_WEIGHT, 0.0, shares)
    return {name: float(share) for name, share in zip(names, shares / shares.sum(), strict=True) if share > 0}


def hopeless(errors: Floats, best: Floats, errors_apart: float = 3.0) -> bool:
    """Return whether ``errors`` on some rows are larger than those of the ``best`` by several standard errors."""
    behind, standard_error = _mean(errors - best)
    return behind > errors_apart * standard_error


def _mean(values: Floats) -> tuple[float, float]:
    """Return the mean and its standard error."""
    n = len(values)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
