"""The convolutions of CGCNN of several models at once: maps as batched products, all else in one call for all models.

The kernels of ``compiled.py``, called for one part of the graph after another, each with the weights of its model: what
they compute is the same to the bit, and what a call costs is paid once.
Sizes: s models; n nodes, c crystals of each, as in ``fields.Parts``; f features, m Gaussians, w = 2f.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tltool.fields import Graph, Parts
from tltool.model import compiled
from tltool.model.compiled import Weights

# What the columns of the structures of cgcnn.cpp go by: all edges (or a number), the model, its nodes, its distances.
_ALL, _MODEL, _NODE, _DISTANCE = range(4)
_NORM = [_ALL, _ALL, _ALL, *[_MODEL] * 6]
_BATCH = [_ALL, _ALL, _ALL, _NODE, _ALL, _ALL, _NODE, _ALL, *[_DISTANCE] * 2, *[_NODE] * 3, _DISTANCE]
_BLOCK = [_ALL, _NODE, _NODE, _NODE, _MODEL, _DISTANCE, _NODE, _NODE, _ALL, _NODE, *_NORM, *_NORM]
_GRADIENTS = [_NODE, _NODE, _NODE, _NODE, _MODEL, _DISTANCE, _NODE, *[_MODEL] * 5]

_KEPT = 8  # tables that the backward pass of a block needs


class Statistics(NamedTuple):
    """Of a normalisation in all models: running mean and variance (s, dim), whether they learn, momentum and eps."""

    mean: Tensor
    variance: Tensor
    learns: bool
    momentum: float
    eps: float


class Block(NamedTuple):
    """A convolution: what each model learns, every table with s in front, and its two normalisations."""

    weights: Weights
    edges: Statistics
    nodes: Statistics


def convolutions(graph: Graph, parts: Parts, sites: Tensor, basis: Tensor, blocks: Sequence[Block]) -> list[Tensor]:
    """Return the sites (s n, f) as they are and after each block; ``compiled.fits`` says whether it can."""
    weights = [weight for block in blocks for weight in block.weights]
    if torch.is_grad_enabled() and any(table.requires_grad for table in (sites, *weights)):
        return [sites, *_Convolutions.apply(sites, graph, parts, basis, blocks, *weights)]  # type: ignore[no-untyped-call]
    found = [sites]
    for block in blocks:
        found.append(_forward(graph, parts, found[-1], basis, block, keep=False)[0])
    return found


class _Convolutions(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        sites: Tensor,
        graph: Graph,
        parts: Parts,
        basis: Tensor,
        blocks: Sequence[Block],
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        found, saved = [sites], [basis, *weights]
        for block in blocks:
            out, kept = _forward(graph, parts, found[-1], basis, block, keep=True)
            found.append(out)
            saved += kept
        # What comes out is among them: kept in any other way it would keep itself in memory.
        ctx.save_for_backward(*saved)
        ctx.set_materialize_grads(False)
        ctx.graph, ctx.parts = graph, parts
        ctx.norms = [(block.edges, block.nodes) for block in blocks]
        return tuple(found[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        basis, *rest = ctx.saved_tensors
        n_blocks, n_weights, needed = len(ctx.norms), len(Weights._fields), ctx.needs_input_grad
        kept = rest[n_blocks * n_weights :]
        d_sites: Tensor | None = None
        d_weights: list[Tensor | None] = [None] * (n_blocks * n_weights)
        for k in reversed(range(n_blocks)):
            own = slice(k * n_weights, (k + 1) * n_weights)
            if not needed[0] and not any(needed[5 : 5 + own.stop]):
                d_sites = None
                break
            flow = upstream[k]
            if d_sites is not None:
                flow = d_sites if flow is None else flow + d_sites
            if flow is not None:
                block = Block(Weights(*rest[own]), *ctx.norms[k])
                of_block = kept[k * _KEPT : (k + 1) * _KEPT]
                d_sites, d_weights[own] = _backward(ctx.graph, ctx.parts, basis, block, of_block, flow.contiguous())
        return d_sites, None, None, None, None, *d_weights


def _forward(
    graph: Graph, parts: Parts, sites: Tensor, basis: Tensor, block: Block, *, keep: bool
) -> tuple[Tensor, list[Tensor]]:
    """Return the new sites and the tables of the structure Block, those of slopes only if ``keep``."""
    weights, count, f = block.weights, parts.count, sites.shape[1]
    w = 2 * f
    by_model = sites.view(count, -1, f)
    a = torch.baddbmm(weights.receiver_bias[:, None], by_model, weights.receiver.mT).view(-1, w)
    b = torch.bmm(by_model, weights.neighbour.mT).view(-1, w)
    c, received, out = sites.new_empty(len(basis), w), torch.empty_like(sites), torch.empty_like(sites)
    rows = (len(graph.neighbour), len(sites)) if keep else (0, 0)
    slopes, update_slopes = sites.new_empty(rows[0], w), sites.new_empty(rows[1], f)
    kept = [sites, a, b, c, received, slopes, update_slopes, sites.new_empty(count, 6 * f)]
    batch = _batch(graph, parts, basis)
    facts = _block(graph, parts, weights, kept, out, block, learns=True)
    compiled.library(sites.dtype).forward_all(count, batch, facts)
    return out, kept


def _backward(
    graph: Graph, parts: Parts, basis: Tensor, block: Block, kept: Sequence[Tensor], upstream: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Return the gradients by the sites and by the weights."""
    weights, count = block.weights, parts.count
    sites, a, b, c, received, _, _, statistics = kept
    f = sites.shape[1]
    d_sites, d_a, d_b = torch.empty_like(sites), torch.empty_like(a), torch.empty_like(b)
    d_distance, d_bias = (table.new_empty(table.shape) for table in (weights.distance, weights.receiver_bias))
    d_c, d_received = torch.empty_like(c), torch.empty_like(received)
    d_norms = torch.split(torch.empty_like(statistics), [2 * f, 2 * f, f, f], dim=1)
    tables = (upstream, d_sites, d_a, d_b, d_distance, d_c, d_received, d_bias, *d_norms)
    gradients = _packed(graph, parts, _GRADIENTS, [_place(table) for table in tables])
    facts = _block(graph, parts, weights, kept, received, block, learns=False)
    compiled.library(sites.dtype).backward_all(count, _batch(graph, parts, basis), facts, gradients)
    by_model, d_a, d_b = (table.view(count, -1, table.shape[1]) for table in (sites, d_a, d_b))
    flow = d_sites.view_as(by_model).baddbmm_(d_a, weights.receiver).baddbmm_(d_b, weights.neighbour)
    d_weights = [torch.bmm(d_a.mT, by_model), d_bias, torch.bmm(d_b.mT, by_model), d_distance, *d_norms]
    return flow.view_as(sites), d_weights


