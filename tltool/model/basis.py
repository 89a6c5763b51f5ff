"""Expansion of a distance in Gaussians."""

import torch
from torch import Tensor, nn


class Gaussians(nn.Module):
    """exp(-((d - centre) / width)^2) on evenly spaced centres, as CGCNN and MEGNet expand distances.

    ``n`` centres from 0 to ``stop`` Å; ``width`` in Å, by default their spacing. (d,) -> (d, n).
    """

    centres: Tensor

    def __init__(self, *, n: int, stop: float, width: float | None = None) -> None:
        super().__init__()
        self.width = width or stop / (n - 1)
        self.register_buffer("centres", torch.linspace(0.0, stop, n), persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """Expand ``distance`` (d,) in Å to (d, n)."""
        squares = ((distance[:, None] - self.centres) / self.width).square()
        # Below exp(-80) numbers lose their normal form, with which every later product is ten times slower.
        return torch.exp(-squares.clamp_max(80.0))
