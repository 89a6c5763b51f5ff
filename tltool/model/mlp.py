"""The trunk between readout and heads: what is kept in transfer besides the encoder."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from tltool.plugs import Idle


class Trunk(nn.Module):
    """Softplus, then ``depth`` times (linear map to ``width``, softplus), as in CGCNN. (c, dim) -> (c, width)."""

    def __init__(self, dim: int, /, *, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.dim = width if depth else dim
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([dim] + [width] * depth))
        self.dropout = nn.Dropout(dropout)

    def forward(self, embedding: Tensor) -> Tensor:
        """Map ``embedding`` (c, dim) to (c, width)."""
        hidden = F.softplus(embedding)
        for layer in self.layers:
            hidden = F.softplus(layer(hidden))
        return self.dropout(hidden)  # type: ignore[no-any-return]


def idle_keys(node: Mapping[str, Any], config: Mapping[str, Any], /) -> dict[str, Idle]:
    """Return what has no effect without a layer (see ``plugs.idle_keys``)."""
    return {} if node.get("depth") else {"width": Idle("{at}.depth=0 has no layer", "use {at}.depth=1")}
