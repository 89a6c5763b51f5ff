"""Attention over the sites of a crystal with its state as the query, as in CGAT (doi:10.1126/sciadv.abi7948)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tltool.crystal_graph import Graph, Levels, as_levels
from tltool.model import message_passing
from tltool.model.layers import sizes
from tltool.model.layers.attention import Heads
from tltool.model.readouts.pool import checked_levels


class AttentionPool(nn.Module):
    """The readout: the mean of a map of the sites, weighted by exp(score of site and state); heads are concatenated.

    ``levels`` of the encoder are concatenated (-1 the last); each of ``heads`` has one hidden layer. Without a state,
    the score depends on the site only. Edges are not used. Every site counts once.
    """

    def __init__(
        self, dim: int, n_levels: int, extras: Sequence[str] = (), /, *, levels: list[int], heads: int
    ) -> None:
        super().__init__()
        sizes.require_whole("readout", 1, heads=heads)
        self.levels, self.heads = checked_levels(levels, n_levels), heads
        self.extras = tuple(name for name in extras if name == "state")
        dim *= len(levels)
        self.dim = heads * dim
        self.site = nn.Linear(dim, 2 * heads * dim)
        self.state = nn.Linear(dim, heads * dim, bias=False) if "state" in extras else None
        self.scores = Heads(heads, dim, 1, bias=False)
        self.messages = Heads(heads, dim, dim, bias=True)

    def forward(self, levels: Levels | Sequence[Tensor], graph: Graph) -> Tensor:
        """Return (c, dim) from the features of every level."""
        found = as_levels(levels)
        asking, telling = self.site(torch.cat([found.sites[k] for k in self.levels], dim=1)).chunk(2, dim=1)
        if self.state is not None:
            asked = self.state(torch.cat([found.state[k] for k in self.levels], dim=1))
            asking = asking + asked.index_select(0, graph.crystal)
        asking, telling = (
            F.leaky_relu(rows, 0.01).view(len(rows), self.heads, rows.shape[1] // self.heads)
            for rows in (asking, telling)
        )
        # The second layer of the messages is linear, so it acts on their mean.
        return self.messages(message_passing.crystal_attention(graph, self.scores(asking), telling)).flatten(1)  # type: ignore[no-any-return]
