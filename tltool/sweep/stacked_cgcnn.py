"""Compute the convolutions of several CGCNN models at once, each on its own part of a graph, as one autograd function.

The kernels of ``cgcnn_cpp.py``, called for one model after another with its weights: what they compute is the same to
the bit. Sizes: s models; n nodes, c crystals of each, as in ``crystal_graph.Parts``; f features, m Gaussians, w = 2f.
"""

import struct
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tltool.crystal_graph import Graph, Parts
from tltool.model.encoders.cgcnn import CGCNN, Convolution
from tltool.model.kernels import cgcnn_cpp
from tltool.model.kernels.cgcnn_cpp import Weights
from tltool.model.kernels.cpp_kernels import CppKernels

_SIZE = len(Weights._fields)


class Statistics(NamedTuple):
    """A normalisation in all models: running mean and variance (s, dim), whether they change, momentum and eps."""

    mean: Tensor
    variance: Tensor
    learns: bool
    momentum: float
    eps: float


class Block(NamedTuple):
    """A convolution: the weights of each model (s, ...), and its two normalisations."""

    weights: Weights
    edges: Statistics
    nodes: Statistics


def levels(cpp: CppKernels, encoder: CGCNN, graph: Graph, parts: Parts, table: Callable[[str], Tensor]) -> list[Tensor]:
    """Return the site features (s n, f) of every level of several encoders of the shape of ``encoder``.

    Each is computed on its own part of ``graph``; ``table`` gives what they call by a name, (s, ...).
    """
    # All models map the same table, which makes one product of it: rows of an element, in the order of the models.
    bias, weight = table("embedding.bias").flatten(), table("embedding.weight").flatten(0, 1)
    vectors = torch.addmm(bias, encoder.table, weight.t()).view(-1, encoder.dim)
    model = torch.arange(parts.count, device=graph.number.device).repeat_interleave(parts.nodes)
    sites = vectors.index_select(0, graph.number * parts.count + model)
    blocks = [
        _block(block, partial(_below, table, f"blocks.{k}"))
        for k, block in enumerate(encoder.blocks)
        if isinstance(block, Convolution)
    ]
    return convolutions(cpp, graph, parts, sites, encoder.basis(graph.distance), blocks)


def _below(table: Callable[[str], Tensor], part: str, name: str) -> Tensor:
    return table(f"{part}.{name}")


def _block(block: Convolution, table: Callable[[str], Tensor]) -> Block:
    """Return the weights and normalisations of several convolutions with the shape of ``block``."""
    maps = [table(name) for name in ("receiver.weight", "receiver.bias", "neighbour.weight", "distance.weight")]
    norms = {"norm_edges": block.norm_edges, "norm_sites": block.norm_sites}
    learnt = [table(f"{name}.{what}") for name in norms for what in ("scale", "bias")]
    running = [
        Statistics(table(f"{name}.mean"), table(f"{name}.variance"), norm.training, norm.momentum, norm.eps)
        for name, norm in norms.items()
    ]
    return Block(cgcnn_cpp.Weights(*maps, *learnt), *running)


def convolutions(
    cpp: CppKernels, graph: Graph, parts: Parts, sites: Tensor, basis: Tensor, blocks: Sequence[Block]
) -> list[Tensor]:
    """Return the sites (s n, f) before the first and after each block; ``cgcnn_cpp.fits`` must be true."""
    weights = [weight for block in blocks for weight in block.weights]
    if torch.is_grad_enabled() and any(table.requires_grad for table in (sites, *weights)):
        return [sites, *_Convolutions.apply(sites, cpp, graph, parts, basis, blocks, *weights)]  # type: ignore[no-untyped-call]
    return _forward(cpp, graph, parts, sites, basis, blocks, weights, keep=False)[0]


