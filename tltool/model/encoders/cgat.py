"""CGAT: attention on a crystal graph without distances (Schmidt and others, doi:10.1126/sciadv.abi7948).

An edge has only its shell: the rank of its distance among the distances of its receiver. So predictions do not change
under uniform strain, and unrelaxed structures can be used. A block computes the message of the neighbours of each site
(``NeighbourAttention``), transforms it by an update, and adds it to the site; edges can be updated in the same way. The
vector of the composition (``Composition``) is the state, which is the query of the readout ``attention``. Differences
to the published code are listed in ``configs/encoder/cgat.yaml``. Sizes as in ``crystal_graph``; f = dim.
"""

import torch
from torch import Tensor, nn

from tltool.crystal_graph import Graph, Levels
from tltool.errors import ConfigError
from tltool.model.layers import sizes
from tltool.model.layers.attention import Heads, NeighbourAttention, Pairs
from tltool.model.layers.composition import Composition
from tltool.model.layers.hypernetwork import Hypernetwork
from tltool.model.layers.species import Species


def shell_of_edge(graph: Graph, tolerance: float) -> Tensor:
    """Return the shell (e,) int64 of each edge: the number of smaller distinct distances of its receiver.

    Two distances are distinct if the larger one exceeds the other by more than the fraction ``tolerance``.
    """
    distance = graph.distance.index_select(0, graph.distance_index)
    further = torch.zeros_like(distance, dtype=torch.bool)
    further[1:] = distance.diff() > tolerance * distance[:-1]
    # The count goes through all receivers, so each subtracts what it was at its first edge.
    count = further.cumsum(0)
    return count - count.index_select(0, graph.first_edge.index_select(0, graph.receiver))


class Plain(nn.Module):
    """An update by two layers on the message only. (r, f) -> (r, f)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, dim), nn.LeakyReLU(), nn.Linear(dim, dim))

    def forward(self, start: Tensor, message: Tensor) -> Tensor:
        """Return the update for ``message``."""
        return self.layers(message)  # type: ignore[no-any-return]


class EdgeMixing(nn.Module):
    """The message of an edge and its two sites: the mean over heads, weighted by exp(score). -> (e, f)."""

    def __init__(self, dim: int, heads: int, *, vector: bool) -> None:
        super().__init__()
        self.pairs = Pairs(dim, heads, 2 * dim, edges=True)
        self.scores = Heads(heads, 2 * dim, dim if vector else 1, bias=True)
        self.messages = Heads(heads, 2 * dim, dim, bias=True)

    def forward(self, graph: Graph, sites: Tensor, edges: Tensor) -> Tensor:
        """Return messages (e, f) from ``sites`` (n, f) and ``edges`` (e, f)."""
        scores, messages = self.pairs(graph, sites, edges, None)
        shares: Tensor = self.scores(scores).softmax(1)
        told: Tensor = self.messages(messages)
        return (shares * told).sum(1)


class CGAT(nn.Module):
    """The encoder. ``dim`` features, ``heads``, ``blocks``; ``shells`` vectors of shells (farther ones share the last).

    ``tolerance`` is as in ``shell_of_edge``. ``attention`` is scalar or vector: one score per message, or one per
    feature of a message. ``update`` is plain or hypernetwork. ``update_edges`` updates edges in every block but the
    last, after which edges are not used. ``composition_blocks`` is the number of blocks for the composition's vector.
    ``elements`` is as in ``Species``.
    """

    def __init__(
        self,
        *,
        dim: int,
        heads: int,
        blocks: int,
        shells: int,
        tolerance: float,
        attention: str,
        update: str,
        update_edges: bool,
        composition_blocks: int,
        elements: str,
    ) -> None:
        super().__init__()
        if attention not in ("scalar", "vector"):
            raise ConfigError(f"encoder.attention={attention!r} is not known; use scalar or vector.")
        if update not in ("plain", "hypernetwork"):
            raise ConfigError(f"encoder.update={update!r} is not known; use plain or hypernetwork.")
        sizes.require_whole("encoder", 1, dim=dim, heads=heads, shells=shells)
        sizes.require_whole("encoder", 0, blocks=blocks, composition_blocks=composition_blocks)
        sizes.require_positive("encoder", tolerance=tolerance)
        self.dim, self.n_levels, self.extras = dim, blocks + 1, ("state",)
        self.n_shells, self.tolerance = shells, tolerance
        vector = attention == "vector"

        def updates(count: int) -> nn.ModuleList:
            written = update == "hypernetwork"
            return nn.ModuleList(Hypernetwork(dim, first=k == 0) if written else Plain(dim) for k in range(count))

        self.species = Species(dim, elements)
        self.shell = nn.Embedding(shells, dim)
        self.composition = Composition(dim, composition_blocks, elements)
        self.blocks = nn.ModuleList(NeighbourAttention(dim, heads, vector=vector, edges=True) for _ in range(blocks))
        self.updates = updates(blocks)
        n_mixed = blocks - 1 if update_edges else 0
        self.edge_blocks = nn.ModuleList(EdgeMixing(dim, heads, vector=vector) for _ in range(n_mixed))
        self.edge_updates = updates(n_mixed)

    def forward(self, graph: Graph) -> Levels:
        """Return site features (n, dim) and the state (c, dim), the composition's vector, of every level."""
        shell = shell_of_edge(graph, self.tolerance).clamp_max(self.n_shells - 1)
        start = sites = self.species(graph.number)
        edge_start = edges = self.shell(shell) if len(self.edge_blocks) else self.shell.weight
        levels = [sites]
        for k, (block, update) in enumerate(zip(self.blocks, self.updates, strict=True)):
            heard = block(graph, sites, edges, None if len(self.edge_blocks) else shell)
            if k < len(self.edge_blocks):
                mixed = self.edge_blocks[k](graph, sites, edges)
                edges = edges + self.edge_updates[k](edge_start, mixed)
            sites = sites + update(start, heard)
            levels.append(sites)
        return Levels(levels, state=[self.composition(graph)] * self.n_levels)
