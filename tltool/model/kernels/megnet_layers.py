"""Linear maps with softplus(x) - log 2 after each, as MEGNet has them.

Where there are compiled kernels the activation is one of them, which gives its slope as well, and the backward pass of
a stack of layers is written out. Sizes as in ``fields``; r rows, f, h features.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from tltool.crystal_graph import Graph
from tltool.model import message_passing
from tltool.model.kernels import cgcnn_cpp

_LOG_2 = math.log(2.0)


def layers(rows: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return ``rows`` (r, a) after all maps (r, b); ``weights`` are weight and bias of each in turn."""
    if message_passing.chosen() == "compiled" and cgcnn_cpp.takes(rows, *weights):
        return _Layers.apply(rows, *weights)  # type: ignore[no-any-return,no-untyped-call]
    for weight, bias in zip(weights[::2], weights[1::2], strict=True):
        rows = _activation(F.linear(rows, weight, bias))
    return rows


def edge_layers(
    graph: Graph, sites: Tensor, edges: Tensor, state: Tensor, by_distance: bool, weights: Sequence[Tensor]
) -> Tensor:
    """Return new edges (e, f): layers on receiver, neighbour, edge and state put side by side.

    ``sites`` (n, f), ``edges`` (e, f), or (d, f) if ``by_distance``, ``state`` (c, f). ``weights``: those of the first
    map (h, f) for receiver, neighbour, edge and state, and its bias; then as in ``layers``.
    """
    if message_passing.chosen() == "compiled" and cgcnn_cpp.takes(sites, edges, state, *weights):
        return _EdgeLayers.apply(graph, by_distance, sites, edges, state, *weights)  # type: ignore[no-any-return,no-untyped-call]
    receiver, neighbour, edge, of_state, bias, *rest = weights
    at_receiver = F.linear(sites, receiver, bias) + F.linear(state, of_state).index_select(0, graph.crystal)
    at_neighbour, at_edge = F.linear(sites, neighbour), F.linear(edges, edge)
    if by_distance:
        first = message_passing.edge_sum(graph, at_receiver, at_neighbour, at_edge)
    else:
        first = message_passing.pair_sum(graph, at_receiver, at_neighbour).add_(at_edge)
    return layers(_activation(first), rest)


def _activation(rows: Tensor) -> Tensor:
    return F.softplus(rows).sub_(_LOG_2)


def _forward(rows: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the result and, for the way back, what came to each map and the slope of each activation."""
    kept = []
    for weight, bias in zip(weights[::2], weights[1::2], strict=True):
        slope = torch.addmm(bias, rows, weight.t())
        kept += [rows, slope]
        rows = cgcnn_cpp.soften(slope)
    return rows, kept


def _backward(upstream: Tensor, kept: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the gradients by the rows that came in and by the weights."""
    found: list[Tensor] = []
    for k in reversed(range(0, len(kept), 2)):
        flow = kept[k + 1] * upstream
        found += [flow.sum(0), flow.t() @ kept[k]]
        upstream = flow @ weights[k]
    return upstream, found[::-1]


class _Layers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, *weights: Tensor) -> Tensor:
        out, kept = _forward(rows, weights)
        ctx.save_for_backward(*kept, *weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, ...]:
        tables = ctx.saved_tensors
        n = len(tables) // 2
        d_rows, d_weights = _backward(upstream, tables[:n], tables[n:])
        return d_rows, *d_weights


class _EdgeLayers(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, graph: Graph, by_distance: bool, sites: Tensor, edges: Tensor, state: Tensor, *weights: Tensor
    ) -> Tensor:
        receiver, neighbour, edge, of_state, bias, *rest = weights
        at_receiver = torch.addmm(bias, sites, receiver.t())
        at_receiver += (state @ of_state.t()).index_select(0, graph.crystal)
        slope = edges @ edge.t()
        if by_distance:
            slope = slope.index_select(0, graph.distance_index)
        slope += at_receiver.index_select(0, graph.receiver)
        slope += (sites @ neighbour.t()).index_select(0, graph.neighbour)
        out, kept = _forward(cgcnn_cpp.soften(slope), rest)
        ctx.graph, ctx.by_distance, ctx.n_kept = graph, by_distance, len(kept)
        ctx.save_for_backward(sites, edges, state, slope, *kept, *weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        sites, edges, state, slope, *tables = ctx.saved_tensors
        graph: Graph = ctx.graph
        receiver, neighbour, edge, of_state, _, *rest = tables[ctx.n_kept :]
        upstream, d_rest = _backward(upstream, tables[: ctx.n_kept], rest)
        flow = slope * upstream

        def collected(index: Tensor, size: int, rows: Tensor) -> Tensor:
            return rows.new_zeros(size, rows.shape[1]).index_add_(0, index, rows)

        at_receiver = collected(graph.receiver, len(sites), flow)
        at_neighbour = collected(graph.neighbour, len(sites), flow)
        at_state = collected(graph.crystal, len(state), at_receiver)
        at_edge = collected(graph.distance_index, len(edges), flow) if ctx.by_distance else flow
        pairs = (at_receiver, sites), (at_neighbour, sites), (at_edge, edges), (at_state, state)
        d_first = (*(at.t() @ rows for at, rows in pairs), at_receiver.sum(0))
        d_sites = torch.addmm(at_receiver @ receiver, at_neighbour, neighbour)
        return None, None, d_sites, at_edge @ edge, at_state @ of_state, *d_first, *d_rest
