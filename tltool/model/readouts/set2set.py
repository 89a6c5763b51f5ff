"""Set2Set: a query reads the sites of a crystal several times (Vinyals and others, arXiv:1511.06391), as in MEGNet.

In each step an LSTM turns the query and what it read last into the next query q, and the mean of the rows x, weighted
by exp(q.x), is what q reads. Every site and every edge of the full graph counts once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tltool.crystal_graph import Graph, Levels, as_levels
from tltool.model import message_passing
from tltool.model.layers import sizes
from tltool.model.readouts.pool import checked_levels


class Reader(nn.Module):
    """The query over sites or edges: a map to ``width`` features and an LSTM. -> (c, 2 width).

    The hidden state of the LSTM is the query, which is already part of its input, so one map is enough.
    """

    def __init__(self, dim: int, width: int | None, steps: int) -> None:
        super().__init__()
        self.steps, self.width = steps, width or dim
        self.rows = nn.Linear(dim, width) if width else nn.Identity()
        self.gates = nn.Linear(2 * self.width, 4 * self.width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the map of the LSTM; the bias of the forget gate starts at 1."""
        self.gates.reset_parameters()
        with torch.no_grad():
            self.gates.bias[self.width : 2 * self.width] = 1.0

    def forward(self, rows: Tensor, graph: Graph, of_edges: bool) -> Tensor:
        """Read ``rows`` (e, dim) if ``of_edges``, else (n, dim)."""
        rows = self.rows(rows)
        owner = graph.crystal.index_select(0, graph.receiver) if of_edges else graph.crystal
        seen = rows.new_zeros(graph.n_crystals, 2 * self.width)
        cell = rows.new_zeros(graph.n_crystals, self.width)
        for _ in range(self.steps):
            enter, keep, new, leave = self.gates(seen).chunk(4, dim=1)
            cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(new)
            query = torch.sigmoid(leave) * torch.tanh(cell)
            scores = (rows * query.index_select(0, owner)).sum(1)
            if of_edges:
                read = message_passing.crystal_edge_attention(graph, scores, rows)
            else:
                read = message_passing.crystal_attention(graph, scores[:, None, None], rows[:, None])[:, 0]
            seen = torch.cat([query, read], dim=1)
        return seen


class Set2Set(nn.Module):
    """The readout: a query over sites, another over edges if the encoder has them, and the state if it has one.

    ``levels`` of the encoder are concatenated (-1 the last); ``width`` features of a query, null for as many as
    the rows have; ``steps`` of reading.
    """

    def __init__(
        self,
        dim: int,
        n_levels: int,
        extras: Sequence[str] = (),
        /,
        *,
        levels: list[int],
        width: int | None,
        steps: int,
    ) -> None:
        super().__init__()
        sizes.require_whole("readout", 1, steps=steps, width=dim if width is None else width)
        self.levels, self.extras = checked_levels(levels, n_levels), tuple(extras)
        dim *= len(levels)
        self.of_sites = Reader(dim, width, steps)
        self.of_edges = Reader(dim, width, steps) if "edges" in extras else None
        self.dim = 2 * (width or dim) * (1 + ("edges" in extras)) + dim * ("state" in extras)

    def forward(self, levels: Levels | Sequence[Tensor], graph: Graph) -> Tensor:
        """Return (c, dim) from the features of every level."""
        found = as_levels(levels)

        def chosen(features: Sequence[Tensor]) -> Tensor:
            return torch.cat([features[level] for level in self.levels], dim=1)

        parts = [self.of_sites(chosen(found.sites), graph, False)]
        if self.of_edges is not None:
            parts.append(self.of_edges(chosen(found.edges), graph, True))
        if "state" in self.extras:
            parts.append(chosen(found.state))
        return torch.cat(parts, dim=1)