class _Convolutions(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        sites: Tensor,
        cpp: CppKernels,
        graph: Graph,
        parts: Parts,
        basis: Tensor,
        blocks: Sequence[Block],
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        levels, work, ctx.facts = _forward(cpp, graph, parts, sites, basis, blocks, weights, keep=True)
        # All that the facts name has to stay where it is until the backward pass.
        ctx.save_for_backward(basis, work, *levels, *weights)
        ctx.set_materialize_grads(False)
        ctx.cpp, ctx.graph, ctx.parts = cpp, graph, parts
        return tuple(levels[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        basis, _, sites, *rest = ctx.saved_tensors
        weights, parts, needed = rest[len(upstream) :], ctx.parts, ctx.needs_input_grad
        # Above the last level that is used and below the first block that learns there is nothing to do.
        top = max((k + 1 for k, flow in enumerate(upstream) if flow is not None), default=0)
        learns = [any(needed[6 + k * _SIZE : 6 + (k + 1) * _SIZE]) for k in range(len(upstream))]
        lowest = 0 if needed[0] else learns.index(True)
        if lowest >= top:
            return (None,) * len(needed)
        found: list[Tensor | None] = [None] * len(weights)
        flows = [None if flow is None else flow.contiguous() for flow in upstream]
        for k in range(lowest * _SIZE, top * _SIZE):
            found[k] = torch.empty(weights[k].shape, dtype=weights[k].dtype)
        (n, f), d_sites = (parts.nodes, sites.shape[1]), torch.empty_like(sites)
        most = max(end - begin for begin, end in _spots(parts))
        _scratch, places = cgcnn_cpp.room(sites, n * f, 2 * n * f, 2 * n * f, 2 * most * f)
        cpp: CppKernels = ctx.cpp
        kernels, size = cpp.library(sites.dtype), sites.element_size()
        to = _begins([table for table in found if table is not None], parts.count)
        for model, (batch, facts) in enumerate(zip(_batches(cpp, ctx.graph, parts, basis), ctx.facts, strict=True)):
            shift = model * n * f * size
            gradients = [0] * (lowest * (_SIZE + 1))
            for k in range(lowest, top):
                flow, at = flows[k], (k - lowest) * _SIZE
                gradients.append(0 if flow is None else flow.data_ptr() + shift)
                gradients += to[model][at : at + _SIZE]
            kernels.backward(
                batch, f, facts, top, cpp.threads(), lowest,
                struct.pack(cgcnn_cpp.GRADIENTS * top, *gradients),
                struct.pack(cgcnn_cpp.FLOW, d_sites.data_ptr() + shift, *places),
            )  # fmt: skip
        return (None if lowest else d_sites), None, None, None, None, None, *found


def _forward(
    cpp: CppKernels,
    graph: Graph,
    parts: Parts,
    sites: Tensor,
    basis: Tensor,
    blocks: Sequence[Block],
    weights: Sequence[Tensor],
    *,
    keep: bool,
) -> tuple[list[Tensor], Tensor, list[bytes]]:
    """Return the sites of every level, tables that the backward pass needs if ``keep``, and the structures Block."""
    levels = [sites.contiguous()]
    levels += [torch.empty_like(levels[0]) for _ in blocks]
    (n, f), edges = (parts.nodes, sites.shape[1]), graph.first_edge[:: parts.nodes].tolist()
    w, size, kernels = 2 * f, sites.element_size(), cpp.library(sites.dtype)
    # Of each model and block: a, b, c, received, slopes of the gate and of the update, statistics of both norms.
    each = [
        (n * w, n * w, (end - begin) * w, n * f, keep * (last - first) * w, keep * n * f, w, w, f, f)
        for (begin, end), (first, last) in zip(_spots(parts), pairwise(edges), strict=True)
        for _ in blocks
    ]
    work, places = cgcnn_cpp.room(sites, *(length for lengths in each for length in lengths))
    packed, maps_of = [], _begins(weights, parts.count)
    norms = [norm for block in blocks for norm in (block.edges, block.nodes)]
    running_of = _begins([table for norm in norms for table in (norm.mean, norm.variance)], parts.count)
    for model, batch in enumerate(_batches(cpp, graph, parts, basis)):
        facts: list[float] = []
        for k, block in enumerate(blocks):
            at = (model * len(blocks) + k) * len(each[0])
            a, b, c, received, slopes, update_slopes, *statistics = places[at : at + len(each[0])]
            maps = maps_of[model][k * _SIZE : (k + 1) * _SIZE]
            here, after = (level.data_ptr() + model * n * f * size for level in levels[k : k + 2])
            facts += [*maps[:4], here, a, b, c, received, after]
            # Edges are numbered through all models, so the table of slopes begins before this model's own.
            facts += [slopes - edges[model] * w * size, update_slopes] if keep else [0, 0]
            for p, norm in enumerate((block.edges, block.nodes)):
                facts += [norm.learns, norm.eps, norm.momentum, *maps[4 + 2 * p : 6 + 2 * p]]
                running = running_of[model][4 * k + 2 * p : 4 * k + 2 * p + 2]
                facts += [*running, *statistics[2 * p : 2 * p + 2]]
        packed.append(struct.pack(cgcnn_cpp.BLOCK * len(blocks), *facts))
        kernels.forward(batch, f, packed[-1], len(blocks), cpp.threads())
    return levels, work, packed


def _begins(tables: Sequence[Tensor], count: int) -> list[list[int]]:
    """Return for each of ``count`` models where its part of each of ``tables`` (s, ...) begins; rows must be dense."""
    steps = [(table.data_ptr(), table.stride(0) * table.element_size()) for table in tables]
    return [[begin + model * step for begin, step in steps] for model in range(count)]


def _spots(parts: Parts) -> list[tuple[int, int]]:
    """Return where the distances of each model begin and end."""
    return list(zip(parts.first_distance.tolist(), parts.last_distance.tolist(), strict=True))


def _batches(cpp: CppKernels, graph: Graph, parts: Parts, basis: Tensor) -> list[bytes]:
    """Return the structure Batch of each model, made once for a batch and its basis."""

    def make() -> tuple[list[bytes], list[Tensor]]:
        count, n, (d, m) = parts.count, parts.nodes, basis.shape
        model = torch.arange(count)
        n_edges = graph.first_edge[::n].diff()
        # Numbered within a model's own nodes and distances, as its tables begin there.
        sender = graph.neighbour - torch.repeat_interleave(model * n, n_edges)
        spot = graph.distance_index - torch.repeat_interleave(parts.first_distance, n_edges)
        fields = [graph.first_edge, sender, spot, graph.multiplicity, graph.edge_multiplicity, basis]
        tables = [table.contiguous() for table in fields]
        cuts, totals = torch.empty(count, 2 * n + 3, dtype=torch.int64), torch.empty(count, 2, dtype=torch.float64)
        taps, shares = torch.empty(d, 2, dtype=torch.int64), basis.new_empty(3, count * n)
        of_distance, size = basis.new_empty(d), basis.element_size()
        first, ends, spots, multiplicity, weight, expanded = (table.data_ptr() for table in tables)
        found = []
        for k, (begin, end) in enumerate(_spots(parts)):
            node = k * n * size
            facts = struct.pack(
                cgcnn_cpp.BATCH, n, end - begin, m, first + k * n * 8, ends, spots, multiplicity + node, weight,
                expanded + begin * m * size, taps.data_ptr() + begin * 16, cuts[k].data_ptr(), totals[k].data_ptr(),
                *(share.data_ptr() + node for share in shares), of_distance.data_ptr() + begin * size,
            )  # fmt: skip
            cpp.library(basis.dtype).prepare(facts, torch.finfo(basis.dtype).eps / 16)
            found.append(facts)
        # Kept with the facts, so that the addresses hold and no other basis gets this one's number.
        return found, [*tables, cuts, totals, taps, shares, of_distance, basis]

    return graph.once(f"compiled for many, basis {id(basis)}", make)[0]  # type: ignore[no-any-return]
