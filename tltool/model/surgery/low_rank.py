"""Low-rank updates of linear maps: W + (alpha / rank) B A, with W frozen (Hu and others, arXiv:2106.09685, eq. 3).

With an update, W has a longer name; ``plain`` returns its usual name. ``merge`` adds the update to W and leaves an
ordinary linear map. Sizes: W (out, in), A (rank, in), B (out, rank).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tltool.errors import ConfigError
from tltool.model.property_model import PropertyModel, is_under


class LowRank(nn.Module):
    """The update of a weight. It starts from zero: A is initialised like a linear map, and B is zero."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        self.factor = alpha / rank
        # Drawn on the CPU, so that a seed gives the same start on every device.
        down = torch.empty(rank, weight.shape[1], dtype=weight.dtype)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        self.down = nn.Parameter(down.to(weight.device))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Return ``weight`` (out, in) with the update."""
        return weight + self.factor * (self.up @ self.down)


def insert(model: PropertyModel, maps: list[str], rank: int, alpha: float) -> list[str]:
    """Freeze every linear map of the backbone that matches a regex of ``maps``, add an update, and return their names.

    Raise ConfigError for a regex that matches no linear map.
    """
    if rank < 1:
        raise ConfigError(f"mode.rank={rank} must be 1 or more.")
    linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and not n.startswith("heads.")}
    for pattern in maps:
        if not any(is_under(name, (pattern,)) for name in linear):
            raise ConfigError(f"mode.maps: no linear map has the name {pattern!r}; use {', '.join(linear)}.")
    found = [name for name in linear if is_under(name, tuple(maps))]
    if not found:
        raise ConfigError("mode.maps is empty; name linear maps, as in mode.maps=[encoder,trunk].")
    for name in found:
        linear[name].weight.requires_grad_(False)
        parametrize.register_parametrization(linear[name], "weight", LowRank(linear[name].weight, rank, alpha))
    return found


@torch.no_grad()
def merge(model: PropertyModel) -> None:
    """Add every update to its weight, and remove the update."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            merged = module.weight.detach().clone()  # type: ignore[operator]
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
            module.weight.copy_(merged)  # type: ignore[operator]


def plain(name: str) -> str:
    """Return the name of a tensor without the addition for its update."""
    return name.replace(".parametrizations.weight.original", ".weight")
