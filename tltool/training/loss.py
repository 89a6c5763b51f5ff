"""Compute losses over the labels that are present; by default, each quantity has the same weight."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tltool.data.batches.batches import Batches
from tltool.errors import ConfigError
from tltool.model import all_reduce

KINDS = ("l1", "mse", "huber")


def loss(kind: str, values: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean over quantities of the mean loss over present labels, from (c, q); NaN in ``targets`` is absent.

    ``kind``: ``l1``, ``mse`` or ``huber`` (quadratic below one spread). ``weights`` (q,) make it a weighted mean over
    quantities. A quantity with no label here takes no part.
    """
    return mean(*by_quantity(kind, values, targets), weights)


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


def of_labels(kind: str, values: Tensor, targets: Tensor) -> Tensor:
    """Return the sum over present labels / (rows with a label * quantities); arguments as for ``loss``.

    So every label counts alike, whatever its quantity, as in Devi and others, doi:10.1038/s41524-024-01486-1.
    """
    errors, present = _errors(kind, values, targets)
    sums, rows = all_reduce.with_count(errors.sum(0), present.any(1).sum())
    return sums.sum() / (rows * targets.shape[1]).clamp_min(1)


def by_quantity(kind: str, values: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean loss over present labels of each quantity (q,), and 1 if it has a label, else 0 (q,).

    Several processes, each with its rows of a batch, all get what the whole batch gives.
    """
    errors, present = _errors(kind, values, targets)
    sums, counts = all_reduce.with_count(errors.sum(0), present.sum(0))
    return sums / counts.clamp_min(1), (counts > 0).to(errors.dtype)


def _errors(kind: str, values: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of each label (c, q), 0 if absent, and whether it is present (c, q)."""
    if kind not in KINDS:
        raise ConfigError(f"fit.loss={kind!r} is not known; use {', '.join(KINDS)}.")
    present = torch.isfinite(targets)
    goal = torch.where(present, targets, values.detach())
    if kind == "l1":
        return (values - goal).abs(), present
    if kind == "mse":
        return (values - goal).square(), present
    return F.huber_loss(values, goal, reduction="none"), present
