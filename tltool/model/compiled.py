"""The convolution of CGCNN with compiled kernels: what stands between its maps in PyTorch and ``cgcnn.cpp``.

``encoders/cgcnn.py`` has the plain form and decides which is used. One autograd function holds a whole convolution:
the maps of the sites are PyTorch's, all else is one call of the kernels each way, on one thread.
Sizes as in ``fields``; f features, m Gaussians, w = 2f gates and messages.
"""

import ctypes
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tltool.errors import ResourceError
from tltool.fields import Graph
from tltool.model import building
from tltool.model.norm import WeightedBatchNorm

_SOURCE = Path(__file__).with_name("cgcnn.cpp")
_LANES = 16
_NUMBERS = {torch.float32: "float", torch.float64: "double"}
# The structures of cgcnn.cpp: q a whole number or an address, d a real number.
_BATCH, _NORM, _GRADIENTS = "14q", "qdd6q", "11q"
_BLOCK = f"10q{2 * _NORM}"

_libraries: dict[torch.dtype, ctypes.CDLL] = {}


class Weights(NamedTuple):
    """What a convolution learns: maps (w, f), (w,), (w, f), (w, m) and both normalisations' scale and bias."""

    receiver: Tensor
    receiver_bias: Tensor
    neighbour: Tensor
    distance: Tensor
    edge_scale: Tensor
    edge_bias: Tensor
    node_scale: Tensor
    node_bias: Tensor


def load(folder: Path | None, say: Callable[[str], None], /, kind: torch.dtype = torch.float32) -> None:
    """Make the kernels for ``kind`` of number ready, compiled into ``folder`` if they are not there.

    Raises ResourceError where that fails.
    """
    if kind in _libraries:
        return
    if folder is None:
        raise ResourceError("There is no folder to keep compiled kernels in; use kernels=torch.")
    there = building.library(_SOURCE, (f"REAL={_NUMBERS[kind]}",), folder, say)
    for kernel, arguments in ((there.prepare, 1), (there.forward, 2), (there.backward, 3)):
        kernel.argtypes, kernel.restype = [ctypes.c_char_p] * arguments, None
    there.prepare.argtypes = [ctypes.c_char_p, ctypes.c_double]
    _libraries[kind] = there


def fits(graph: Graph, sites: Tensor, basis: Tensor) -> bool:
    """Say whether the kernels can take ``sites`` (n, f) and ``basis`` (d, m), which gets no gradient from them."""
    kinds = {sites.dtype, basis.dtype, graph.edge_multiplicity.dtype}
    known = len(kinds) == 1 and sites.dtype in _libraries and sites.device.type == "cpu"
    return known and sites.shape[1] % _LANES == 0 and not basis.requires_grad


def convolution(
    graph: Graph, sites: Tensor, basis: Tensor, weights: Weights, edges: WeightedBatchNorm, nodes: WeightedBatchNorm
) -> Tensor:
    """Return (n, f): what the block makes of ``sites`` (n, f), ``edges`` and ``nodes`` being its normalisations."""
    if torch.is_grad_enabled():
        out: Tensor = _Convolution.apply(sites, *weights, basis, edges, nodes, graph)  # type: ignore[no-untyped-call]
        return out
    return _forward(graph, sites, basis, weights, edges, nodes, keep=False)[0]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sites: Tensor, *rest: Any) -> Tensor:
        weights, (basis, edges, nodes, graph) = Weights(*rest[:8]), rest[8:]
        out, kept = _forward(graph, sites, basis, weights, edges, nodes, keep=True)
        ctx.save_for_backward(basis, *weights, *kept)
        ctx.graph, ctx.norms = graph, [(norm.training, norm.eps) for norm in (edges, nodes)]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        basis, *rest = ctx.saved_tensors
        weights, kept = Weights(*rest[:8]), rest[8:]
        sites, a, b, c, received, _, _, statistics = kept
        batch = _batch(ctx.graph, basis)
        d_a, d_b, d_sites = torch.empty_like(a), torch.empty_like(b), torch.empty_like(sites)
        d_weight, d_norms = torch.empty_like(weights.distance), torch.empty_like(statistics)
        scratch = torch.empty_like(c), torch.empty_like(received)
        f = sites.shape[1]
        d_norm = torch.split(d_norms, [2 * f, 2 * f, f, f])
        tables = (upstream.contiguous(), d_sites, d_a, d_b, d_weight, *scratch, *d_norm)
        gradients = struct.pack(_GRADIENTS, *(table.data_ptr() for table in tables))
        block = _block(weights, kept, received, ctx.norms, (None, None))
        _libraries[sites.dtype].backward(batch, block, gradients)
        d_sites.addmm_(d_a, weights.receiver).addmm_(d_b, weights.neighbour)
        d_maps = d_a.t() @ sites, d_a.sum(0), d_b.t() @ sites, d_weight
        return d_sites, *d_maps, *d_norm, None, None, None, None


