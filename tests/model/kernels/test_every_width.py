"""Every compiled or written-out kernel gives what plain PyTorch gives in double precision, at every width.

Values, gradients and running statistics, on graphs of one node, without an edge, with padding, and of real crystals.
Vectors of 64 bytes are tested on every processor, as rows are cut another way for them.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import QUOTIENT
from torch import Tensor, nn

from tltool.crystal_graph import Graph
from tltool.data.batches import padded, tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.model import message_passing
from tltool.model.encoders.alignn import EPS
from tltool.model.encoders.megnet import EdgeUpdate
from tltool.model.kernels import cgcnn_cpp, chunks, cpp_library, install, megnet_layers, rows_cpp, self_check
from tltool.model.kernels.alignn_conv import convolved
from tltool.model.kernels.alignn_recompute import Edges, Maps
from tltool.model.kernels.cgcnn_gate import gated_sum
from tltool.model.kernels.cpp_kernels import LANES, CppKernels
from tltool.model.kernels.norm_silu import norm_silu
from tltool.model.kernels.self_check import Tables
from tltool.model.norm import WeightedBatchNorm
from tltool.sweep import stacked_batch, stacked_cgcnn

WIDTHS = sorted({1, 2, 3, 4, 5, 6, 7, 9, 15, 17, 31, 33, 130, *range(8, 129, 8)})
KINDS = {"float32": torch.float32, "float64": torch.float64}
NEAR = {torch.float32: 2e-5, torch.float64: 1e-11}
GRAPHS = ["crystals", "one node", "no edge", "padding"]
FORMS = {"float32": (torch.float32, ()), "float64": (torch.float64, ()), "64 bytes": (torch.float32, ("BYTES=64",))}
needs_a_compiler = pytest.mark.skipif(cpp_library.compiler() is None, reason="no C++ compiler is here")


class Form(NamedTuple):
    """Compiled kernels, which are ready, and the kind of number they are for."""

    cpp: CppKernels
    kind: torch.dtype


@pytest.fixture(scope="module", params=list(FORMS))
def form(request: pytest.FixtureRequest, kernel_folder: Path) -> Iterator[Form]:
    kind, macros = FORMS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        if macros:
            patch.setattr(cpp_library, "_FLAGS", [flag.replace("-O3", "-O1") for flag in cpp_library._FLAGS])
        cpp = CppKernels(kernel_folder, print, macros=macros)
        cpp.load(kind)
        yield Form(cpp, kind)


@pytest.fixture(scope="module")
def table(crystals: list[Crystal]) -> tensor_table.Table:
    """A lonely atom, one that has only its images as neighbours, and real crystals."""
    alone = Crystal(30 * np.eye(3), np.zeros((1, 3)), np.array([2]))
    cubic = Crystal(3 * np.eye(3), np.zeros((1, 3)), np.array([84]))
    return tensor_table.table(crystal_graphs.build([alone, cubic, *crystals[:14]], QUOTIENT))


def graph_of(name: str, table: tensor_table.Table, kind: torch.dtype) -> Graph:
    if name == "padding":
        # Two crystals that are not there, and more nodes, edges and distances than the others have.
        rows = torch.tensor([0, 3, 4, 5, 16, 16])
        n, e, d = padded.counts(table)[[0, 3, 4, 5]].sum(0)
        room = padded.Room(6, int(n) + 3, int(e) + 11, int(d) + 2)
        return cast(padded.Padded(padded.closed(table), room).select(rows), kind)
    rows = {"crystals": torch.arange(16), "one node": torch.tensor([1]), "no edge": torch.tensor([0, 0])}[name]
    return cast(table.select(rows), kind)


def cast(graph: Graph, kind: torch.dtype) -> Graph:
    given = {f.name: getattr(graph, f.name) for f in fields(Graph) if f.name not in ("cache", "line", "operations")}
    moved = {name: t.to(kind) if t is not None and t.is_floating_point() else t for name, t in given.items()}
    return replace(graph, **moved, line=None, cache={})


def assert_agree(plain: Tables, found: Tables, kind: torch.dtype, graph: str = "") -> None:
    # The sums of one node's edges are nearly equal, and normalising by how they differ makes rounding larger, in
    # plain PyTorch as well.
    tolerance = NEAR[kind] * (500 if graph == "one node" else 1)
    assert plain.keys() == found.keys()
    assert self_check.off_by(plain, found, tolerance) == ""


def drawn(kind: torch.dtype, *shape: int, seed: int = 0) -> Tensor:
    """Numbers that both kinds hold without rounding."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(kind)


