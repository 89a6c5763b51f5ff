"""Attention with several heads, each a network of two layers with its own weights (Schmidt and others,
doi:10.1126/sciadv.abi7948): of a site over its neighbours.

Sizes as in ``crystal_graph``; f features, a heads, h hidden features of a head, r rows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tltool.crystal_graph import Graph
from tltool.model import message_passing


class Heads(nn.Module):
    """One linear map for each of ``heads``. (r, a, h) -> (r, a, out)."""

    def __init__(self, heads: int, hidden: int, out: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(heads, hidden, out))
        self.bias = nn.Parameter(torch.empty(heads, out)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise each map like a linear map."""
        bound = self.weight.shape[1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, rows: Tensor) -> Tensor:
        """Map ``rows``."""
        mapped = torch.bmm(rows.transpose(0, 1), self.weight).transpose(0, 1)
        return mapped if self.bias is None else mapped + self.bias


class Pairs(nn.Module):
    """The first layer of scores and messages from receiver, neighbour and edge: a sum of three maps. -> 2 (e, a, h)."""

    def __init__(self, dim: int, heads: int, hidden: int, *, edges: bool) -> None:
        super().__init__()
        self.heads = heads
        self.receiver = nn.Linear(dim, 2 * heads * hidden)
        self.neighbour = nn.Linear(dim, 2 * heads * hidden, bias=False)
        self.edge = nn.Linear(dim, 2 * heads * hidden, bias=False) if edges else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the maps like a single map of the concatenated inputs."""
        maps = [part for part in (self.receiver, self.neighbour, self.edge) if part is not None]
        bound = sum(part.in_features for part in maps) ** -0.5
        for part in maps:
            nn.init.uniform_(part.weight, -bound, bound)
        nn.init.uniform_(self.receiver.bias, -bound, bound)

    def forward(self, graph: Graph, sites: Tensor, edges: Tensor | None, index: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return hidden features of scores and of messages from ``sites`` (n, f) and rows of ``edges`` for edges.

        Edge k has row ``index[k]`` of ``edges``, or row k without an ``index``.
        """
        rows = message_passing.pair_sum(graph, self.receiver(sites), self.neighbour(sites))
        if self.edge is not None and edges is not None:
            at_edge = self.edge(edges)
            rows = rows.add_(at_edge if index is None else at_edge.index_select(0, index))
        # The size is written out, as it cannot be guessed where there is no edge at all.
        hidden = rows.shape[1] // (2 * self.heads)
        scores, messages = F.leaky_relu(rows, 0.01).view(len(rows), 2, self.heads, hidden).unbind(1)
        return scores, messages


class NeighbourAttention(nn.Module):
    """The message to a site: the mean over heads of the mean message of its neighbours, weighted by exp(score).

    ``vector`` gives every feature of a message its own score. With one score per message, the second layer acts on the
    sum of the messages, with the same result and much less work. -> (n, f).
    """

    def __init__(self, dim: int, heads: int, *, vector: bool, edges: bool) -> None:
        super().__init__()
        hidden = 2 * dim
        self.vector = vector
        self.pairs = Pairs(dim, heads, hidden, edges=edges)
        # A bias would be the same for all neighbours and change no share.
        self.scores = Heads(heads, hidden, dim if vector else 1, bias=False)
        self.messages = Heads(heads, hidden, dim, bias=True)

    def forward(self, graph: Graph, sites: Tensor, edges: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Return the messages (n, f) to ``sites`` (n, f); ``edges`` and ``index`` are as in ``Pairs``."""
        scores, messages = self.pairs(graph, sites, edges, index)
        scored = self.scores(scores)
        shares = message_passing.edge_softmax(graph, scored.flatten(1)).view_as(scored)
        if self.vector:
            heard = self.messages(messages).mul(shares).mean(1)
            return message_passing.neighbour_sum(graph, heard)
        heard = message_passing.neighbour_sum(graph, (messages * shares).flatten(1))
        return self.messages(heard.view(graph.n_nodes, *messages.shape[1:])).mean(1)  # type: ignore[no-any-return]
