"""Batch normalisation that counts each row as often as it stands for, in single precision."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from tltool.model import all_reduce

_P = ParamSpec("_P")
_R = TypeVar("_R")


def single(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make ``function`` compute in float32 under ``torch.autocast``, which else takes its products to bfloat16.

    Eight bits are too few for the mean and the variance of ten thousand edges. Elsewhere nothing changes.
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

    With weights that count equal rows it gives what ``BatchNorm1d`` gives on the rows written out, statistics and
    gradients alike; rows of weight 0 (padding) do not matter. One row alone is normalised to the bias, not to NaN.
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
        """Start afresh: scale 1, bias 0, running mean 0 and variance 1."""
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
        """Return factor and shift (dim,): what normalising by the running statistics does to a row."""
        factor = self.scale * torch.rsqrt(self.variance + self.eps)
        return factor, self.bias - self.mean * factor

    @torch.no_grad()
    def remember(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        """Move the running statistics towards those of a batch of weight ``total``, as ``BatchNorm1d`` does."""
        self.mean.lerp_(mean, self.momentum)
        self.variance.lerp_(variance * (total / (total - 1).clamp_min(1.0)), self.momentum)
