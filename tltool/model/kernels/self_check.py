"""Compare the results of a kernel with plain PyTorch on a tiny graph, before the kernel is used.

Compiled kernels are compared once they are built, and the convolution of CGCNN at its first use at a width and a
precision. That a library passed is recorded beside it with its hash (``cpp_library.py``), so that later processes do
not compare again. Plain PyTorch computes in double precision here. Sizes as in ``crystal_graph``; f features, m
Gaussians.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from threading import RLock

import torch
import torch.nn.functional as F
from torch import Tensor

from tltool.crystal_graph import Graph
from tltool.errors import ResourceError
from tltool.model.kernels import cgcnn_cpp, cpp_library, rows_cpp
from tltool.model.kernels.cpp_kernels import LANES, CppKernels
from tltool.model.norm import WeightedBatchNorm

Tables = dict[str, Tensor]
Compute = Callable[[Graph, Tensor, Tensor, Sequence[cgcnn_cpp.Block]], list[Tensor]]
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
_BASIS, _BLOCKS = 11, 2

_lock = RLock()


def load(cpp: CppKernels, /, kind: torch.dtype = torch.float32) -> None:
    """Load the compiled kernels for the floating-point type ``kind`` and check their results.

    Raise ResourceError if they cannot be loaded, or if a result differs from plain PyTorch.
    """
    cpp.load(kind)
    library = cpp.library(kind)
    off = "" if cpp_library.passed(library, "rows") else _around_off_by(cpp, kind)
    if off:
        cpp.forget(kind)
        raise ResourceError(
            f"The compiled kernels give results that differ from plain PyTorch ({off}); use kernels=torch."
        )
    cpp_library.remember(library, "rows")


def fits(cpp: CppKernels, graph: Graph, sites: Tensor, basis: Tensor) -> bool:
    """Return whether compiled kernels support ``sites`` (n, f) and ``basis`` (d, m), and give correct results."""
    return cgcnn_cpp.fits(cpp, graph, sites, basis) and convolves(cpp, sites.dtype, sites.shape[1])


def convolves(cpp: CppKernels, kind: torch.dtype, width: int) -> bool:
    """Return whether a compiled convolution of ``width`` features in ``kind`` agrees with plain PyTorch."""
    if not cpp.has(kind) or width % LANES:
        return False
    library, what = cpp.library(kind), f"convolution of {width} features"
    with _lock:
        known = cpp.verified.get((kind, width))
        if known is None:
            off = "" if cpp_library.passed(library, what) else convolution_off_by(cpp, kind, width)
            known = cpp.verified[kind, width] = not off
            if known:
                cpp_library.remember(library, what)
            else:
                cpp.say(
                    f"The compiled {what} gives results that differ from plain PyTorch in {_name(kind)} ({off}); plain "
                    "PyTorch is used in its place. Please report this."
                )
    return known


def convolution_off_by(cpp: CppKernels, kind: torch.dtype, width: int) -> str:
    """Return in which table the compiled convolution is furthest off and by how much; nothing where all agree."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        graph, in_double = tiny_graph(kind), tiny_graph(torch.float64)
        found = outcome(graph, tables_for(graph, width, kind), partial(cgcnn_cpp.convolutions, cpp))
        plain = outcome(in_double, tables_for(in_double, width, torch.float64), convolutions)
    return off_by(plain, found, _TOLERANCE[kind])


def _around_off_by(cpp: CppKernels, kind: torch.dtype) -> str:
    """Return the same of the operations around the convolution, at widths around that of a vector."""
    with torch.inference_mode(False), torch.no_grad():
        widths = [(around(kind, f, None), around(kind, f, cpp)) for f in (1, 7, 16, 33)]
    return next(filter(None, (off_by(plain, found, _TOLERANCE[kind]) for plain, found in widths)), "")


