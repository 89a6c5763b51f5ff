"""Compute the convolutions of CGCNN with compiled kernels: the interface between PyTorch and ``cgcnn.cpp``.

``encoders/cgcnn.py`` has the plain form. All blocks are one autograd function, and one call
of the kernels each way.
Sizes as in ``crystal_graph``; f features, m Gaussians, w = 2f gates and messages.
"""

import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tltool.crystal_graph import Graph
from tltool.model.encoders.cgcnn import Convolution
from tltool.model.kernels.cpp_kernels import LANES, CppKernels
from tltool.model.norm import WeightedBatchNorm

# The structures of cgcnn.cpp: q a whole number or an address, d a real number.
BATCH, _NORM, GRADIENTS, FLOW = "16q", "qdd6q", "9q", "5q"
BLOCK = f"12q{2 * _NORM}"


class Weights(NamedTuple):
    """What a convolution learns: maps (w, f), (w,), (w, f), (w, m), and scale and bias of its normalisations."""

    receiver: Tensor
    receiver_bias: Tensor
    neighbour: Tensor
    distance: Tensor
    edge_scale: Tensor
    edge_bias: Tensor
    node_scale: Tensor
    node_bias: Tensor


class Block(NamedTuple):
    """A convolution: what it learns, and its normalisations of edges and of nodes."""

    weights: Weights
    edges: WeightedBatchNorm
    nodes: WeightedBatchNorm


def of_block(block: Convolution) -> Block:
    """Return what the kernels compute ``block`` with."""
    receiver, edges, sites = block.receiver, block.norm_edges, block.norm_sites
    maps = receiver.weight, receiver.bias, block.neighbour.weight, block.distance.weight
    weights = Weights(*maps, edges.scale, edges.bias, sites.scale, sites.bias)
    return Block(weights, edges, sites)


def fits(cpp: CppKernels, graph: Graph, sites: Tensor, basis: Tensor) -> bool:
    """Return whether the kernels support ``sites`` (n, f) and ``basis`` (d, m); ``basis`` gets no gradient."""
    known = cpp.takes(sites, basis, graph.edge_multiplicity)
    return known and sites.shape[1] % LANES == 0 and not basis.requires_grad


def convolutions(cpp: CppKernels, graph: Graph, sites: Tensor, basis: Tensor, blocks: Sequence[Block]) -> list[Tensor]:
    """Return the sites (n, f) before the first and after each block."""
    weights = [weight.contiguous() for block in blocks for weight in block.weights]
    if torch.is_grad_enabled() and any(table.requires_grad for table in (sites, *weights)):
        return [sites, *_Convolutions.apply(sites, cpp, graph, basis, blocks, *weights)]  # type: ignore[no-untyped-call]
    return _forward(cpp, graph, sites, basis, blocks, weights, keep=False)[0]


