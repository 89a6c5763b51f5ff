"""What a mode predicts for the test rows of a fold, its labels beside it, and its error.

Sizes: t test rows of a fold, v columns of predictions (``Batches.columns``).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tltool.data.batches.batches import Batches
from tltool.data.record import Floats
from tltool.data.split_folds import Fold
from tltool.data.splits import Split
from tltool.evaluation import results
from tltool.evaluation.results import Predicted
from tltool.metrics import brier


class Outcome(NamedTuple):
    """What a mode predicts for the test rows of a ``fold``: (t, v) in the unit of each quantity, without a base.

    ``scale`` (t, v) is the standard deviation that the model gives (``uncertainty.scale_of``); rows are ``far`` (t,)
    from the training rows of the fold.
    """

    mode: str
    fold: Fold
    prediction: Floats
    scale: Floats
    far: npt.NDArray[np.bool_]
    seconds: float
    chosen: str | None = None


def fold_data(data: Batches, split: Split) -> Batches:
    """Return ``data`` with the rows of ``split`` in its parts."""
    return replace(data, split={name: torch.from_numpy(rows).to(data.labels.device) for name, rows in split.items()})


def predicted(data: Batches, outcome: Outcome) -> Predicted:
    """Return the out-of-fold predictions of one fold with their labels, the base added to both."""
    rows = torch.from_numpy(outcome.fold.split.test).to(data.labels.device)
    label = results.full_labels(data)[rows].cpu().double().numpy()
    base = None if data.base is None else data.base[rows].cpu().double().numpy()
    whole = outcome.prediction if base is None else outcome.prediction + base
    return Predicted("test", outcome.fold.split.test, label, whole, base)


def joined(parts: Sequence[Predicted]) -> Predicted:
    """Return the predictions of several folds as those of one part."""
    base = None if parts[0].base is None else np.concatenate([one.base for one in parts if one.base is not None])
    rows, label, prediction = (
        np.concatenate([getattr(one, key) for one in parts]) for key in ("rows", "label", "prediction")
    )
    return Predicted("test", rows, label, prediction, base)


def error(data: Batches, outcome: Outcome, name: str) -> float:
    """Return the MAE of a quantity, or the Brier score of a class; NaN without a label."""
    one, at = predicted(data, outcome), data.columns[name]
    label, prediction = one.label[:, at], one.prediction[:, at]
    errors = brier(prediction, label) if data.known[name].is_class else np.abs(prediction - label)[:, 0]
    known = np.isfinite(errors)
    return float(errors[known].mean()) if known.any() else float("nan")
