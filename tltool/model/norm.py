"""Batch normalisation of rows with multiplicities, in single precision."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from tltool.model import all_reduce

_P = ParamSpec("_P")
_R = TypeVar("_R")


def single(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make ``function`` compute in float32 under ``torch.autocast``, which would use bfloat16 for its products.

    Eight bits are too few for the mean and variance of ten thousand edges. Without autocast, nothing changes.
    """

    @wraps(function)
    def wrapped(*given: _P.args, **named: _P.kwargs) -> _R:
        where = next(value.device.type for value in given if isinstance(value, Tensor))
        if not torch.is_autocast_enabled(where):
            return function(*given, **named)
        with torch.autocast(where, enabled=False):
            return function(*map(_widened, given), **{k: _widened(v) for k, v in named.items()})

    return wrapped


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value


class WeightedBatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, arXiv:1502.03167) over weighted rows.

    If the weights count equal rows, statistics and gradients are the same as those of ``BatchNorm1d`` on the repeated
    rows. Rows of weight 0 (padding) have no effect. A single row is normalised to the bias, not to NaN.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, dim: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.scale = nn.Parameter(torch.empty(dim))
        self.bias = nn.Parameter(torch.empty(dim))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset to scale 1, bias 0, running mean 0 and variance 1."""
        nn.init.ones_(self.scale)
        nn.init.zeros_(self.bias)
        self.mean.zero_()
        self.variance.fill_(1.0)

    @single
    def forward(self, rows: Tensor, weights: Tensor) -> Tensor:
        """Normalise ``rows`` (r, dim), each counted ``weights`` (r,) times."""
        if not self.training:
            factor, shift = self.as_linear()
            return torch.addcmul(shift, rows, factor)
        received, count = all_reduce.with_count(weights @ rows, weights.sum())
        total = count.clamp_min(1.0)
        mean = received / total
        centred = rows - mean
        variance = all_reduce.total(weights @ (centred * centred)) / total
        self.remember(mean, variance, total)
        return torch.addcmul(self.bias, centred, self.scale * torch.rsqrt(variance + self.eps))

    def as_linear(self) -> tuple[Tensor, Tensor]:
        """Return factor and shift (dim,) that normalise a row by the running statistics."""
        factor = self.scale * torch.rsqrt(self.variance + self.eps)
        return factor, self.bias - self.mean * factor

    @torch.no_grad()
    def remember(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        """Update the running statistics with those of a batch of weight ``total``, like ``BatchNorm1d``."""
        self.mean.lerp_(mean, self.momentum)
        self.variance.lerp_(variance * (total / (total - 1).clamp_min(1.0)), self.momentum)