def differentiated(out: Tensor, leaves: Tables, **more: Tensor) -> Tables:
    """``out``, the gradients of a sum of it by ``leaves``, and ``more``, by name."""
    upstream = drawn(torch.float32, *out.shape, seed=99).to(out)
    gradients = torch.autograd.grad((out * upstream).sum(), list(leaves.values()), allow_unused=True)
    found = {f"gradient by {name}": g for name, g in zip(leaves, gradients, strict=True) if g is not None}
    return {"out": out.detach(), **found, **more}


def leaves_of(kind: torch.dtype, **shapes: tuple[int, ...]) -> Tables:
    return {name: drawn(kind, *shape, seed=k).requires_grad_() for k, (name, shape) in enumerate(shapes.items())}


def norm_of(width: int, kind: torch.dtype, leaves: Tables, training: bool) -> WeightedBatchNorm:
    norm = WeightedBatchNorm(width).to(kind).train(training)
    norm.mean, norm.variance = drawn(kind, width, seed=50), drawn(kind, width, seed=51).square() + 0.5
    norm.scale, norm.bias = (nn.Parameter(leaves.pop(name).detach()) for name in ("scale", "bias"))
    leaves |= {"scale": norm.scale, "bias": norm.bias}
    return norm


def running(norm: WeightedBatchNorm) -> Tables:
    return {"running mean": norm.mean, "running variance": norm.variance}


@needs_a_compiler
@pytest.mark.parametrize("name", GRAPHS)
def test_convolutions(name: str, form: Form, table: tensor_table.Table) -> None:
    cpp, kind = form
    for width in WIDTHS:
        graph, in_double = (graph_of(name, table, k) for k in (kind, torch.float64))
        given = self_check.tables_for(graph, width, kind)
        if width % LANES:
            assert not cgcnn_cpp.fits(cpp, graph, given["sites"], given["basis"])
            assert not self_check.convolves(cpp, kind, width)
            continue
        assert cgcnn_cpp.fits(cpp, graph, given["sites"], given["basis"])
        for training in ((True, False), (False, True)):
            plain = self_check.outcome(
                in_double, {k: t.double() for k, t in given.items()}, self_check.convolutions, training
            )
            one, two = (with_threads(cpp, n, graph, given, training) for n in (1, 2))
            assert_agree(plain, one, kind, name)
            assert all(torch.equal(one[what], two[what]) for what in one)


def with_threads(cpp: CppKernels, count: int, graph: Graph, given: Tables, training: tuple[bool, bool]) -> Tables:
    cpp.wanted = count
    return self_check.outcome(graph, given, partial(cgcnn_cpp.convolutions, cpp), training)


@needs_a_compiler
def test_stacked_convolutions(form: Form, table: tensor_table.Table) -> None:
    cpp, kind = form
    rows = torch.tensor([[0, 1, 6], [2, 3, 4], [5, 0, 0]])
    whole, parts = stacked_batch.select(table, rows)
    whole, alone = cast(whole, kind), [cast(table.select(own), torch.float64) for own in rows]
    for width in (16, 48, 112, 128):
        each = [self_check.tables_for(graph, width, kind, seed) for seed, graph in enumerate(alone)]
        for training in ((True, False), (False, True)):
            found = stacked(cpp, whole, parts, each, training)
            for k, (graph, own) in enumerate(zip(alone, each, strict=True)):
                given = {name: t.double() for name, t in own.items()}
                plain = self_check.outcome(graph, given, self_check.convolutions, training)
                mine = {name: t[k][: len(plain[name])] if "sites" in name else t[k] for name, t in found.items()}
                assert_agree(plain, mine, kind)