_Place = tuple[int, int]  # an address or a number, and how many bytes further the next row is


def _place(table: Tensor) -> _Place:
    # A table that is left out has no address, for no model.
    return (table.data_ptr(), table.stride(0) * table.element_size()) if table.numel() else (0, 0)


def _packed(
    graph: Graph, parts: Parts, kinds: list[int], places: Sequence[_Place], numbers: dict[int, Any] | None = None
) -> bytes:
    """Return s structures, row after row, as the kernels read them; ``numbers`` (s,) replace whole columns."""

    def make() -> Any:
        model = np.arange(parts.count)
        return np.stack([np.zeros_like(model), model, model * parts.nodes, parts.first_distance.numpy()], axis=1)

    begin, size = zip(*places, strict=True)
    table: Any = graph.once("steps of many", make)[:, kinds] * size + begin
    for column, values in (numbers or {}).items():
        table[:, column] = values
    return bytes(table.data)


def _real(value: float) -> _Place:
    """A real number as the whole number of the same bits."""
    return int(np.float64(value).view(np.int64)), 0


def _block(
    graph: Graph, parts: Parts, weights: Weights, kept: Sequence[Tensor], out: Tensor, block: Block, *, learns: bool
) -> bytes:
    sites, a, b, c, received, slopes, update_slopes, statistics = kept
    f = sites.shape[1]
    tables = (sites, a, b, weights.distance, c, received, out, slopes, update_slopes)
    places = [(f, 0), *map(_place, tables)]
    # Mean and variance of the edges, 2f each, stand before those of the nodes, f each.
    found = torch.split(statistics, [2 * f, 2 * f, f, f], dim=1)
    own = (weights.edge_scale, weights.edge_bias), (weights.node_scale, weights.node_bias)
    for k, norm in enumerate((block.edges, block.nodes)):
        running = [_place(norm.mean), _place(norm.variance)] if learns else [(0, 0), (0, 0)]
        places += [(int(norm.learns), 0), _real(norm.eps), _real(norm.momentum), *map(_place, own[k]), *running]
        places += map(_place, found[2 * k : 2 * k + 2])
    return _packed(graph, parts, _BLOCK, places)


def _batch(graph: Graph, parts: Parts, basis: Tensor) -> bytes:
    """Return the structures Batch, made once for a batch and its basis."""

    def make() -> tuple[bytes, list[Tensor]]:
        count, n, m = parts.count, parts.nodes, basis.shape[1]
        model = torch.arange(count)
        n_edges = graph.first_edge[::n].diff()
        # Numbered within a model's own nodes and distances, as its tables begin there.
        sender = graph.neighbour - torch.repeat_interleave(model * n, n_edges)
        spot = graph.distance_index - torch.repeat_interleave(parts.first_distance, n_edges)
        taps = torch.empty(len(basis), 2, dtype=torch.int64)
        shares = torch.split(basis.new_empty(3 * count * n + len(basis)), [count * n] * 3 + [len(basis)])
        fields = [graph.first_edge, sender, spot, graph.multiplicity, graph.edge_multiplicity]
        tables = [table.contiguous() for table in (*fields, basis, taps, *shares)]
        sizes = {1: (parts.last_distance - parts.first_distance).numpy()}
        facts = _packed(graph, parts, _BATCH, [(n, 0), (0, 0), (m, 0), *map(_place, tables)], sizes)
        compiled.library(basis.dtype).prepare_all(count, facts, torch.finfo(basis.dtype).eps / 16)
        # Kept with the facts, so that the addresses hold and no other basis gets this one's number.
        return facts, [*tables, basis]

    return graph.once(f"compiled for many, basis {id(basis)}", make)[0]  # type: ignore[no-any-return]
