"""ALIGNN: edge-gated convolution on the crystal graph and its line graph (Choudhary and DeCost, 2021).

doi:10.1038/s41524-021-00650-1. On a graph with nodes x and edges y, one convolution is
m_ij = A x_i + B x_j + C y_ij,  y_ij' = y_ij + SiLU(N(m_ij)),  x_i' = x_i + SiLU(N(U x_i + mean_j V x_j)),
the mean weighted by sigmoid(m_ij), N batch normalisation. A block updates sites and edges on the crystal graph
(two-body), then edges and angles on the line graph (three-body); the last blocks are two-body only. Edge and angle
features begin as functions of the distance and the cosine alone, so up to the first convolution they are computed once
per different one. Sizes as in ``crystal_graph``; f = dim; a angles and k different cosines, edges and distances of the
line.

Gates weigh neighbours against each other. So a crystal whose sites are all equal, such as fcc copper, gets the features
of its element whatever its distances and angles: that is the published formula, and holds for its code as well.

Departures from the published code: edge features that nothing reads are not normalised (those after the last two-body
and the last three-body part: 1,024 parameters at dim 256), and the element features come from tltool's table.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tltool.crystal_graph import Graph
from tltool.errors import ConfigError
from tltool.model import message_passing
from tltool.model.layers import sizes, species
from tltool.model.layers.basis import Gaussians
from tltool.model.norm import WeightedBatchNorm

NO_ANGLES = "ALIGNN needs a graph with angles; add graph=angles."
EPS = 1e-6  # of the published code, added to the sum of the gates


class Layer(nn.Module):
    """Linear map, batch normalisation, SiLU. (r, a) -> (r, b)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = WeightedBatchNorm(outputs)

    def forward(self, rows: Tensor, weights: Tensor) -> Tensor:
        """Map ``rows`` (r, a) to (r, b); each row counts ``weights`` (r,) times in the normalisation."""
        return F.silu(self.norm(self.linear(rows), weights))  # (r, b)


class Expansion(nn.Module):
    """Gaussians of a distance or a cosine, then two layers. (d,) -> (d, f)."""

    def __init__(self, n: int, start: float, stop: float, width: int, dim: int) -> None:
        super().__init__()
        # The published code divides the square by the spacing, not by its square.
        self.basis = Gaussians(n=n, start=start, stop=stop, width=math.sqrt((stop - start) / (n - 1)))
        self.first, self.second = Layer(n, width), Layer(width, dim)

    def forward(self, graph: Graph) -> Tensor:
        """Return (d, f) for the distinct distances of ``graph``, or for the cosines of a line graph."""
        weights = graph.distance_weight()
        return self.second(self.first(self.basis(graph.distance), weights), weights)  # type: ignore[no-any-return]


class EdgeGated(nn.Module):
    """One convolution on nodes (n, f) and edges (e, f) of a graph; without ``edges_go_on``, edges are not updated."""

    def __init__(self, dim: int, edges_go_on: bool) -> None:
        super().__init__()
        self.receiver, self.neighbour, self.edge = (nn.Linear(dim, dim) for _ in range(3))
        self.node, self.message = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.norm_nodes = WeightedBatchNorm(dim)
        self.norm_edges = WeightedBatchNorm(dim) if edges_go_on else None

    def forward(self, nodes: Tensor, edges: Tensor, graph: Graph) -> tuple[Tensor, Tensor | None]:
        """Update ``nodes`` (n, f) and ``edges`` (e, f); the edges are None if they are not updated."""
        m = message_passing.pair_sum(graph, self.receiver(nodes), self.neighbour(nodes)) + self.edge(edges)  # (e, f)
        gate, message = torch.sigmoid(m), self.message(nodes)  # (e, f), (n, f)
        total = message_passing.neighbour_sum(graph, gate * message.index_select(0, graph.neighbour))  # (n, f)
        received = total / (message_passing.neighbour_sum(graph, gate) + EPS)  # (n, f)
        nodes = nodes + F.silu(self.norm_nodes(self.node(nodes) + received, graph.multiplicity))  # (n, f)
        if self.norm_edges is None:
            return nodes, None
        return nodes, edges + F.silu(self.norm_edges(m, graph.edge_weight()))  # (n, f), (e, f)


class Block(nn.Module):
    """Two-body convolution; with ``angles``, a three-body one after it. Features that ``go_on`` are read later."""

    def __init__(self, dim: int, angles: bool, edges_go_on: bool, angles_go_on: bool) -> None:
        super().__init__()
        self.two_body = EdgeGated(dim, edges_go_on)
        self.three_body = EdgeGated(dim, angles_go_on) if angles else None

    def forward(
        self, sites: Tensor, edges: Tensor, angles: Tensor | None, graph: Graph
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Update sites (n, f), edges (e, f) and angles (a, f); None for features that no later block uses."""
        sites, found = self.two_body(sites, edges, graph)  # (n, f), (e, f)
        if self.three_body is not None and graph.line is not None and found is not None and angles is not None:
            found, angles = self.three_body(found, angles, graph.line)  # (e, f), (a, f)
        return sites, found, angles


class ALIGNN(nn.Module):
    """The encoder. ``dim`` features, ``line_blocks`` with angles, then ``blocks`` without.

    ``n_basis`` Gaussians of the distance from 0 to ``basis_stop`` Å and ``n_angles`` of the cosine, both expanded to
    ``dim`` over ``width``; ``elements``: ``descriptors`` maps the fixed element table to the first site features,
    ``learned`` gives each its own vector.
    """

    table: Tensor

    def __init__(
        self,
        *,
        dim: int,
        line_blocks: int,
        blocks: int,
        n_basis: int,
        basis_stop: float,
        n_angles: int,
        width: int,
        elements: str,
    ) -> None:
        super().__init__()
        sizes.require_whole("encoder", 1, dim=dim, line_blocks=line_blocks, blocks=blocks, width=width)
        sizes.require_whole("encoder", 2, n_basis=n_basis, n_angles=n_angles)
        sizes.require_positive("encoder", basis_stop=basis_stop)
        self.dim, self.n_levels = dim, line_blocks + blocks + 1
        table = species.table(elements)
        self.register_buffer("table", table, persistent=False)
        self.embedding = Layer(table.shape[1], dim)
        self.distances = Expansion(n_basis, 0.0, basis_stop, width, dim)
        self.angles = Expansion(n_angles, -1.0, 1.0, width, dim)
        last = line_blocks + blocks - 1
        self.blocks = nn.ModuleList(Block(dim, k < line_blocks, k < last, k < line_blocks - 1) for k in range(last + 1))

    def forward(self, graph: Graph) -> list[Tensor]:
        """Return site features (n, dim) of every level: the element embedding, then after each block.

        Raises ConfigError for a graph without angles.
        """
        if graph.line is None:
            raise ConfigError(NO_ANGLES)
        sites = self.embedding(self.table.index_select(0, graph.number), graph.multiplicity)  # (n, f)
        edges = self.distances(graph).index_select(0, graph.distance_index)  # (e, f)
        angles = self.angles(graph.line).index_select(0, graph.line.distance_index)  # (a, f)
        levels = [sites]
        for block in self.blocks:
            sites, edges, angles = block(sites, edges, angles, graph)  # (n, f), (e, f), (a, f)
            levels.append(sites)
        return levels