def _forward(
    graph: Graph,
    sites: Tensor,
    basis: Tensor,
    weights: Weights,
    edges: WeightedBatchNorm,
    nodes: WeightedBatchNorm,
    *,
    keep: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the new sites and, if ``keep``, what the backward pass needs besides basis and weights."""
    sites = sites.contiguous()
    f, w = sites.shape[1], len(weights.receiver)
    a = torch.addmm(weights.receiver_bias, sites, weights.receiver.t())
    b = sites @ weights.neighbour.t()
    c, received, out = sites.new_empty(len(basis), w), torch.empty_like(sites), torch.empty_like(sites)
    rows = (len(graph.neighbour), len(sites)) if keep else (0, 0)
    slopes, update_slopes = sites.new_empty(rows[0], w), sites.new_empty(rows[1], f)
    kept = (sites, a, b, c, received, slopes, update_slopes, sites.new_empty(6 * f))
    block = _block(weights, kept, out, [(norm.training, norm.eps) for norm in (edges, nodes)], (edges, nodes))
    _libraries[sites.dtype].forward(_batch(graph, basis), block)
    return out, kept


def _block(
    weights: Weights,
    kept: Sequence[Tensor],
    out: Tensor,
    norms: Sequence[tuple[bool, float]],
    running: Sequence[WeightedBatchNorm | None],
) -> bytes:
    """Return the structure Block; ``norms`` say whether they learn, and their eps, and ``running`` has more of them."""
    sites, a, b, c, received, slopes, update_slopes, statistics = kept
    f = sites.shape[1]
    tables = (sites, a, b, weights.distance, c, received, out, slopes, update_slopes)
    facts: list[float] = [f, *(table.data_ptr() for table in tables)]
    learnt = ((weights.edge_scale, weights.edge_bias), (weights.node_scale, weights.node_bias))
    mean, step = statistics.data_ptr(), f * statistics.element_size()
    # Mean and variance of edges (2f each) stand before those of nodes (f each).
    for (learns, eps), (scale, bias), norm, where in zip(norms, learnt, running, ((0, 2), (4, 5)), strict=True):
        stores = (0, 0) if norm is None else (norm.mean.data_ptr(), norm.variance.data_ptr())
        momentum = 0.0 if norm is None else norm.momentum
        facts += [learns, eps, momentum, scale.data_ptr(), bias.data_ptr(), *stores]
        facts += [mean + k * step for k in where]
    return struct.pack(_BLOCK, *facts)


def _batch(graph: Graph, basis: Tensor) -> bytes:
    """Return the structure Batch, made once for a batch and its basis."""

    def make() -> tuple[bytes, list[Tensor]]:
        n, d, m = graph.n_nodes, *basis.shape
        taps = torch.empty(d, 2, dtype=torch.int64)
        fields = [graph.first_edge, graph.neighbour, graph.distance_index, graph.multiplicity, graph.edge_multiplicity]
        shares = torch.split(basis.new_empty(3 * n + d), [n, n, n, d])
        tables = [table.contiguous() for table in (*fields, basis, taps, *shares)]
        facts = struct.pack(_BATCH, n, d, m, *(table.data_ptr() for table in tables))
        _libraries[basis.dtype].prepare(facts, torch.finfo(basis.dtype).eps / 16)
        # Kept with the facts, so that the addresses hold and no other basis gets this one's number.
        return facts, [*tables, basis]

    return graph.once(f"compiled for basis {id(basis)}", make)[0]  # type: ignore[no-any-return]
