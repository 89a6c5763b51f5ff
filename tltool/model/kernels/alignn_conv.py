"""Edge-gated convolution as far as it runs over edges (Bresson and Laurent, arXiv:1711.07553), as ALIGNN has it.

m_ij = A x_i + B x_j + C y_ij is the gate of the message V x_j, and y_ij' = y_ij + SiLU(N(m_ij)). The graph may be a
line graph: nodes are edges then, and edges angles. Sizes as in ``fields``; f features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tltool.crystal_graph import Graph
from tltool.model import all_reduce, message_passing
from tltool.model.kernels.alignn_passes import EPS, Convolution
from tltool.model.kernels.alignn_recompute import Edges, Maps, Update
from tltool.model.norm import WeightedBatchNorm


def convolved(
    graph: Graph, nodes: Tensor, edges: Edges, maps: Maps, norm: WeightedBatchNorm | None, keep: bool
) -> tuple[Tensor, Edges | None]:
    """Return (n, f), the mean of V x_j over the neighbours j with weights sigmoid(m), and the new edges.

    ``nodes`` x (n, f), ``edges`` y; without a ``norm`` N edges end here. Unless ``keep``, the new ones are not kept for
    the backward pass, and nothing but this function can read them.
    """
    if message_passing.chosen() == "dgl":
        return _by_dgl(graph, nodes, edges, maps, norm)
    share: Tensor | None = None
    fixed: tuple[Tensor | None, Tensor | None, float] = (None, None, 0.0)
    scaling: tuple[Tensor | None, Tensor | None] = (None, None)
    if norm is not None:
        weight = graph.edge_weight()
        total = (all_reduce.total(weight.sum()) if norm.training else weight.sum()).clamp_min(1.0)
        share = weight / total if norm.training else None
        fixed, scaling = (norm.mean, norm.variance, norm.eps), (norm.scale, norm.bias)
    flowing = edges.rows if edges.token is None else edges.token
    given = graph, edges, keep, share, *fixed, nodes, flowing, *maps, *scaling
    received, flowing, rows, mean, variance, factor = Convolution.apply(*given)  # type: ignore[no-untyped-call]
    if norm is None:
        return received, None
    if norm.training:
        norm.remember(mean, variance, total)
    if keep or not torch.is_grad_enabled():
        return received, Edges(flowing if keep else rows)
    # No gradient goes by what makes them again: the token stands for that.
    update = Update(Maps(*(table.detach() for table in maps)), nodes.detach(), mean, factor, norm.bias.detach())
    first = edges.rows.detach() if edges.first is None else edges.first
    return received, Edges(rows, False, flowing, first, (*edges.updates, update))


def _by_dgl(
    graph: Graph, nodes: Tensor, edges: Edges, maps: Maps, norm: WeightedBatchNorm | None
) -> tuple[Tensor, Edges | None]:
    """The same by DGL's kernels and automatic differentiation, which keeps everything."""
    rows = edges.rows.index_select(0, graph.distance_index) if edges.by_distance else edges.rows
    at_receiver = F.linear(nodes, maps.receiver, maps.receiver_bias)
    at_neighbour = F.linear(nodes, maps.neighbour, maps.neighbour_bias)
    m = message_passing.pair_sum(graph, at_receiver, at_neighbour) + F.linear(rows, maps.edge, maps.edge_bias)
    message = F.linear(nodes, maps.message, maps.message_bias)
    opened = torch.sigmoid(m)
    total = message_passing.neighbour_sum(graph, opened * message.index_select(0, graph.neighbour))
    received = total / (message_passing.neighbour_sum(graph, opened) + EPS)
    return received, None if norm is None else Edges(F.silu(norm(m, graph.edge_weight())) + rows)
