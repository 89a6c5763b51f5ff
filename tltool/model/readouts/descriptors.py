"""Compute descriptors of a crystal that need no network: properties of its elements, and distances of its sites.

With tens of labels, a Gaussian process on these few numbers is hard to beat (docs/modes.md). The statistics of element
properties are the mean and the standard deviation, after Ward and others (doi:10.1038/npjcompumats.2016.28). A node is
weighted by its multiplicity, so that the quotient graph gives the same results as the full graph. Sizes as in
``crystal_graph``.
"""

import torch
from torch import Tensor

from tltool.crystal_graph import Graph
from tltool.elements import PROPERTIES, properties
from tltool.errors import ConfigError
from tltool.model import message_passing

N_OF_ELEMENTS, N_OF_GEOMETRY = 2 * len(PROPERTIES) + 1, 8
_MASS = PROPERTIES.index("mass")
_TO_GRAMS_PER_CM3 = 1.66053907


def of_elements(graph: Graph) -> Tensor:
    """Return (c, 19): mean and standard deviation of each property over the sites, and the log of the lightest mass."""
    table = torch.from_numpy(properties()).to(graph.multiplicity)
    known = table.index_select(0, graph.number)
    mean = message_passing.crystal_mean(graph, known)
    spread = (
        message_passing.crystal_mean(graph, (known - mean.index_select(0, graph.crystal)).square()).clamp(min=0).sqrt()
    )
    return torch.cat([mean, spread, _least(graph, known[:, _MASS])[:, None]], dim=1)


def of_geometry(graph: Graph) -> Tensor:
    """Return (c, 8): volume per site (Å3), its logarithm, mass density (g/cm3), its logarithm, and distances (Å).

    The distances are the mean and the minimum over the sites of two numbers: the distance to the nearest neighbour, and
    the mean distance to all neighbours. A site without a neighbour gets the cube root of the volume per site. Raise
    ConfigError for formulas, which have no volume.
    """
    volume = graph.volume
    if volume is None or not bool(torch.isfinite(volume).all()):
        raise ConfigError(
            "mode.extra_features: geometry needs structures, but these records are formulas; use elements."
        )
    mass = torch.from_numpy(properties()).to(volume)[:, _MASS].exp().index_select(0, graph.number)
    density = _TO_GRAMS_PER_CM3 * message_passing.crystal_mean(graph, mass[:, None])[:, 0] / volume
    length = graph.distance.index_select(0, graph.distance_index)
    count = volume.new_zeros(graph.n_nodes).index_add(0, graph.receiver, graph.edge_multiplicity)
    total = volume.new_zeros(graph.n_nodes).index_add(0, graph.receiver, graph.edge_multiplicity * length)
    nearest = length.new_full((graph.n_nodes,), torch.inf).scatter_reduce(0, graph.receiver, length, "amin")
    alone = volume.pow(1 / 3).index_select(0, graph.crystal)
    sites = [torch.where(count > 0, of, alone) for of in (nearest, total / count.clamp(min=1))]
    mean = message_passing.crystal_mean(graph, torch.stack(sites, dim=1))
    least = torch.stack([_least(graph, of) for of in sites], dim=1)
    return torch.cat([torch.stack([volume, volume.log(), density, density.log()], dim=1), mean, least], dim=1)


def _least(graph: Graph, values: Tensor) -> Tensor:
    """Return (c,): the minimum of ``values`` (n,) over the nodes of each crystal, without padding."""
    known = torch.where(graph.multiplicity > 0, values, torch.inf)
    return values.new_full((graph.n_crystals,), torch.inf).scatter_reduce(0, graph.crystal, known, "amin")
