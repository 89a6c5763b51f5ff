"""Expand a distance, or the cosine of an angle, in Gaussians."""

import torch
from torch import Tensor, nn


class Gaussians(nn.Module):
    """exp(-((d - centre) / width)^2) on evenly spaced centres, as CGCNN and MEGNet expand distances.

    ``n`` centres from ``start`` to ``stop``; the width is their spacing unless given. All in Å for distances.
    (d,) -> (d, n).
    """

    centres: Tensor

    def __init__(self, *, n: int, stop: float, start: float = 0.0, width: float | None = None) -> None:
        super().__init__()
        self.width = (stop - start) / (n - 1) if width is None else width
        self.register_buffer("centres", torch.linspace(start, stop, n), persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """Expand ``distance`` (d,) to (d, n)."""
        squares = (distance[:, None] - self.centres).div_(self.width).square_()
        # Below exp(-80) numbers lose their normal form, with which every later product is ten times slower.
        return squares.clamp_max_(80.0).neg_().exp_()
