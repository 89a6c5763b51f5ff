"""CGAT: attention on a crystal graph whose edges know no distance (Schmidt and others, doi:10.1126/sciadv.abi7948).

An edge knows only its shell: the rank of its distance among those of its receiver. So predictions do not change when a
crystal is strained evenly, and structures that are not relaxed can be read. A block computes what each site hears from
its neighbours (``NeighbourAttention``), passes it through an update and adds it; edges may be updated alike. The vector
of the composition (``Composition``) is the state, with which the readout ``attention`` asks. Departures from the
published code are named in ``configs/encoder/cgat.yaml``. Sizes as in ``crystal_graph``; f = dim.
"""

import torch
from torch import Tensor, nn

from tltool.crystal_graph import Graph, Levels
from tltool.errors import ConfigError
from tltool.model.layers.attention import Heads, NeighbourAttention, Pairs
from tltool.model.layers.composition import Composition
from tltool.model.layers.hypernetwork import Hypernetwork
from tltool.model.layers.species import Species


def shell_of_edge(graph: Graph, tolerance: float) -> Tensor:
    """Return (e,) int64: how many different distances its receiver has below each edge's own.

    A distance is another one if it is larger by more than the fraction ``tolerance`` of the one before.
    """
    distance = graph.distance.index_select(0, graph.distance_index)
    further = torch.zeros_like(distance, dtype=torch.bool)
    further[1:] = distance.diff() > tolerance * distance[:-1]
    # The count goes through all receivers, so each subtracts what it was at its first edge.
    count = further.cumsum(0)
    return count - count.index_select(0, graph.first_edge.index_select(0, graph.receiver))


class Plain(nn.Module):
    """An update by two layers on the message alone; the start does not matter. (r, f) -> (r, f)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, dim), nn.LeakyReLU(), nn.Linear(dim, dim))

    def forward(self, start: Tensor, message: Tensor) -> Tensor:
        """Return the update for ``message``."""
        return self.layers(message)  # type: ignore[no-any-return]


class EdgeMixing(nn.Module):
    """What an edge makes of itself and its two sites: the mean over heads, weighted by e to their scores. -> (e, f)."""

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
    """The encoder. ``dim`` features, ``heads``, ``blocks``; ``shells`` vectors of shells, further ones share the last.

    ``tolerance`` as in ``shell_of_edge``; ``attention`` scalar or vector: one score for a message or one for each
    of its features; ``update`` plain or hypernetwork; ``update_edges`` in every block but the last, after which nobody
    reads them; ``composition_blocks`` of the composition's vector; ``elements`` as in ``Species``.
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