class _Convolutions(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        sites: Tensor,
        cpp: CppKernels,
        graph: Graph,
        basis: Tensor,
        blocks: Sequence[Block],
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        levels, work, ctx.facts = _forward(cpp, graph, sites, basis, blocks, weights, keep=True)
        # All that the facts name has to stay where it is until the backward pass.
        ctx.save_for_backward(basis, work, *levels, *weights)
        ctx.set_materialize_grads(False)
        ctx.graph, ctx.cpp = graph, cpp
        return tuple(levels[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        basis, _, sites, *rest = ctx.saved_tensors
        weights, size = rest[len(upstream) :], len(Weights._fields)
        # Above the last level that is used and below the first block that learns there is nothing to do.
        top = max((k + 1 for k, flow in enumerate(upstream) if flow is not None), default=0)
        learns = [any(ctx.needs_input_grad[5 + k * size : 5 + (k + 1) * size]) for k in range(len(upstream))]
        lowest = 0 if ctx.needs_input_grad[0] else learns.index(True)
        if lowest >= top:
            return (None,) * len(ctx.needs_input_grad)
        found: list[Tensor | None] = [None] * len(weights)
        flows = [None if flow is None else flow.contiguous() for flow in upstream]
        gradients = [0] * (lowest * (size + 1))
        for k in range(lowest, top):
            own = [torch.empty_like(weight) for weight in weights[k * size : (k + 1) * size]]
            found[k * size : (k + 1) * size] = own
            flow = flows[k]
            gradients += [0 if flow is None else flow.data_ptr(), *(table.data_ptr() for table in own)]
        d_sites, (n, f), d = torch.empty_like(sites), sites.shape, len(basis)
        _scratch, places = room(sites, n * f, 2 * n * f, 2 * n * f, 2 * d * f)
        cpp: CppKernels = ctx.cpp
        cpp.library(sites.dtype).backward(
            _batch(cpp, ctx.graph, basis), f, ctx.facts, top, cpp.threads(), lowest,
            struct.pack(GRADIENTS * top, *gradients), struct.pack(FLOW, d_sites.data_ptr(), *places),
        )  # fmt: skip
        return (None if lowest else d_sites), None, None, None, None, *found


def _forward(
    cpp: CppKernels,
    graph: Graph,
    sites: Tensor,
    basis: Tensor,
    blocks: Sequence[Block],
    weights: Sequence[Tensor],
    *,
    keep: bool,
) -> tuple[list[Tensor], Tensor, bytes]:
    """Return the sites of every level, tables that the backward pass needs if ``keep``, and the structures Block."""
    if any(weight.dtype != sites.dtype for weight in weights):
        raise TypeError("The weights of a convolution and its sites have to be of one kind of number.")
    levels, size = [sites.contiguous()], len(Weights._fields)
    (n, f), d, e = sites.shape, len(basis), len(graph.neighbour)
    w, rows = 2 * f, (e, n) if keep else (0, 0)
    each = (n * w, n * w, d * w, n * f, rows[0] * w, rows[1] * f, w, w, f, f)
    work, places = room(sites, *(each * len(blocks) if keep else each))
    facts: list[float] = []
    for k, block in enumerate(blocks):
        levels.append(torch.empty_like(levels[-1]))
        a, b, c, received, slopes, update_slopes, *statistics = (places[k * len(each) :] if keep else places)[:10]
        maps = [table.data_ptr() for table in weights[k * size : (k + 1) * size]]
        facts += [maps[0], maps[1], maps[2], maps[3], levels[k].data_ptr(), a, b, c, received, levels[-1].data_ptr()]
        facts += [slopes, update_slopes] if keep else [0, 0]
        for p, norm in enumerate(block[1:]):
            running = norm.mean.data_ptr(), norm.variance.data_ptr()
            facts += [norm.training, norm.eps, norm.momentum, *maps[4 + 2 * p : 6 + 2 * p], *running]
            facts += statistics[2 * p : 2 * p + 2]
    packed = struct.pack(BLOCK * len(blocks), *facts)
    cpp.library(sites.dtype).forward(_batch(cpp, graph, basis), f, packed, len(blocks), cpp.threads())
    return levels, work, packed


def room(like: Tensor, *sizes: int) -> tuple[Tensor, list[int]]:
    """Return memory for tables of these sizes, of the kind of ``like``, and the address of each."""
    room = like.new_empty(sum(sizes))
    starts = accumulate((size * room.element_size() for size in sizes[:-1]), initial=room.data_ptr())
    return room, list(starts)


def _batch(cpp: CppKernels, graph: Graph, basis: Tensor) -> bytes:
    """Return the structure Batch, made once for a batch and its basis."""

    def make() -> tuple[bytes, list[Tensor]]:
        n, d, m = graph.n_nodes, *basis.shape
        taps = graph.first_edge.new_empty(2 * d + 2 * max(n, 1) + 3)
        totals = torch.empty(2, dtype=torch.float64)
        fields = [graph.first_edge, graph.neighbour, graph.distance_index, graph.multiplicity, graph.edge_multiplicity]
        tables = [table.contiguous() for table in (*fields, basis)]
        shares, places = room(basis, n, n, n, d)
        own = [taps.data_ptr(), taps.data_ptr() + 16 * d, totals.data_ptr()]
        facts = struct.pack(BATCH, n, d, m, *(table.data_ptr() for table in tables), *own, *places)
        cpp.library(basis.dtype).prepare(facts, torch.finfo(basis.dtype).eps / 16)
        # Kept with the facts, so that the addresses hold and no other basis gets this one's number.
        return facts, [*tables, taps, totals, shares, basis]

    return graph.once(f"compiled for basis {id(basis)}", make)[0]  # type: ignore[no-any-return]
