"""The convolutions of CGCNN with compiled kernels: what stands between PyTorch and ``cgcnn.cpp``.

``encoders/cgcnn.py`` has the plain form and decides which is used. All blocks are one autograd function, and one call
of the kernels each way.
Sizes as in ``fields``; f features, m Gaussians, w = 2f gates and messages.
"""

import ctypes
import struct
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tltool import machine
from tltool.crystal_graph import Graph
from tltool.errors import ResourceError
from tltool.model.kernels import cpp_library
from tltool.model.norm import WeightedBatchNorm

_SOURCE = Path(__file__).with_name("cgcnn.cpp")
LANES = 16
_NUMBERS = {torch.float32: "float", torch.float64: "double"}
# The structures of cgcnn.cpp: q a whole number or an address, d a real number.
BATCH, _NORM, GRADIENTS, FLOW = "16q", "qdd6q", "9q", "5q"
BLOCK = f"12q{2 * _NORM}"

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3

_libraries: dict[torch.dtype, ctypes.CDLL] = {}
_threads: int | str | None = None


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


def load(
    folder: Path | None, say: Callable[[str], None], /, kind: torch.dtype = torch.float32, macros: tuple[str, ...] = ()
) -> None:
    """Make the kernels for ``kind`` of number ready, compiled into ``folder`` if they are not there.

    ``macros`` of the source beside ``REAL``, as in ``BYTES=64``. Raises ResourceError where that fails.
    """
    if kind in _libraries:
        return
    if folder is None:
        raise ResourceError("There is no folder to keep compiled kernels in; use kernels=torch.")
    there = cpp_library.library(_SOURCE, (f"REAL={_NUMBERS[kind]}", *macros), folder, say)
    facts, number = ctypes.c_char_p, ctypes.c_int64
    there.prepare.argtypes = [facts, ctypes.c_double]
    there.forward.argtypes = [facts, number, facts, number, number]
    there.backward.argtypes = [*there.forward.argtypes, number, facts, facts]
    there.gaussians.argtypes = [number] * 4 + [ctypes.c_double, number]
    there.spread.argtypes = there.collect.argtypes = [number] * 6
    there.soften.argtypes = [number] * 3
    for name in ("prepare", "forward", "backward", "gaussians", "spread", "collect", "soften"):
        getattr(there, name).restype = None
    _libraries[kind] = there
    _keep_memory()


def library(kind: torch.dtype) -> ctypes.CDLL:
    """Return the kernels for ``kind`` of number, which have to be ready."""
    return _libraries[kind]


def has(kind: torch.dtype) -> bool:
    """Say whether the kernels for ``kind`` of number are ready."""
    return kind in _libraries


def forget(kind: torch.dtype) -> None:
    """Compute without the kernels for ``kind`` of number."""
    _libraries.pop(kind, None)


def use_threads(wanted: int | str) -> None:
    """Compute on ``wanted`` threads, or ``auto``: on two while a core is free. Results do not depend on it.

    Before this is called there are as many as PyTorch has.
    """
    global _threads
    _threads = wanted


def threads() -> int:
    """Return the most threads that the kernels compute on now."""
    if _threads == "auto":
        # Rounded, so that one look serves for five seconds.
        return _free_threads(int(time.monotonic()) // 5)
    return int(_threads or torch.get_num_threads())


@lru_cache(maxsize=1)
def _free_threads(now: int) -> int:
    cores = machine.cores()
    return 2 if cores // machine.jobs() > 1 and machine.taken() < cores - 1.5 else 1


def _keep_memory() -> None:
    """Let the C library keep what is freed, up to 256 MB, for the next batch: fetching it anew costs 5 % of a step."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, size in ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 256 << 20), (_TOP_PAD, 32 << 20)):
            mallopt(name, size)


def fits(graph: Graph, sites: Tensor, basis: Tensor) -> bool:
    """Say whether the kernels can take ``sites`` (n, f) and ``basis`` (d, m), which gets no gradient from them."""
    known = takes(sites, basis, graph.edge_multiplicity)
    return known and sites.shape[1] % LANES == 0 and not basis.requires_grad


def takes(*tables: Tensor) -> bool:
    """Say whether the kernels can take ``tables``, whatever their shapes."""
    kinds = {table.dtype for table in tables}
    return len(kinds) == 1 and kinds <= _libraries.keys() and all(table.device.type == "cpu" for table in tables)


def soften(rows: Tensor) -> Tensor:
    """Return softplus(x) - log 2 of ``rows`` x, contiguous, in whose place the derivative is put."""
    out = torch.empty_like(rows)
    _libraries[rows.dtype].soften(rows.numel(), rows.data_ptr(), out.data_ptr())
    return out


def convolutions(graph: Graph, sites: Tensor, basis: Tensor, blocks: Sequence[Block]) -> list[Tensor]:
    """Return the sites (n, f) as they are and after each block."""
    weights = [weight.contiguous() for block in blocks for weight in block.weights]
    if torch.is_grad_enabled() and any(table.requires_grad for table in (sites, *weights)):
        return [sites, *_Convolutions.apply(sites, graph, basis, blocks, *weights)]  # type: ignore[no-untyped-call]
    return _forward(graph, sites, basis, blocks, weights, keep=False)[0]


class _Convolutions(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, sites: Tensor, graph: Graph, basis: Tensor, blocks: Sequence[Block], *weights: Tensor
    ) -> tuple[Tensor, ...]:
        levels, work, ctx.facts = _forward(graph, sites, basis, blocks, weights, keep=True)
        # All that the facts name has to stay where it is until the backward pass.
        ctx.save_for_backward(basis, work, *levels, *weights)
        ctx.set_materialize_grads(False)
        ctx.graph = graph
        return tuple(levels[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        basis, _, sites, *rest = ctx.saved_tensors
        weights, size = rest[len(upstream) :], len(Weights._fields)
        # Above the last level that is used and below the first block that learns there is nothing to do.
        top = max((k + 1 for k, flow in enumerate(upstream) if flow is not None), default=0)
        learns = [any(ctx.needs_input_grad[4 + k * size : 4 + (k + 1) * size]) for k in range(len(upstream))]
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
        _libraries[sites.dtype].backward(
            _batch(ctx.graph, basis), f, ctx.facts, top, threads(), lowest,
            struct.pack(GRADIENTS * top, *gradients), struct.pack(FLOW, d_sites.data_ptr(), *places),
        )  # fmt: skip
        return (None if lowest else d_sites), None, None, None, *found


def _forward(
    graph: Graph, sites: Tensor, basis: Tensor, blocks: Sequence[Block], weights: Sequence[Tensor], *, keep: bool
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
    _libraries[sites.dtype].forward(_batch(graph, basis), f, packed, len(blocks), threads())
    return levels, work, packed


def room(like: Tensor, *sizes: int) -> tuple[Tensor, list[int]]:
    """Return memory for tables of these sizes, of the kind of ``like``, and the address of each."""
    room = like.new_empty(sum(sizes))
    starts = accumulate((size * room.element_size() for size in sizes[:-1]), initial=room.data_ptr())
    return room, list(starts)


def _batch(graph: Graph, basis: Tensor) -> bytes:
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
        _libraries[basis.dtype].prepare(facts, torch.finfo(basis.dtype).eps / 16)
        # Kept with the facts, so that the addresses hold and no other basis gets this one's number.
        return facts, [*tables, taps, totals, shares, basis]

    return graph.once(f"compiled for basis {id(basis)}", make)[0]  # type: ignore[no-any-return]
