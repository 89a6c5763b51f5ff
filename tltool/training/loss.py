"""Losses over the labels that are present, each quantity counting alike."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tltool.errors import ConfigError

KINDS = ("l1", "mse", "huber")


def loss(kind: str, values: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over quantities of the mean over present labels; both (c, q), NaN in ``targets`` = absent.

    ``kind``: ``l1``, ``mse`` or ``huber`` (quadratic below one spread). A quantity with no label here counts as 0.
    """
    if kind not in KINDS:
        raise ConfigError(f"fit.loss={kind!r} is not known; use {', '.join(KINDS)}.")
    present = torch.isfinite(targets)
    goal = torch.where(present, targets, values.detach())
    if kind == "l1":
        errors = (values - goal).abs()
    elif kind == "mse":
        errors = (values - goal).square()
    else:
        errors = F.huber_loss(values, goal, reduction="none")
    counts = present.sum(0)
    means = errors.sum(0) / counts.clamp_min(1)
    return means.sum() / (counts > 0).sum().clamp_min(1)
