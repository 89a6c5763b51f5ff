"""Edge-gated convolution as far as it runs over edges (Bresson and Laurent, arXiv:1711.07553), as ALIGNN has it.

Edges are taken in pieces that stay in the processor's cache, the backward pass is written out, and of all that has the
size edges x features only the gates are kept for it. The graph may be a line graph: nodes are edges then, and edges
angles. Sizes as in ``fields``; f features.
"""

from typing import Any

import torch
from torch import Tensor
from torch.amp import custom_fwd
from torch.autograd.function import once_differentiable

from tltool.fields import Graph
from tltool.model import kernels, pieces

_EPS = 1e-6  # of the published code, added to the sum of the gates


def gated_mean(
    graph: Graph, at_receiver: Tensor, at_neighbour: Tensor, at_edge: Tensor, message: Tensor
) -> tuple[Tensor, Tensor]:
    """Return (n, f), the mean of the neighbours' ``message`` (n, f) with weights sigmoid(m), and m (e, f).

    m = ``at_receiver`` (n, f) + ``at_neighbour`` (n, f) + ``at_edge`` (e, f).
    """
    if kernels.chosen() == "dgl":
        gates = kernels.pair_sum(graph, at_receiver, at_neighbour) + at_edge
        opened = torch.sigmoid(gates)
        total = kernels.neighbour_sum(graph, opened * message.index_select(0, graph.neighbour))
        return total / (kernels.neighbour_sum(graph, opened) + _EPS), gates
    return _GatedMean.apply(graph, at_receiver, at_neighbour, at_edge, message)  # type: ignore[no-any-return,no-untyped-call]


class _GatedMean(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cuda", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any, graph: Graph, at_receiver: Tensor, at_neighbour: Tensor, at_edge: Tensor, message: Tensor
    ) -> tuple[Tensor, Tensor]:
        gates, total, received = torch.empty_like(at_edge), torch.zeros_like(message), torch.zeros_like(message)
        for piece in pieces.of(gates):
            receiver, neighbour = graph.receiver[piece], graph.neighbour[piece]
            gate = torch.add(at_edge[piece], at_receiver.index_select(0, receiver), out=gates[piece])
            gate += at_neighbour.index_select(0, neighbour)
            opened = torch.sigmoid(gate).mul_(graph.edge_multiplicity[piece, None])
            total.index_add_(0, receiver, opened)
            received.index_add_(0, receiver, opened.mul_(message.index_select(0, neighbour)))
        inverse = total.add_(_EPS).reciprocal_()
        received *= inverse
        ctx.graph = graph
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(gates, message, received, inverse)
        return received, gates

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_received: Tensor | None, d_gates: Tensor | None) -> tuple[Tensor | None, ...]:
        gates, message, received, inverse = ctx.saved_tensors
        graph: Graph = ctx.graph
        scaled = torch.zeros_like(message) if d_received is None else d_received * inverse
        d_message, d_receiver, d_neighbour = (torch.zeros_like(message) for _ in range(3))
        d_edge = torch.empty_like(gates)
        for piece in pieces.of(gates):
            receiver, neighbour = graph.receiver[piece], graph.neighbour[piece]
            opened = torch.sigmoid(gates[piece])
            through = scaled.index_select(0, receiver).mul_(graph.edge_multiplicity[piece, None]).mul_(opened)
            d_message.index_add_(0, neighbour, through)
            # What a gate gains: how far the message it lets in stands from the mean.
            through *= message.index_select(0, neighbour).sub_(received.index_select(0, receiver))
            slope = torch.mul(through, opened.neg_().add_(1), out=d_edge[piece])
            if d_gates is not None:
                slope += d_gates[piece]
            d_receiver.index_add_(0, receiver, slope)
            d_neighbour.index_add_(0, neighbour, slope)
        return None, d_receiver, d_neighbour, d_edge, d_message
