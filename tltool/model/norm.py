"""Batch normalisation that counts each row as often as it stands for."""

import torch
from torch import Tensor, nn

from tltool.model import all_reduce
from tltool.model.precision import single


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
