"""From site features to one vector per crystal."""

import torch
from torch import Tensor, nn

from tltool.errors import ConfigError
from tltool.fields import Graph
from tltool.model import kernels


class Pool(nn.Module):
    """Statistics over the sites of each crystal, of one or several levels, side by side.

    ``levels`` of the encoder to read (-1 the last); ``statistics`` of ``mean`` and ``spread`` (standard deviation).
    Each site counts once, so nodes are weighted by multiplicity.
    """

    def __init__(self, dim: int, n_levels: int, /, *, levels: list[int], statistics: list[str]) -> None:
        super().__init__()
        unknown = [s for s in statistics if s not in ("mean", "spread")]
        if unknown or not statistics:
            raise ConfigError(f"readout.statistics={list(statistics)}: use mean, spread or both.")
        outside = [level for level in levels if not -n_levels <= level < n_levels]
        if outside or not levels:
            raise ConfigError(f"level={outside or list(levels)}: this encoder has levels 0 to {n_levels - 1}.")
        self.levels, self.statistics = tuple(levels), tuple(statistics)
        self.dim = dim * len(levels) * len(statistics)

    def forward(self, levels: list[Tensor], graph: Graph) -> Tensor:
        """Return (c, dim) from the site features (n, dim) of every level."""
        parts = []
        for level in self.levels:
            sites = levels[level]
            mean = kernels.crystal_mean(graph, sites)
            if "mean" in self.statistics:
                parts.append(mean)
            if "spread" in self.statistics:
                # The root has no slope at zero, which every crystal with one kind of site would meet.
                variance = kernels.crystal_mean(graph, (sites - mean.index_select(0, graph.crystal)).square())
                parts.append((variance + 1e-8).sqrt())
        return torch.cat(parts, dim=1)