def off_by(plain: Tables, found: Tables, tolerance: float) -> str:
    """Return the name of the tensor in ``found`` that differs most from ``plain``, and the relative difference.

    Return nothing if that share is not above ``tolerance``.
    A table that is next to nothing beside the others, as a gradient that is zero but for rounding, has no size.
    """
    sizes = {name: float(table.abs().max()) if table.numel() else 0.0 for name, table in plain.items()}
    least = max(sizes.values()) / 20
    worst, share = "", 0.0
    for name, table in plain.items():
        if table.numel():
            off = float((table - found[name].to(table)).abs().max()) / max(sizes[name], least)
            if not off <= share:
                worst, share = name, math.inf if math.isnan(off) else off
    return "" if share <= tolerance else f"{worst}: {share:.1g} of its size"


def convolutions(graph: Graph, sites: Tensor, basis: Tensor, blocks: Sequence[cgcnn_cpp.Block]) -> list[Tensor]:
    """Return what ``cgcnn_cpp.convolutions`` does by plain operations and automatic differentiation."""
    levels = [sites]
    for weights, norm_edges, norm_sites in blocks:
        rows = F.linear(levels[-1], weights.receiver, weights.receiver_bias)[graph.receiver]
        rows = rows + F.linear(levels[-1], weights.neighbour)[graph.neighbour]
        rows = rows + F.linear(basis, weights.distance)[graph.distance_index]
        gates, messages = norm_edges(rows, graph.edge_weight()).chunk(2, dim=1)
        gated = torch.sigmoid(gates) * softplus(messages) * graph.edge_multiplicity[:, None]
        received = torch.zeros_like(levels[-1]).index_add(0, graph.receiver, gated)
        levels.append(softplus(levels[-1] + norm_sites(received, graph.multiplicity)))
    return levels


def softplus(rows: Tensor) -> Tensor:
    """Return log(1 + e^x); PyTorch's own leaves out what that adds to an x above 20."""
    return torch.logaddexp(rows, torch.zeros_like(rows))


