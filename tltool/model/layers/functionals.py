"""A learned vector for each functional, for models that learn the labels of several functionals at once.

The vector is the same on all sites of a crystal, so it leaves sites alike that were alike, and the quotient graph gives
what the full graph gives. An encoder that begins a state of the crystal adds it there (MEGNet, as in Chen and others,
doi:10.1038/s43588-020-00002-x); what any other encoder gives gets it on every level behind the elements', so that
encoders need not know of it. It is a part of the encoder for all that freezes, renews or slows parts by name.
Sizes as in ``crystal_graph``; k functionals, f = dim.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from tltool.crystal_graph import Graph, Levels, as_levels
from tltool.errors import ConfigError


class Functionals(nn.Module):
    """The vectors (k, f), zeros at the start, where no functional is told from another. -> (c, f).

    ``on_sites`` says that the encoder does not add them to a state itself.
    """

    def __init__(self, count: int, dim: int, on_sites: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count, dim))
        self.on_sites = on_sites

    def reset_parameters(self) -> None:
        """Start afresh."""
        nn.init.zeros_(self.weight)

    def forward(self, graph: Graph) -> Tensor:
        """Return the vector of each crystal's functional; ConfigError if the graph does not say it."""
        if graph.functional is None:
            raise ConfigError("The model tells functionals apart, and these crystals come with none; name it.")
        return self.weight.index_select(0, graph.functional)


def give(encoder: nn.Module, count: int) -> None:
    """Give ``encoder`` vectors for so many functionals, as its part ``functional``.

    One that has this attribute already, as None, adds them where it begins its state.
    """
    width: int = encoder.dim  # type: ignore[assignment]
    encoder.functional = Functionals(count, width, on_sites=not hasattr(encoder, "functional"))


def added(encoder: nn.Module, found: Levels | Sequence[Tensor], graph: Graph) -> Levels | Sequence[Tensor]:
    """Return what ``encoder`` gave; if it adds no vectors itself, with them on the sites of every level but level 0."""
    vectors = getattr(encoder, "functional", None)
    if not isinstance(vectors, Functionals) or not vectors.on_sites:
        return found
    levels = as_levels(found)
    on_site = vectors(graph).index_select(0, graph.crystal)
    return replace(levels, sites=[levels.sites[0], *(sites + on_site for sites in levels.sites[1:])])