def stacked(cpp: CppKernels, graph: Graph, parts, each: list[Tables], training: tuple[bool, bool]) -> Tables:  # type: ignore[no-untyped-def]
    """What ``self_check.outcome`` gives, of all models at once: every table with the models in front."""

    def filled(name: str) -> Tensor:
        rows = [F.pad(own[name], (0, 0, 0, parts.nodes - len(own[name]))) for own in each]
        return torch.cat(rows)

    leaves = {"sites": filled("sites").requires_grad_()}
    basis = torch.cat([own["basis"] for own in each])
    blocks, statistics = [], {}
    for k, trains in enumerate(training):
        own = {name: torch.stack([t[f"{name} {k}"] for t in each]) for name in cgcnn_cpp.Weights._fields}
        leaves |= {f"{name} {k}": t.requires_grad_() for name, t in own.items()}
        norms = []
        for name in ("edges", "nodes"):
            pair = [torch.stack([t[f"{what} of {name} {k}"] for t in each]) for what in ("mean", "variance")]
            statistics |= {
                f"running {what} of {name} {k}": t for what, t in zip(("mean", "variance"), pair, strict=True)
            }
            norms.append(stacked_cgcnn.Statistics(*pair, trains, 0.1, 1e-5))
        blocks.append(stacked_cgcnn.Block(cgcnn_cpp.Weights(**own), *norms))
    levels = stacked_cgcnn.convolutions(cpp, graph, parts, leaves["sites"], basis, blocks)[1:]
    total = sum(((level * filled(f"upstream {k}")).sum() for k, level in enumerate(levels)), torch.zeros(()))
    gradients = torch.autograd.grad(total, list(leaves.values()))
    found = {f"sites after block {k}": level.detach() for k, level in enumerate(levels)}
    found |= {f"gradient by {name}": slope for name, slope in zip(leaves, gradients, strict=True)}
    apart = {name: t.view(len(each), parts.nodes, -1) if "sites" in name else t for name, t in found.items()}
    return apart | statistics


@needs_a_compiler
def test_operations_around_the_convolutions(form: Form) -> None:
    cpp, kind = form
    for width in WIDTHS:
        assert_agree(self_check.around(kind, width, None), self_check.around(kind, width, cpp), kind)


@needs_a_compiler
def test_gradients_of_rows_and_means(form: Form, table: tensor_table.Table) -> None:
    def outcome(cpp: CppKernels | None, kind: torch.dtype, width: int) -> Tables:
        graph = graph_of("padding", table, kind)
        leaves = leaves_of(kind, elements=(119, width), sites=(graph.n_nodes, width))
        elements, sites = leaves.values()
        if cpp is None:
            out = elements.index_select(0, graph.number), message_passing.crystal_mean(graph, sites)
        else:
            mean = install.Kernels("compiled", cpp).operations["crystal_mean"]
            out = rows_cpp.spread(cpp, elements, graph.number), mean(graph, sites)
        return differentiated(torch.cat(out), leaves)

    for width in WIDTHS:
        assert_agree(outcome(None, torch.float64, width), outcome(form.cpp, form.kind, width), form.kind)


@needs_a_compiler
@pytest.mark.parametrize("by_distance", [True, False])
def test_layers(by_distance: bool, form: Form, table: tensor_table.Table) -> None:
    def outcome(cpp: CppKernels | None, kind: torch.dtype, width: int) -> Tables:
        graph = graph_of("padding", table, kind)
        count = len(graph.distance if by_distance else graph.receiver)
        leaves = leaves_of(kind, sites=(graph.n_nodes, width), edges=(count, width), state=(graph.n_crystals, width))
        given = [table * table.shape[-1] ** -0.5 for table in leaves.values()]
        module = EdgeUpdate(width, 5).to(kind)
        for k, (name, parameter) in enumerate(module.named_parameters(), start=3):
            size = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 1.0
            parameter.data = drawn(kind, *parameter.shape, seed=k) * size
            leaves[name] = parameter
        out = (
            module(*given, graph, by_distance)
            if cpp is None
            else megnet_layers.edge_layers(cpp, module, *given, graph, by_distance)
        )
        return differentiated(out, leaves)

    for width in WIDTHS:
        assert_agree(outcome(None, torch.float64, width), outcome(form.cpp, form.kind, width), form.kind)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("name", GRAPHS)
def test_the_gate(name: str, kind: torch.dtype, table: tensor_table.Table) -> None:
    def outcome(plain: bool, kind: torch.dtype, width: int, training: bool) -> Tables:
        graph, w = graph_of(name, table, kind), 2 * width
        leaves = leaves_of(
            kind, a=(graph.n_nodes, w), b=(graph.n_nodes, w), c=(len(graph.distance), w), scale=(w,), bias=(w,)
        )
        norm = norm_of(w, kind, leaves, training)
        parts = leaves["a"], leaves["b"], leaves["c"]
        if not plain:
            return differentiated(gated_sum(graph, *parts, norm), leaves, **running(norm))
        rows = norm(
            parts[0][graph.receiver] + parts[1][graph.neighbour] + parts[2][graph.distance_index], graph.edge_weight()
        )
        gates, messages = rows.chunk(2, dim=1)
        gated = torch.sigmoid(gates) * F.softplus(messages) * graph.edge_multiplicity[:, None]
        out = rows.new_zeros(graph.n_nodes, width).index_add(0, graph.receiver, gated)
        return differentiated(out, leaves, **running(norm))

    for width in WIDTHS:
        for training in (True, False):
            plain = outcome(True, torch.float64, width, training)
            assert_agree(plain, outcome(False, kind, width, training), kind, name)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("rows", [0, 1, 40])
