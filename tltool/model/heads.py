"""Heads: from the output of the trunk to the values of one quantity, (c, dim) -> (c, 1); one per quantity.

A class of more than two has a value for each, (c, dim) -> (c, w).
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from tltool.model.layers.mlp import checked


def linear(dim: int, width: int = 1, /) -> nn.Module:
    """Return a linear map of ``dim`` features to ``width`` values."""
    return nn.Linear(dim, width)


class MLPHead(nn.Module):
    """An MLP head: linear maps to ``widths`` and then to the ``width`` values, with a SiLU before each map.

    As in Devi and others, doi:10.1038/s41524-024-01486-1 (``drop-properties.py`` and ``alignn_multi.py`` of the code).
    """

    def __init__(self, dim: int, width: int = 1, /, *, widths: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([dim, *checked(widths), width]))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return values (c, width) from ``hidden`` (c, dim)."""
        for layer in self.layers:
            hidden = layer(F.silu(hidden))
        return hidden
