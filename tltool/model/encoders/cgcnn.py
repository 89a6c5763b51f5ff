"""CGCNN: gated convolution on the crystal graph (Xie and Grossman, doi:10.1103/PhysRevLett.120.145301).

v_i' = softplus(v_i + N(sum_j sigmoid(N(z_ij W_f + b_f)) softplus(N(z_ij W_s + b_s)))), z_ij = v_i, v_j and u_ij
concatenated, u_ij the Gaussians of their distance, N batch normalisation (eq. 5 of the paper, in the form of its code).
The linear map of z_ij is the sum of one map per node for v_i, one for v_j and one per distinct distance for u_ij.
Sizes as in ``crystal_graph``; f = dim.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tltool.crystal_graph import Graph
from tltool.model import message_passing
from tltool.model.layers import sizes, species
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
        """Initialise the three maps like a single map of the concatenated inputs."""
        maps = (self.receiver, self.neighbour, self.distance)
        bound = sum(part.in_features for part in maps) ** -0.5
        for part in maps:
            nn.init.uniform_(part.weight, -bound, bound)
        nn.init.uniform_(self.receiver.bias, -bound, bound)

    def forward(self, sites: Tensor, basis: Tensor, graph: Graph) -> Tensor:
        """Update ``sites`` (n, f) with ``basis`` (d, n_basis) of the distinct distances."""
        z = message_passing.edge_sum(
            graph, self.receiver(sites), self.neighbour(sites), self.distance(basis)
        )  # (e, 2f)
        gate, message = self.norm_edges(z, graph.edge_weight()).chunk(2, dim=1)  # (e, f) each
        received = message_passing.neighbour_sum(graph, torch.sigmoid(gate) * F.softplus(message))  # (n, f)
        return F.softplus(sites + self.norm_sites(received, graph.multiplicity))  # (n, f)


class CGCNN(nn.Module):
    """The encoder. ``dim`` features, ``blocks`` convolutions, ``n_basis`` Gaussians from 0 to ``basis_stop`` Å.

    ``elements``: ``descriptors`` maps the fixed element table to the first site features, ``learned`` gives each its
    own vector.
    """

    table: Tensor

    def __init__(self, *, dim: int, blocks: int, n_basis: int, basis_stop: float, elements: str) -> None:
        super().__init__()
        sizes.require_whole("encoder", 1, dim=dim)
        sizes.require_whole("encoder", 0, blocks=blocks)
        sizes.require_whole("encoder", 2, n_basis=n_basis)
        sizes.require_positive("encoder", basis_stop=basis_stop)
        self.dim, self.n_levels = dim, blocks + 1
        table = species.table(elements)
        self.register_buffer("table", table, persistent=False)
        self.embedding = nn.Linear(table.shape[1], dim)
        self.basis = Gaussians(n=n_basis, stop=basis_stop)
        self.blocks = nn.ModuleList(Convolution(dim, n_basis) for _ in range(blocks))

    def forward(self, graph: Graph) -> list[Tensor]:
        """Return site features (n, dim) of every level: the element embedding, then after each block."""
        sites = self.embedding(self.table).index_select(0, graph.number)  # (n, f)
        basis = self.basis(graph.distance)  # (d, n_basis)
        levels = [sites]
        for block in self.blocks:
            sites = block(sites, basis, graph)  # (n, f)
            levels.append(sites)
        return levels
