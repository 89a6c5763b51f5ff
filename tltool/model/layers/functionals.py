"""Learn a vector for each functional, for models that learn the labels of several functionals at once.

The vector is the same on all sites of a crystal, so equal sites stay equal, and the quotient graph gives the same
results as the full graph. An encoder with a state of the crystal adds the vector to the state (MEGNet, as in Chen and
others, doi:10.1038/s43588-020-00002-x). For any other encoder, the vector is added to its output on every level after
level 0, so the encoder needs no code for it. The vectors are part of the encoder when parts are frozen or renewed by
name. Sizes as in ``crystal_graph``; k functionals, f = dim.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from tltool.crystal_graph import Graph, Levels, as_levels
from tltool.errors import ConfigError


class Functionals(nn.Module):
    """The vectors (k, f); they start from zero, which has no effect. -> (c, f).

    ``on_sites``: the vectors are added to the sites, because the encoder does not add them to a state.
    """

    def __init__(self, count: int, dim: int, on_sites: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count, dim))
        self.on_sites = on_sites

    def reset_parameters(self) -> None:
        """Start afresh."""
        nn.init.zeros_(self.weight)

    def forward(self, graph: Graph) -> Tensor:
        """Return the vector of each crystal's functional; raise ConfigError if the graph does not have it."""
        if graph.functional is None:
            raise ConfigError("The model needs the functional of each crystal; name it as functional=NAME.")
        return self.weight.index_select(0, graph.functional)


def give(encoder: nn.Module, count: int) -> None:
    """Give ``encoder`` vectors for ``count`` functionals, as its part ``functional``.

    An encoder whose attribute ``functional`` is None adds them to its state itself.
    """
    width: int = encoder.dim  # type: ignore[assignment]
    encoder.functional = Functionals(count, width, on_sites=not hasattr(encoder, "functional"))


def added(encoder: nn.Module, found: Levels | Sequence[Tensor], graph: Graph) -> Levels | Sequence[Tensor]:
    """Return the output of ``encoder``, with the vectors added on every level but 0 if it does not add them itself."""
    vectors = getattr(encoder, "functional", None)
    if not isinstance(vectors, Functionals) or not vectors.on_sites:
        return found
    levels = as_levels(found)
    on_site = vectors(graph).index_select(0, graph.crystal)
    return replace(levels, sites=[levels.sites[0], *(sites + on_site for sites in levels.sites[1:])])