def test_silu_after_normalisation(rows: int, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_NUMBERS", 300)

    def outcome(plain: bool, kind: torch.dtype, width: int, training: bool) -> Tables:
        leaves = leaves_of(
            kind,
            x=(rows, width),
            added=(rows, width),
            weight=(width, width),
            shift=(width,),
            scale=(width,),
            bias=(width,),
        )
        norm = norm_of(width, kind, leaves, training)
        linear = nn.Linear(width, width)
        linear.weight, linear.bias = (nn.Parameter(leaves.pop(name).detach()) for name in ("weight", "shift"))
        leaves |= {"weight": linear.weight, "shift": linear.bias}
        count = torch.arange(rows).remainder(3).to(kind)
        if plain:
            out = F.silu(norm(linear(leaves["x"]) + leaves["added"], count)) + leaves["x"]
        else:
            out = norm_silu(leaves["x"], count, linear, norm, leaves["added"], True)
        return differentiated(out, leaves, **running(norm))

    for width in WIDTHS:
        for training in (True, False):
            plain = outcome(True, torch.float64, width, training)
            assert_agree(plain, outcome(False, kind, width, training), kind)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("name", GRAPHS)
def test_the_edge_gate(
    name: str, kind: torch.dtype, table: tensor_table.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_NUMBERS", 2000)

    def outcome(plain: bool, keep: bool, kind: torch.dtype, width: int, training: bool) -> Tables:
        """Two layers: the first makes new edges, the second ends them."""
        graph = graph_of(name, table, kind)
        square, row = (width, width), (width,)
        maps = {
            f"{what} {k}": shape for k in range(2) for what, shape in zip(Maps._fields, (square, row) * 4, strict=True)
        }
        leaves = leaves_of(
            kind, nodes=(graph.n_nodes, width), edges=(len(graph.distance), width), scale=row, bias=row, **maps
        )
        norm = norm_of(width, kind, leaves, training)
        small = {name: t * width**-0.5 if t.ndim > 1 and name in maps else t for name, t in leaves.items()}
        of = [Maps(*(small[f"{what} {k}"] for what in Maps._fields)) for k in range(2)]
        if plain:
            edges = small["edges"][graph.distance_index]
            first, m = plain_edge_gate(graph, small["nodes"], edges, of[0])
            second, _ = plain_edge_gate(graph, first, F.silu(norm(m, graph.edge_weight())) + edges, of[1])
        else:
            first, new = convolved(graph, small["nodes"], Edges(small["edges"], True), of[0], norm, keep)
            assert new is not None
            second, _ = convolved(graph, first, new, of[1], None, keep)
        return differentiated(torch.cat([first, second]), leaves, **running(norm))

    for width in WIDTHS:
        for training, keep in ((True, False), (False, True)):
            plain = outcome(True, True, torch.float64, width, training)
            assert_agree(plain, outcome(False, keep, kind, width, training), kind, name)


def plain_edge_gate(graph: Graph, nodes: Tensor, edges: Tensor, maps: Maps) -> tuple[Tensor, Tensor]:
    """The formulas of ``alignn_conv.py`` as they are written."""
    at_receiver = F.linear(nodes, maps.receiver, maps.receiver_bias)
    at_neighbour = F.linear(nodes, maps.neighbour, maps.neighbour_bias)
    m = at_receiver[graph.receiver] + at_neighbour[graph.neighbour] + F.linear(edges, maps.edge, maps.edge_bias)
    opened = torch.sigmoid(m) * graph.edge_multiplicity[:, None]
    message = F.linear(nodes, maps.message, maps.message_bias)[graph.neighbour]
    total, gates = (torch.zeros_like(nodes).index_add(0, graph.receiver, rows) for rows in (opened * message, opened))
    return total / (gates + EPS), m
