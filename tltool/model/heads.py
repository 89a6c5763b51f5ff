"""Heads: from what the trunk gives to the value of one quantity, (c, dim) -> (c, 1); each quantity has its own."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from tltool.model.layers.mlp import checked


def linear(dim: int, /) -> nn.Module:
    """Return a linear map of ``dim`` features."""
    return nn.Linear(dim, 1)


class MLPHead(nn.Module):
    """A SiLU before each of the linear maps to ``widths`` and then to the value, as in Devi and others.

    ``drop-properties.py`` and ``alignn_multi.py`` of the code of doi:10.1038/s41524-024-01486-1.
    """

    def __init__(self, dim: int, /, *, widths: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([dim, *checked(widths), 1]))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return values (c, 1) from ``hidden`` (c, dim)."""
        for layer in self.layers:
            hidden = layer(F.silu(hidden))
        return hidden
