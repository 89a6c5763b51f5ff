"""CGCNN: gated convolution on the crystal graph (Xie and Grossman, doi:10.1103/PhysRevLett.120.145301).

v_i' = softplus(v_i + N(sum_j sigmoid(N(z_ij W_f + b_f)) softplus(N(z_ij W_s + b_s)))), z_ij = v_i + v_j + u_ij put side
by side, u_ij the Gaussians of their distance, N batch normalisation (eq. 5 of the paper, as its code has it).
The linear map of z_ij is the sum of one map per node for v_i, one for v_j and one per different distance for u_ij.
Sizes as in ``fields``; f = dim.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tltool.crystal_graph import Graph
from tltool.model import message_passing
from tltool.model.kernels import cgcnn_cpp, self_check
from tltool.model.kernels.cgcnn_gate import gated_sum
from tltool.model.layers import species
from tltool.model.layers.basis import Gaussians
from tltool.model.norm import WeightedBatchNorm


class Convolution(nn.Module):
    """One block: gated messages from neighbours, summed and added to the site. (n, f) -> (n, f)."""

    def __init__(self, dim: int, n_basis: int) -> None:
        super().__init__()
        self.receiver = nn.Linear(dim, 2 * dim)
        self.neighbour = nn.Linear(dim, 2 * dim, bias=False)
        self.distance = nn.Linear(n_basis, 2 * dim, bias=False)
        self.norm_edges = WeightedBatchNorm(2 * dim)
        self.norm_sites = WeightedBatchNorm(dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the three maps as one map of the inputs put side by side would be drawn."""
        maps = (self.receiver, self.neighbour, self.distance)
        bound = sum(part.in_features for part in maps) ** -0.5
        for part in maps:
            nn.init.uniform_(part.weight, -bound, bound)
        nn.init.uniform_(self.receiver.bias, -bound, bound)

    def forward(self, sites: Tensor, basis: Tensor, graph: Graph) -> Tensor:
        """Update ``sites`` (n, f) with ``basis`` (d, n_basis) of the different distances."""
        parts = self.receiver(sites), self.neighbour(sites), self.distance(basis)
        received = gated_sum(graph, *parts, self.norm_edges)
        return F.softplus(sites + self.norm_sites(received, graph.multiplicity))

    def parts(self) -> cgcnn_cpp.Block:
        """Return what the compiled kernels compute with."""
        receiver, edges, sites = self.receiver, self.norm_edges, self.norm_sites
        maps = receiver.weight, receiver.bias, self.neighbour.weight, self.distance.weight
        weights = cgcnn_cpp.Weights(*maps, edges.scale, edges.bias, sites.scale, sites.bias)
        return cgcnn_cpp.Block(weights, edges, sites)


class CGCNN(nn.Module):
    """The encoder. ``dim`` features, ``blocks`` convolutions, ``n_basis`` Gaussians from 0 to ``basis_stop`` Å.

    ``elements``: ``descriptors`` maps the fixed element table to the first site features, ``learned`` gives each its
    own vector.
    """

    table: Tensor

    def __init__(self, *, dim: int, blocks: int, n_basis: int, basis_stop: float, elements: str) -> None:
        super().__init__()
        self.dim, self.n_levels = dim, blocks + 1
        table = species.table(elements)
        self.register_buffer("table", table, persistent=False)
        self.embedding = nn.Linear(table.shape[1], dim)
        self.basis = Gaussians(n=n_basis, stop=basis_stop)
        self.blocks = nn.ModuleList(Convolution(dim, n_basis) for _ in range(blocks))

    def forward(self, graph: Graph) -> list[Tensor]:
        """Return site features (n, dim) of every level: the element embedding, then after each block."""
        sites = message_passing.rows(self.embedding(self.table), graph.number)
        basis = self.basis(graph.distance)
        if message_passing.chosen() == "compiled" and self_check.fits(graph, sites, basis):
            parts = [block.parts() for block in self.blocks if isinstance(block, Convolution)]
            return cgcnn_cpp.convolutions(graph, sites, basis, parts)
        levels = [sites]
        for block in self.blocks:
            sites = block(sites, basis, graph)
            levels.append(sites)
        return levels
