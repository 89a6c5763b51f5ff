"""Compute a vector from the composition of a crystal only (elements and their fractions), as in Roost (Goodall and Lee,
doi:10.1038/s41467-020-19964-7).

The elements of a crystal are the nodes of a small complete graph, including an edge of each node to itself. The
multiplicity of a node is the fraction of its element, so the operations on crystal graphs can be used. Sizes as in
``crystal_graph``; f = dim.
"""

import torch
from torch import Tensor, nn

from tltool.crystal_graph import Graph
from tltool.model import message_passing
from tltool.model.layers.attention import NeighbourAttention
from tltool.model.layers.species import Species
from tltool.model.scaler import composition


def of_elements(graph: Graph) -> Graph:
    """Return the graph of the elements of each crystal: a node per element, its multiplicity the element's fraction."""
    return graph.once("elements", lambda: _of_elements(graph))  # type: ignore[no-any-return]


def _of_elements(graph: Graph) -> Graph:
    fractions = composition(graph)
    crystal, number = fractions.nonzero(as_tuple=True)
    fraction = fractions[crystal, number]
    first_node = _starts(torch.bincount(crystal, minlength=graph.n_crystals))
    degree = first_node.diff()[crystal]
    first_edge = _starts(degree)
    receiver = torch.repeat_interleave(torch.arange(len(number), device=number.device), degree)
    place = torch.arange(len(receiver), device=number.device) - first_edge[receiver]
    neighbour = first_node[crystal[receiver]] + place
    return Graph(
        number=number,
        multiplicity=fraction,
        crystal=crystal,
        first_node=first_node,
        first_edge=first_edge,
        receiver=receiver,
        neighbour=neighbour,
        edge_multiplicity=fraction[neighbour],
        distance_index=torch.zeros_like(receiver),
        distance=fraction.new_zeros(1),
    )


def _starts(count: Tensor) -> Tensor:
    return torch.cat([count.new_zeros(1), count.cumsum(0)])


class Composition(nn.Module):
    """The vector of a composition: ``blocks`` of attention among its elements, then one over them. -> (c, f).

    Attention is weighted by the fractions themselves, so that every site counts once; Roost learns a power of them.
    """

    def __init__(self, dim: int, blocks: int, elements: str) -> None:
        super().__init__()
        self.species = Species(dim - 1, elements)
        self.blocks = nn.ModuleList(NeighbourAttention(dim, 1, vector=False, edges=False) for _ in range(blocks))
        self.scores = nn.Sequential(nn.Linear(dim, 2 * dim), nn.LeakyReLU(), nn.Linear(2 * dim, 1, bias=False))

    def forward(self, graph: Graph) -> Tensor:
        """Return the vectors of the crystals of ``graph``."""
        elements = of_elements(graph)
        rows = torch.cat([self.species(elements.number), elements.multiplicity[:, None]], dim=1)
        for block in self.blocks:
            rows = rows + block(elements, rows)
        return message_passing.crystal_attention(elements, self.scores(rows)[:, None], rows[:, None])[:, 0]
