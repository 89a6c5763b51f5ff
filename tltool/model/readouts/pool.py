"""Pool the output of an encoder to one vector per crystal by statistics; and functions that all readouts share."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tltool.crystal_graph import Graph, Levels, as_levels
from tltool.errors import ConfigError
from tltool.model import message_passing
from tltool.renamed import WORDS


def encoder_facts(encoder: nn.Module) -> tuple[Any, ...]:
    """Return the arguments of a readout from its encoder: ``dim``, ``n_levels`` and, if it has them, ``extras``.

    ``extras`` names its features in addition to those of sites: ``edges``, ``state``.
    """
    extras = tuple(getattr(encoder, "extras", ()))
    return (encoder.dim, encoder.n_levels, *([extras] if extras else []))


def checked_levels(levels: Sequence[int], n_levels: int) -> tuple[int, ...]:
    """Return ``levels``; raise ConfigError if there are none, or if the encoder's ``n_levels`` do not include one."""
    outside = [level for level in levels if not -n_levels <= level < n_levels]
    if outside or not levels:
        raise ConfigError(f"level={outside or list(levels)} is not a level of this encoder; use 0 to {n_levels - 1}.")
    return tuple(levels)


def reads_elements_alone(readout: nn.Module, n_levels: int) -> bool:
    """Return whether ``readout`` uses only level 0 of the sites, so that edges have no effect."""
    levels = getattr(readout, "levels", ())
    return bool(levels) and not getattr(readout, "extras", ()) and all(level % n_levels == 0 for level in levels)


class Pool(nn.Module):
    """Statistics over the sites of each crystal, of one or several levels, concatenated.

    ``levels`` of the encoder to read (-1 the last); ``statistics`` of ``mean`` and ``std`` (standard deviation).
    Each site counts once, so nodes are weighted by multiplicity. If ``extras`` names edges or a state, the statistics
    over edges and the state are appended. ``widths`` is the number of features of each level. Raise ConfigError for an
    unknown statistic or level.
    """

    def __init__(
        self, dim: int, n_levels: int, extras: Sequence[str] = (), /, *, levels: list[int], statistics: list[str]
    ) -> None:
        super().__init__()
        unknown = [s for s in statistics if s not in ("mean", "std")]
        if unknown or not statistics:
            old = [f" {now.sentence(word)}" for word, now in WORDS["statistics"].items() if word in unknown]
            use = "use mean, std (standard deviation) or both."
            raise ConfigError(f"readout.statistics={list(statistics)}: {use}{''.join(old)}")
        self.levels, self.statistics = checked_levels(levels, n_levels), tuple(statistics)
        self.extras = tuple(extras)
        per_level = len(statistics) * (1 + ("edges" in extras)) + ("state" in extras)
        self.dim = dim * len(levels) * per_level
        self.widths: dict[str, int] = {}
        for level in self.levels:
            name = f"level_{level % n_levels}"
            self.widths[name if name not in self.widths else f"{name}_again_{len(self.widths)}"] = dim * per_level

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
        if "std" not in self.statistics:
            return [mean]
        square = message_passing.crystal_mean(graph, (sites - mean.index_select(0, graph.crystal)).square())
        return self._chosen(mean, square)

    def _of_edges(self, edges: Tensor, graph: Graph) -> list[Tensor]:
        mean = message_passing.crystal_edge_mean(graph, message_passing.neighbour_sum(graph, edges))
        if "std" not in self.statistics:
            return [mean]
        centred = edges - mean.index_select(0, graph.crystal.index_select(0, graph.receiver))
        square = message_passing.crystal_edge_mean(graph, message_passing.neighbour_sum(graph, centred.square()))
        return self._chosen(mean, square)

    def _chosen(self, mean: Tensor, variance: Tensor) -> list[Tensor]:
        # The square root has no finite slope at zero, the value for a crystal with equal sites.
        std = (variance + 1e-8).sqrt()
        return [part for name, part in (("mean", mean), ("std", std)) if name in self.statistics]


def pool_of_sites(
    dim: int, n_levels: int, extras: Sequence[str] = (), /, *, levels: list[int], statistics: list[str]
) -> Pool:
    """Return a ``Pool`` that leaves out the ``extras``."""
    return Pool(dim, n_levels, levels=levels, statistics=statistics)