def _name(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


def _draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def tiny_graph(kind: torch.dtype) -> Graph:
    """Return two crystals, the first with more edges than a piece of work has, a node without an edge, and padding."""
    draw, edges = _draw(), [0, *[27] * 6, 3, 4, 3, 2]
    nodes = [7, 4]  # the last of which is padding
    first_edge = torch.tensor([0, *edges]).cumsum(0)
    crystal = torch.arange(2).repeat_interleave(torch.tensor(nodes))
    receiver = torch.arange(len(edges)).repeat_interleave(torch.tensor(edges))
    second = crystal[receiver]
    whole = torch.rand(len(receiver), generator=draw, dtype=torch.float32)
    neighbour = torch.where(second == 0, whole * nodes[0], nodes[0] + whole * nodes[1]).long()
    spot = torch.where(second == 0, whole.square() * 20, 20 + whole * 10).long()
    multiplicity = torch.randint(1, 4, (len(edges),), generator=draw).to(kind)
    multiplicity[-1] = 0
    count = torch.randint(1, 3, (len(receiver),), generator=draw).to(kind)
    count[-2:] = 0
    return Graph(
        number=torch.ones(len(edges), dtype=torch.int64), multiplicity=multiplicity, crystal=crystal,
        first_node=torch.tensor([0, 7, 11]), first_edge=first_edge, receiver=receiver, neighbour=neighbour,
        edge_multiplicity=count, distance_index=spot, distance=torch.linspace(1, 8, 30, dtype=kind),
    )  # fmt: skip


def tables_for(graph: Graph, f: int, kind: torch.dtype, seed: int = 0) -> Tables:
    """Return what goes into convolutions of ``f`` features on ``graph``, and the gradients that reach their levels."""
    draw, w = torch.Generator().manual_seed(seed), 2 * f

    def drawn(*shape: int) -> Tensor:
        return torch.rand(shape, generator=draw, dtype=torch.float32).sub_(0.5).to(kind)

    tables = {"sites": 3 * drawn(graph.n_nodes, f), "basis": drawn(len(graph.distance), _BASIS).clamp_min_(0)}
    shapes = (w, f), (w,), (w, f), (w, _BASIS), (w,), (w,), (f,), (f,)
    for k in range(_BLOCKS):
        tables[f"upstream {k}"] = drawn(graph.n_nodes, f)
        for name, shape in zip(cgcnn_cpp.Weights._fields, shapes, strict=True):
            tables[f"{name} {k}"] = (
                drawn(*shape) * 2 ** round(2 - math.log2(f) / 2) if len(shape) == 2 else drawn(*shape) + 1
            )
        for name, width in (("edges", w), ("nodes", f)):
            tables[f"mean of {name} {k}"], tables[f"variance of {name} {k}"] = drawn(width), drawn(width) + 1
    return tables


def outcome(graph: Graph, given: Tables, compute: Compute, training: Sequence[bool] = (True, False)) -> Tables:
    """Return the levels, the running statistics, and the gradients by all that is ``given``, from ``tables_for``.

    ``training`` says which blocks normalise by the statistics of the batch, the others by running ones.
    """
    leaves, blocks = {"sites": given["sites"].clone().requires_grad_()}, []
    for k, trains in enumerate(training):
        own = {name: given[f"{name} {k}"].clone().requires_grad_() for name in cgcnn_cpp.Weights._fields}
        norms = []
        for name, learnt in (("edges", "edge"), ("nodes", "node")):
            norm = WeightedBatchNorm(len(own[f"{learnt}_scale"])).train(trains)
            norm.scale, norm.bias = (torch.nn.Parameter(own[f"{learnt}_{what}"].detach()) for what in ("scale", "bias"))
            own |= {f"{learnt}_scale": norm.scale, f"{learnt}_bias": norm.bias}
            norm.mean, norm.variance = (given[f"{what} of {name} {k}"].clone() for what in ("mean", "variance"))
            norms.append(norm)
        leaves |= {f"{name} {k}": table for name, table in own.items()}
        blocks.append(cgcnn_cpp.Block(cgcnn_cpp.Weights(**own), *norms))
    levels = compute(graph, leaves["sites"], given["basis"], blocks)[1:]
    # One number, because gradients given for several tables make PyTorch import its symbolic shapes, for a second.
    total = sum(((level * given[f"upstream {k}"]).sum() for k, level in enumerate(levels)), torch.zeros(()))
    gradients = torch.autograd.grad(total, list(leaves.values()))
    found = {f"sites after block {k}": level.detach() for k, level in enumerate(levels)}
    found |= {f"gradient by {name}": slope for name, slope in zip(leaves, gradients, strict=True)}
    for k, block in enumerate(blocks):
        for name, norm in (("edges", block.edges), ("nodes", block.nodes)):
            found |= {f"running mean of {name} {k}": norm.mean, f"running variance of {name} {k}": norm.variance}
    return found


def around(kind: torch.dtype, f: int, cpp: CppKernels | None) -> Tables:
    """Return what the operations around the convolutions give at width ``f``, those of ``cpp`` or plain ones in
    double.
    """
    draw = _draw()

    def drawn(*shape: int) -> Tensor:
        return torch.rand(shape, generator=draw, dtype=torch.float32).to(torch.float64 if cpp is None else kind)

    table, rows, weight, distance = 20 * drawn(5, f) - 10, drawn(9, f) - 0.5, drawn(9), 8 * drawn(9)
    index, centres = torch.randint(0, 5, (9,), generator=draw), torch.arange(f).to(table)
    if cpp is not None:
        slope = table.clone()
        made = [rows_cpp.spread(cpp, table, index), rows_cpp.collect(cpp, rows, index, weight, 6)]
        made += [rows_cpp.gaussians(cpp, distance, centres, 0.5), rows_cpp.soften(cpp, slope), slope]
    else:
        made = [table[index], rows.new_zeros(6, f).index_add(0, index, rows * weight[:, None])]
        squares = ((distance[:, None] - centres) / 0.5).square()
        made += [squares.clamp_max(80).neg().exp(), softplus(table) - math.log(2), torch.sigmoid(table)]
    names = "rows", "sums of rows", "Gaussians", "activation", "slope of the activation"
    return {f"{name} of width {f}": made for name, made in zip(names, made, strict=True)}
