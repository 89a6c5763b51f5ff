"""Replace trunk and head of a model by a scikit-learn estimator on the features of a frozen encoder."""

import inspect
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

_LEAST = 1e-6
"""Probability that stands for less, so that its logarithm is finite."""


class Standardise(nn.Module):
    """A trunk that standardises each feature to mean 0 and standard deviation 1. (c, dim) -> (c, dim)."""

    mean: Tensor
    spread: Tensor

    def __init__(self, dim: int, /) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(dim))

    def reset_parameters(self) -> None:
        """Reset to mean 0 and standard deviation 1."""
        self.mean.zero_()
        self.spread.fill_(1.0)

    def fit(self, rows: Tensor, weights: Tensor | None = None) -> None:
        """Fit mean and standard deviation on ``rows`` (r, dim); a constant feature is only centred.

        ``weights`` (r,) of the rows; None for equal weights.
        """
        if weights is None:
            mean, spread = rows.mean(0), rows.std(0, correction=0)
        else:
            share = weights / weights.sum()
            mean = share @ rows
            spread = (share @ (rows - mean).square()).sqrt()
        self.mean.copy_(mean)
        self.spread.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))

    def forward(self, rows: Tensor) -> Tensor:
        """Standardise ``rows`` (c, dim)."""
        return (rows - self.mean) / self.spread


class FixedHead(nn.Module):
    """A head that is fitted at once: it gives no gradient, and cannot be trained on."""


class EstimatorHead(FixedHead):
    """A fitted estimator as a head: (c, dim) -> (c, 1), computed on the CPU, with no gradient."""

    def __init__(self, estimator: Any) -> None:
        super().__init__()
        self.estimator = estimator

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the estimator's predictions (c, 1)."""
        values = self.estimator.predict(hidden.detach().cpu().double().numpy())
        return torch.as_tensor(np.asarray(values), dtype=hidden.dtype, device=hidden.device).reshape(-1, 1)

    @property
    def gives_spread(self) -> bool:
        """Whether the estimator says how uncertain a prediction is, as a Gaussian process does."""
        return "return_std" in inspect.signature(self.estimator.predict).parameters

    def spread(self, hidden: Tensor) -> npt.NDArray[np.float64]:
        """Return (c,): the standard deviation of each prediction, noise included where the estimator has it."""
        rows = hidden.detach().cpu().double().numpy()
        return np.asarray(self.estimator.predict(rows, return_std=True)[1], dtype=np.float64).reshape(-1)


class ClassifierHead(EstimatorHead):
    """A fitted classifier of ``n_classes``, numbered from 0, as a head: (c, dim) -> log-odds (c, 1), or logs (c, w)."""

    def __init__(self, estimator: Any, n_classes: int) -> None:
        super().__init__(estimator)
        self.n_classes = n_classes

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the log-odds (c, 1) of the second of two classes, or the logarithms of probabilities (c, w)."""
        found = probabilities(self.estimator, hidden.detach().cpu().double().numpy(), self.n_classes)
        logs = np.log(np.clip(found, _LEAST, 1.0))
        values = logs if self.n_classes > 2 else logs[:, 1:] - logs[:, :1]
        return torch.as_tensor(values, dtype=hidden.dtype, device=hidden.device)

    @property
    def gives_spread(self) -> bool:
        """A classifier gives probabilities and no standard deviation."""
        return False


def probabilities(estimator: Any, rows: npt.NDArray[np.float64], n_classes: int) -> npt.NDArray[np.float64]:
    """Return (r, k): what a fitted classifier says of each of ``n_classes``; 0 for one that it was not shown."""
    found = np.zeros((len(rows), n_classes))
    found[:, np.asarray(estimator.classes_, dtype=np.int64)] = estimator.predict_proba(rows)
    return found


def as_head(estimator: Any, width: int) -> nn.Module:
    """Return a fitted ``estimator`` on ``width`` features as a head: an ordinary linear map if it is linear."""
    weight = getattr(estimator, "coef_", None)
    if weight is None or np.size(weight) != width or not hasattr(estimator, "intercept_"):
        return EstimatorHead(estimator)
    head = nn.Linear(width, 1)
    with torch.no_grad():
        head.weight.copy_(torch.as_tensor(np.reshape(weight, (1, width))))
        head.bias.copy_(torch.as_tensor(np.reshape(estimator.intercept_, (1,))))
    return head
