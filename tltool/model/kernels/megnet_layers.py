"""Compute MEGNet's layers with compiled activations and a hand-written backward pass for a stack of layers.

The compiled activation softplus(x) - log 2 gives its slope as well. Sizes as in ``crystal_graph``; r rows, f, h
features.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tltool.crystal_graph import Graph
from tltool.model.encoders.megnet import EdgeUpdate, Layers
from tltool.model.kernels import rows_cpp
from tltool.model.kernels.cpp_kernels import CppKernels


def layers(cpp: CppKernels, module: Layers, rows: Tensor) -> Tensor:
    """Compute ``Layers.forward``."""
    weights = _weights(module)
    if not cpp.takes(rows, *weights):
        return Layers.forward(module, rows)
    return _Layers.apply(cpp, rows, *weights)  # type: ignore[no-any-return,no-untyped-call]


def edge_layers(
    cpp: CppKernels, module: EdgeUpdate, sites: Tensor, edges: Tensor, state: Tensor, graph: Graph, by_distance: bool
) -> Tensor:
    """Compute ``EdgeUpdate.forward``."""
    maps = (module.receiver, module.neighbour, module.edge, module.state)
    weights = [*(part.weight for part in maps), module.receiver.bias, *_weights(module.rest)]
    if not cpp.takes(sites, edges, state, *weights):
        return EdgeUpdate.forward(module, sites, edges, state, graph, by_distance)
    return _EdgeLayers.apply(cpp, graph, by_distance, sites, edges, state, *weights)  # type: ignore[no-any-return,no-untyped-call]


def _weights(module: Layers) -> list[Tensor]:
    """Return weight and bias of each map in turn."""
    return [table for part in module.maps for table in (part.weight, part.bias)]  # type: ignore[misc]


def _forward(cpp: CppKernels, rows: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the result and, for the way back, what came to each map and the slope of each activation."""
    kept = []
    for weight, bias in zip(weights[::2], weights[1::2], strict=True):
        slope = torch.addmm(bias, rows, weight.t())
        kept += [rows, slope]
        rows = rows_cpp.soften(cpp, slope)
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
    def forward(ctx: Any, cpp: CppKernels, rows: Tensor, *weights: Tensor) -> Tensor:
        out, kept = _forward(cpp, rows, weights)
        ctx.save_for_backward(*kept, *weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        tables = ctx.saved_tensors
        n = len(tables) // 2
        d_rows, d_weights = _backward(upstream, tables[:n], tables[n:])
        return None, d_rows, *d_weights


class _EdgeLayers(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        cpp: CppKernels,
        graph: Graph,
        by_distance: bool,
        sites: Tensor,
        edges: Tensor,
        state: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        receiver, neighbour, edge, of_state, bias, *rest = weights
        at_receiver = torch.addmm(bias, sites, receiver.t())
        at_receiver += (state @ of_state.t()).index_select(0, graph.crystal)
        slope = edges @ edge.t()
        if by_distance:
            slope = slope.index_select(0, graph.distance_index)
        slope += at_receiver.index_select(0, graph.receiver)
        slope += (sites @ neighbour.t()).index_select(0, graph.neighbour)
        out, kept = _forward(cpp, rows_cpp.soften(cpp, slope), rest)
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
        return None, None, None, d_sites, at_edge @ edge, at_state @ of_state, *d_first, *d_rest
