"""No encoder: in a model whose features all come from descriptors and frozen potentials."""

import torch
from torch import Tensor, nn

from tltool.crystal_graph import Graph
from tltool.errors import InapplicableError


class NoNetwork(nn.Module):
    """An encoder of one level with one constant feature, in the place of a network; it cannot be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.n_levels = 1, 1
        self.constant = nn.Parameter(torch.zeros(1))

    def forward(self, graph: Graph) -> list[Tensor]:
        """Return one constant (n, 1); raise InapplicableError in training."""
        if self.training:
            raise InapplicableError(
                "A frozen potential gives features and has no network to train; use mode=features or mode=auto, or "
                "name a network as well, as in source=[bundled,chgnet]."
            )
        return [self.constant.expand(graph.n_nodes, 1)]
