"""The convolutions of CGCNN with compiled kernels: what stands between its maps in PyTorch and ``cgcnn.cpp``.

``encoders/cgcnn.py`` has the plain form and decides which is used. One autograd function holds all blocks: the maps of
the sites are PyTorch's, all else of a block is one call of the kernels each way, on one thread.
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
LANES = 16
_NUMBERS = {torch.float32: "float", torch.float64: "double"}
# The structures of cgcnn.cpp: q a whole number or an address, d a real number.
_BATCH, _NORM, _GRADIENTS = "14q", "qdd6q", "12q"
_BLOCK = f"10q{2 * _NORM}"

_KEPT = 8
# Of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_Settings = list[tuple[bool, float, float]]

_libraries: dict[torch.dtype, ctypes.CDLL] = {}


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
    for kernel, structures in ((there.forward_all, 2), (there.backward_all, 3)):
        kernel.argtypes, kernel.restype = [ctypes.c_int64, *[ctypes.c_char_p] * structures], None
    there.prepare_all.argtypes, there.prepare_all.restype = [ctypes.c_int64, ctypes.c_char_p, ctypes.c_double], None
    _libraries[kind] = there
    _keep_memory()


def ready(table: Tensor) -> bool:
    """Say whether there are kernels for the kind of number and the device of ``table``."""
    return table.dtype in _libraries and table.device.type == "cpu"


def library(kind: torch.dtype) -> ctypes.CDLL:
    """Return the kernels for ``kind`` of number, which are ready."""
    return _libraries[kind]


def _keep_memory() -> None:
    """Let the C library keep what is freed, up to 256 MB, for the next batch: fetching it anew costs 5 % of a step."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, size in ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 256 << 20), (_TOP_PAD, 32 << 20)):
            mallopt(name, size)


def fits(graph: Graph, sites: Tensor, basis: Tensor) -> bool:
    """Say whether the kernels can take ``sites`` (n, f) and ``basis`` (d, m), which gets no gradient from them."""
    kinds = {sites.dtype, basis.dtype, graph.edge_multiplicity.dtype}
    known = len(kinds) == 1 and sites.dtype in _libraries and sites.device.type == "cpu"
    return known and sites.shape[1] % LANES == 0 and not basis.requires_grad


def convolutions(graph: Graph, sites: Tensor, basis: Tensor, blocks: Sequence[Block]) -> list[Tensor]:
    """Return the sites (n, f) as they are and after each block."""
    weights = [weight for block in blocks for weight in block.weights]
    if torch.is_grad_enabled() and any(table.requires_grad for table in (sites, *weights)):
        return [sites, *_Convolutions.apply(sites, graph, basis, blocks, *weights)]  # type: ignore[no-untyped-call]
    found = [sites]
    for block in blocks:
        found.append(_forward(graph, found[-1], basis, block, keep=False)[0])
    return found


class _Convolutions(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, sites: Tensor, graph: Graph, basis: Tensor, blocks: Sequence[Block], *weights: Tensor
    ) -> tuple[Tensor, ...]:
        found, saved = [sites], [basis, *weights]
        for block in blocks:
            out, kept = _forward(graph, found[-1], basis, block, keep=True)
            found.append(out)
            saved += kept
        ctx.save_for_backward(*saved)
        ctx.set_materialize_grads(False)
        ctx.graph, ctx.norms = graph, [_settings(block) for block in blocks]
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
            if not needed[0] and not any(needed[4 : 4 + own.stop]):
                d_sites = None
                break
            flow = upstream[k]
            if d_sites is not None:
                flow = d_sites if flow is None else flow + d_sites
            if flow is not None:
                of_block = kept[k * _KEPT : (k + 1) * _KEPT]
                d_sites, d_weights[own] = _backward(
                    ctx.graph, basis, Weights(*rest[own]), of_block, ctx.norms[k], flow.contiguous()
                )
        return d_sites, None, None, None, *d_weights


def _forward(
    graph: Graph, sites: Tensor, basis: Tensor, block: Block, *, keep: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the new sites and ``_KEPT`` tables, of which the backward pass needs those of edges only if ``keep``."""
    weights = block.weights
    sites = sites.contiguous()
    f, w = sites.shape[1], len(weights.receiver)
    a = torch.addmm(weights.receiver_bias, sites, weights.receiver.t())
    b = torch.mm(sites, weights.neighbour.t())
    c, received, out = sites.new_empty(len(basis), w), torch.empty_like(sites), torch.empty_like(sites)
    rows = (len(graph.neighbour), len(sites)) if keep else (0, 0)
    slopes, update_slopes = sites.new_empty(rows[0], w), sites.new_empty(rows[1], f)
    kept = (sites, a, b, c, received, slopes, update_slopes, sites.new_empty(6 * f))
    norms = [(norm.mean.data_ptr(), norm.variance.data_ptr()) for norm in block[1:]]
    facts = _block(weights, kept, out, _settings(block), norms)
    _libraries[sites.dtype].forward(_batch(graph, basis), facts)
    return out, kept


def _backward(
    graph: Graph, basis: Tensor, weights: Weights, kept: Sequence[Tensor], settings: _Settings, upstream: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Return the gradients by the sites and by the weights."""
    sites, a, b, c, received, _, _, statistics = kept
    f = sites.shape[1]
    d_sites, d_a, d_b = torch.empty_like(sites), torch.empty_like(a), torch.empty_like(b)
    d_distance, d_bias = torch.empty_like(weights.distance), torch.empty_like(weights.receiver_bias)
    d_c, d_received = torch.empty_like(c), torch.empty_like(received)
    d_norms = torch.split(torch.empty_like(statistics), [2 * f, 2 * f, f, f])
    tables = (upstream, d_sites, d_a, d_b, d_distance, d_c, d_received, d_bias, *d_norms)
    gradients = struct.pack(_GRADIENTS, *(table.data_ptr() for table in tables))
    facts = _block(weights, kept, received, settings, ((0, 0), (0, 0)))
    _libraries[sites.dtype].backward(_batch(graph, basis), facts, gradients)
    d_sites.addmm_(d_a, weights.receiver).addmm_(d_b, weights.neighbour)
    return d_sites, [torch.mm(d_a.t(), sites), d_bias, torch.mm(d_b.t(), sites), d_distance, *d_norms]


def _settings(block: Block) -> _Settings:
    """Return of both normalisations whether they learn, eps and momentum."""
    return [(norm.training, norm.eps, norm.momentum) for norm in block[1:]]


def _block(
    weights: Weights, kept: Sequence[Tensor], out: Tensor, settings: _Settings, running: Sequence[tuple[int, int]]
) -> bytes:
    """Return the structure Block; ``running`` are the addresses of the normalisations' running mean and variance."""
    sites, a, b, c, received, slopes, update_slopes, statistics = kept
    tables = (sites, a, b, weights.distance, c, received, out, slopes, update_slopes)
    # Mean and variance of the edges, 2f each, stand before those of the nodes, f each.
    begin, step = statistics.data_ptr(), sites.shape[1] * statistics.element_size()
    edges, nodes = (begin, begin + 2 * step), (begin + 4 * step, begin + 5 * step)
    return struct.pack(
        _BLOCK,
        sites.shape[1], *(table.data_ptr() for table in tables),
        *settings[0], weights.edge_scale.data_ptr(), weights.edge_bias.data_ptr(), *running[0], *edges,
        *settings[1], weights.node_scale.data_ptr(), weights.node_bias.data_ptr(), *running[1], *nodes,
    )  # fmt: skip


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
