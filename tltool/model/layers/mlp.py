"""Trunks, the layers between readout and heads, which are kept in a transfer. Sizes: c crystals."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tltool.errors import ConfigError
from tltool.instantiate import Idle
from tltool.model.layers import sizes


class Trunk(nn.Module):
    """Softplus, then ``depth`` times (linear map to ``width``, softplus), as in CGCNN. (c, dim) -> (c, width)."""

    def __init__(self, dim: int, /, *, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        sizes.require_whole("trunk", 0, depth=depth)
        sizes.require_whole("trunk", 1, width=width)
        if not 0 <= dropout < 1:
            raise ConfigError(f"trunk.dropout={dropout} must be a number from 0 to below 1.")
        self.dim = width if depth else dim
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([dim] + [width] * depth))
        self.dropout = nn.Dropout(dropout)

    def forward(self, embedding: Tensor) -> Tensor:
        """Map ``embedding`` (c, dim) to (c, width)."""
        hidden = F.softplus(embedding)
        for layer in self.layers:
            hidden = F.softplus(layer(hidden))
        return self.dropout(hidden)  # type: ignore[no-any-return]


class Dense(nn.Module):
    """Linear maps to ``widths``, a softplus after each; with no width the embedding itself. (c, dim) -> (c, last)."""

    def __init__(self, dim: int, /, *, widths: list[int]) -> None:
        super().__init__()
        self.dim = [dim, *checked(widths)][-1]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([dim, *widths]))

    def forward(self, embedding: Tensor) -> Tensor:
        """Map ``embedding`` (c, dim)."""
        for layer in self.layers:
            embedding = F.softplus(layer(embedding))
        return embedding


class Residual(nn.Module):
    """Layers of ``widths``, each added to its input or to a linear map of it. (c, dim) -> (c, last).

    x becomes s ReLU(W x + b) + V x, V the identity where the width stays; the output network of Roost and CGAT
    (Goodall and Lee, doi:10.1038/s41467-020-19964-7). ``rezero`` learns the s of each layer, from 0 (Bachlechner and
    others, arXiv:2003.04887); without it s is 1.
    """

    def __init__(self, dim: int, /, *, widths: list[int], rezero: bool) -> None:
        super().__init__()
        pairs = list(pairwise([dim, *checked(widths)]))
        self.dim = [dim, *widths][-1]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.skips = nn.ModuleList(nn.Identity() if a == b else nn.Linear(a, b, bias=False) for a, b in pairs)
        self.share = nn.Parameter(torch.empty(len(pairs))) if rezero else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with the skip connections only, if s is learnt."""
        if self.share is not None:
            nn.init.zeros_(self.share)

    def forward(self, embedding: Tensor) -> Tensor:
        """Map ``embedding`` (c, dim)."""
        for k, (layer, skip) in enumerate(zip(self.layers, self.skips, strict=True)):
            added = F.relu(layer(embedding))
            embedding = (added if self.share is None else self.share[k] * added) + skip(embedding)
        return embedding


class Conditioned(nn.Module):
    """The ``trunk`` in ``parts``, and added to it a layer that also reads the last ``conditions`` of its input.

    (c, dim) -> (c, dim of the trunk). The layer starts at zero, so that the trunk alone decides at first.
    """

    def __init__(self, dim: int, /, *, conditions: int, width: int, parts: dict[str, Callable[..., nn.Module]]) -> None:
        super().__init__()
        sizes.require_whole("trunk", 1, conditions=conditions, width=width)
        self.conditions = conditions
        self.trunk = parts["trunk"](dim - conditions)
        self.dim = int(self.trunk.dim)  # type: ignore[arg-type]
        self.read = nn.Linear(self.dim + conditions, width)
        self.add = nn.Linear(width + conditions, self.dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with the trunk alone."""
        nn.init.zeros_(self.add.weight)
        nn.init.zeros_(self.add.bias)

    def forward(self, embedding: Tensor) -> Tensor:
        """Map ``embedding`` (c, dim), the last of whose features are the conditions."""
        hidden, own = self.trunk(embedding[:, : -self.conditions]), embedding[:, -self.conditions :]
        added = F.softplus(self.read(torch.cat([hidden, own], dim=1)))
        return hidden + self.add(torch.cat([added, own], dim=1))  # type: ignore[no-any-return]


def checked(widths: list[int]) -> list[int]:
    """Return ``widths``; raise ConfigError if one is below 1."""
    if any(width < 1 for width in widths):
        raise ConfigError(f"widths={list(widths)} must be 1 or more.")
    return widths


def idle_keys(node: Mapping[str, Any], config: Mapping[str, Any], /) -> dict[str, Idle]:
    """Return the keys that have no effect without a layer (see ``instantiate.idle_keys``)."""
    return {} if node.get("depth", 1) else {"width": Idle("{at}.depth=0 has no layer", "use {at}.depth=1")}
