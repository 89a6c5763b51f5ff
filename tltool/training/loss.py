"""Compute losses over the labels that are present; by default, each quantity has the same weight.

Sizes: c crystals, q quantities, v columns of network values, of which a class of more than two has several.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tltool.data.batches.batches import Batches
from tltool.errors import ConfigError
from tltool.model import all_reduce
from tltool.model.property_model import PropertyModel
from tltool.model.scaler import ClassScaler

KINDS = ("l1", "mse", "huber")
_LEAST = 1e-12


class Group(NamedTuple):
    """The columns of a quantity, and whether it is a class."""

    at: slice
    is_class: bool


Groups = tuple[Group, ...] | None
"""The columns of each quantity; None where all are numbers, with a column each."""


def groups_of(data: Batches, model: PropertyModel) -> Groups:
    """Return the columns of the quantities of ``data``, those whose scaler in ``model`` is of a class as classes."""
    found = [Group(at, isinstance(model.scalers[name], ClassScaler)) for name, at in data.columns.items()]
    return tuple(found) if any(group.is_class for group in found) else None


def loss(kind: str, values: Tensor, targets: Tensor, weights: Tensor | None = None, groups: Groups = None) -> Tensor:
    """Return the mean over quantities of the mean loss over present labels, from (c, v); NaN in ``targets`` is absent.

    ``kind``: ``l1``, ``mse`` or ``huber`` (quadratic below one spread); of a class, the loss is the cross-entropy.
    ``weights`` (q,) make it a weighted mean over quantities. A quantity with no label here takes no part.
    """
    return mean(*by_quantity(kind, values, targets, groups), weights)


def mean(means: Tensor, there: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean of ``means`` (q,) over the quantities that are ``there`` (q,), by ``weights`` (q,) if given.

    Of several models at once, ``means`` and ``there`` are (s, q), and what comes back is (s,).
    """
    share = there if weights is None else there * weights
    return (means * share).sum(-1) / share.sum(-1).clamp_min(1e-12)


def weights_of(weights: dict[str, float] | None, data: Batches) -> Tensor | None:
    """Return the weight (q,) of each quantity in the loss, 1 if not in ``weights``; None for equal weights."""
    if not weights:
        return None
    for name in weights:
        if name not in data.quantities:
            raise ConfigError(
                f"fit.weights names {name}, which is not a quantity of this training; use {', '.join(data.quantities)}."
            )
    given = [weights.get(name, 1.0) for name in data.quantities]
    return torch.tensor(given, dtype=data.labels.dtype, device=data.labels.device)


def balanced(kind: str, means: Tensor, there: Tensor, log_scales: Tensor) -> Tensor:
    """Return the loss with learnt weights of the quantities, from the learnt noise of each.

    ``means`` L and ``there`` as of ``by_quantity``, s = ``log_scales`` (q,). It is the mean, over the quantities that
    are there, of exp(-s) L + s for ``l1``, where s is the log of the noise's mean size; of exp(-s) L / 2 + s / 2 for
    ``mse`` (L not halved for ``huber``, which has the half in it), where s is the log of its variance (Kendall and
    others, doi:10.1109/CVPR.2018.00781, eq. 7).
    """
    if kind == "l1":
        terms = torch.exp(-log_scales) * means + log_scales
    else:
        terms = torch.exp(-log_scales) * means * (0.5 if kind == "mse" else 1.0) + 0.5 * log_scales
    return (terms * there).sum() / there.sum().clamp_min(1)


def of_labels(
    kind: str, values: Tensor, targets: Tensor, groups: Groups = None, counts: Tensor | None = None
) -> Tensor:
    """Return the sum over present labels / (rows with a label * quantities); arguments as for ``by_quantity``.

    So every label counts alike, whatever its quantity, as in Devi and others, doi:10.1038/s41524-024-01486-1. A row
    counts as much as the label of it that counts most.
    """
    errors, present = _errors(kind, values, targets, groups)
    if counts is None:
        sums, rows = all_reduce.with_count(errors.sum(0), present.any(1).sum())
        return sums.sum() / (rows * present.shape[1]).clamp_min(1)
    sums, rows = all_reduce.with_count((errors * counts).sum(0), (present * counts).amax(1).sum())
    return sums.sum() / (rows * present.shape[1]).clamp_min(_LEAST)


def by_quantity(
    kind: str, values: Tensor, targets: Tensor, groups: Groups = None, counts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the mean loss over present labels of each quantity (q,), and 1 if it has a label, else 0 (q,).

    ``counts`` (c, q) says how much each label counts in the mean; None for equally much. Several processes, each with
    its rows of a batch, all get what the whole batch gives.
    """
    errors, present = _errors(kind, values, targets, groups)
    if counts is None:
        sums, total = all_reduce.with_count(errors.sum(0), present.sum(0))
        return sums / total.clamp_min(1), (total > 0).to(errors.dtype)
    sums, total = all_reduce.with_count((errors * counts).sum(0), (present * counts).sum(0))
    return sums / total.clamp_min(_LEAST), (total > 0).to(errors.dtype)


def _errors(kind: str, values: Tensor, targets: Tensor, groups: Groups) -> tuple[Tensor, Tensor]:
    """Return the loss of each label (c, q), 0 if absent, and whether it is present (c, q)."""
    if groups is None:
        return _of_numbers(kind, values, targets)
    pairs = [
        _of_class(values[:, group.at], targets[:, group.at])
        if group.is_class
        else _of_numbers(kind, values[:, group.at], targets[:, group.at])
        for group in groups
    ]
    return torch.cat([errors for errors, _ in pairs], dim=1), torch.cat([present for _, present in pairs], dim=1)


def _of_numbers(kind: str, values: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    if kind not in KINDS:
        raise ConfigError(f"fit.loss={kind!r} is not known; use {', '.join(KINDS)}.")
    present = torch.isfinite(targets)
    goal = torch.where(present, targets, values.detach())
    if kind == "l1":
        return (values - goal).abs(), present
    if kind == "mse":
        return (values - goal).square(), present
    return F.huber_loss(values, goal, reduction="none"), present


def _of_class(values: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy (c, 1) of the values (c, w) of a class, and whether there is a label (c, 1)."""
    present = torch.isfinite(targets[:, :1])
    goal = torch.where(present, targets, torch.zeros_like(targets))
    if values.shape[1] == 1:
        errors = F.binary_cross_entropy_with_logits(values, goal, reduction="none")
        return torch.where(present, errors, torch.zeros_like(errors)), present
    return -(goal * values.log_softmax(1)).sum(1, keepdim=True), present
