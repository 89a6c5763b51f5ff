"""From what an encoder gives to one vector per crystal: statistics, and what every readout has in common."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tltool.crystal_graph import Graph, Levels, as_levels
from tltool.errors import ConfigError
from tltool.model import message_passing


def encoder_facts(encoder: nn.Module) -> tuple[Any, ...]:
    """Return what a readout is given of its encoder: ``dim``, ``n_levels`` and, if it has them, ``extras``.

    ``extras`` names what it gives besides site features: ``edges``, ``state``.
    """
    extras = tuple(getattr(encoder, "extras", ()))
    return (encoder.dim, encoder.n_levels, *([extras] if extras else []))


def checked_levels(levels: Sequence[int], n_levels: int) -> tuple[int, ...]:
    """Return ``levels``; raise ConfigError if there are none, or one is not among the encoder's ``n_levels``."""
    outside = [level for level in levels if not -n_levels <= level < n_levels]
    if outside or not levels:
        raise ConfigError(f"level={outside or list(levels)}: this encoder has levels 0 to {n_levels - 1}.")
    return tuple(levels)


def reads_elements_alone(readout: nn.Module, n_levels: int) -> bool:
    """Say whether ``readout`` reads level 0 of the sites and nothing else of an encoder, so that no edge matters."""
    levels = getattr(readout, "levels", ())
    return bool(levels) and not getattr(readout, "extras", ()) and all(level % n_levels == 0 for level in levels)


class Pool(nn.Module):
    """Statistics over the sites of each crystal, of one or several levels, side by side.

    ``levels`` of the encoder to read (-1 the last); ``statistics`` of ``mean`` and ``spread`` (standard deviation).
    Each site counts once, so nodes are weighted by multiplicity. The same statistics over edges and the state follow
    where ``extras`` says that the encoder has them.
    """

    def __init__(
        self, dim: int, n_levels: int, extras: Sequence[str] = (), /, *, levels: list[int], statistics: list[str]
    ) -> None:
        super().__init__()
        unknown = [s for s in statistics if s not in ("mean", "spread")]
        if unknown or not statistics:
            raise ConfigError(f"readout.statistics={list(statistics)}: use mean, spread or both.")
        self.levels, self.statistics = checked_levels(levels, n_levels), tuple(statistics)
        self.extras = tuple(extras)
        per_level = len(statistics) * (1 + ("edges" in extras)) + ("state" in extras)
        self.dim = dim * len(levels) * per_level

    def forward(self, levels: Levels | Sequence[Tensor], graph: Graph) -> Tensor:
        """Return (c, dim) from the features of every level."""
        found = as_levels(levels)
        parts = []
        for level in self.levels:
            parts += self._of_sites(found.sites[level], graph)
            if "edges" in self.extras:
                parts += self._of_edges(found.edges[level], graph)
            if "state" in self.extras:
                parts.append(found.state[level])
        return torch.cat(parts, dim=1)

    def _of_sites(self, sites: Tensor, graph: Graph) -> list[Tensor]:
        mean = message_passing.crystal_mean(graph, sites)
        if "spread" not in self.statistics:
            return [mean]
        square = message_passing.crystal_mean(graph, (sites - mean.index_select(0, graph.crystal)).square())
        return self._chosen(mean, square)

    def _of_edges(self, edges: Tensor, graph: Graph) -> list[Tensor]:
        mean = message_passing.crystal_edge_mean(graph, message_passing.neighbour_sum(graph, edges))
        if "spread" not in self.statistics:
            return [mean]
        centred = edges - mean.index_select(0, graph.crystal.index_select(0, graph.receiver))
        square = message_passing.crystal_edge_mean(graph, message_passing.neighbour_sum(graph, centred.square()))
        return self._chosen(mean, square)

    def _chosen(self, mean: Tensor, variance: Tensor) -> list[Tensor]:
        # The root has no slope at zero, which every crystal with one kind of site would meet.
        spread = (variance + 1e-8).sqrt()
        return [part for name, part in (("mean", mean), ("spread", spread)) if name in self.statistics]


def pool_of_sites(
    dim: int, n_levels: int, extras: Sequence[str] = (), /, *, levels: list[int], statistics: list[str]
) -> Pool:
    """Return a ``Pool`` that leaves out the ``extras``."""
    return Pool(dim, n_levels, levels=levels, statistics=statistics)
