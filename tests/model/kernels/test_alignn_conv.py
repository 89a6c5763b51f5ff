"""The written-out passes are what automatic differentiation makes of the formulas, on graphs and line graphs."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support import QUOTIENT
from torch import Tensor, nn

from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.model import message_passing
from tltool.model.encoders.alignn import EPS
from tltool.model.kernels import chunks
from tltool.model.kernels.alignn_conv import convolved
from tltool.model.kernels.alignn_recompute import Edges, Maps
from tltool.model.norm import WeightedBatchNorm

pytestmark = pytest.mark.usefixtures("double")
DIM, LAYERS = 5, 4


@pytest.fixture(params=["graph", "line"])
def graph(crystals: list[Crystal], request: pytest.FixtureRequest) -> Graph:
    graph_settings = replace(QUOTIENT, angles=True)
    made = tensor_table.table(crystal_graphs.build(crystals[:12], graph_settings)).select(torch.arange(12))
    assert made.line is not None
    return made if request.param == "graph" else made.line


def layer() -> Maps:
    parts = [nn.Linear(DIM, DIM) for _ in range(4)]
    return Maps(*(table for part in parts for table in (part.weight, part.bias)))


def plain(
    graph: Graph, nodes: Tensor, edges: Edges, maps: Maps, norm: WeightedBatchNorm | None, keep: bool
) -> tuple[Tensor, Edges | None]:
    """The formulas, for automatic differentiation."""
    rows = edges.rows[graph.distance_index] if edges.by_distance else edges.rows
    at_receiver = F.linear(nodes, maps.receiver, maps.receiver_bias)
    at_neighbour = F.linear(nodes, maps.neighbour, maps.neighbour_bias)
    m = at_receiver[graph.receiver] + at_neighbour[graph.neighbour] + F.linear(rows, maps.edge, maps.edge_bias)
    message, gate = F.linear(nodes, maps.message, maps.message_bias), torch.sigmoid(m)
    total = message_passing.neighbour_sum(graph, gate * message[graph.neighbour])
    received = total / (message_passing.neighbour_sum(graph, gate) + EPS)
    return received, None if norm is None else Edges(F.silu(norm(m, graph.edge_weight())) + rows)


def outcome(
    graph: Graph,
    form: Callable[..., tuple[Tensor, Edges | None]],
    *,
    training: bool,
    keep: bool,
    passes: int = 1,
    only: int = LAYERS,
) -> list[Tensor]:
    """Means of some layers, their statistics, and gradients of everything through the means of the first ``only``."""
    torch.manual_seed(0)
    layers, norms = (
        [layer() for _ in range(LAYERS)],
        [WeightedBatchNorm(DIM).train(training) for _ in range(LAYERS - 1)],
    )
    for norm in norms:
        nn.init.normal_(norm.scale)
        nn.init.uniform_(norm.variance, 0.5, 2.0)
    nodes = torch.randn(graph.n_nodes, DIM, requires_grad=True)
    first = torch.randn(len(graph.distance), DIM, requires_grad=True)
    edges: Edges | None = Edges(first, by_distance=True)
    given, means = nodes, []
    for maps, norm in zip(layers, [*norms, None], strict=True):
        assert edges is not None
        received, edges = form(graph, given, edges, maps, norm, keep)
        given = given + received
        means.append(received)
    assert edges is None
    loss = sum((mean * torch.randn_like(mean)).sum() for mean in means[:only])
    for _ in range(passes):
        loss.backward(retain_graph=passes > 1)
    learned = [nodes, first, *(t for maps in layers for t in maps), *(p for norm in norms for p in norm.parameters())]
    gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in learned]
    return [*means, *gradients, *(norm.mean for norm in norms), *(norm.variance for norm in norms)]


def same(mine: list[Tensor], others: list[Tensor]) -> None:
    for a, b in zip(mine, others, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("size", [64, 2**16])
def test_it_is_what_automatic_differentiation_makes_of_it(
    graph: Graph, training: bool, keep: bool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_NUMBERS", size)
    same(*(outcome(graph, form, training=training, keep=keep) for form in (convolved, plain)))


def test_edges_that_are_not_kept_survive_a_second_backward_pass(graph: Graph) -> None:
    same(*(outcome(graph, convolved, training=True, keep=keep, passes=2) for keep in (True, False)))


def test_gradients_from_the_first_layers_alone(graph: Graph) -> None:
    same(*(outcome(graph, form, training=True, keep=False, only=2) for form in (convolved, plain)))


def test_edges_that_are_not_kept_take_no_memory(graph: Graph) -> None:
    """Of the size edges x features, only the rows of the last layer are held."""
    held: set[int] = set()

    def pack(table: Tensor) -> Tensor:
        held.update({table.data_ptr()} if table.numel() >= DIM * len(graph.receiver) else ())
        return table

    edges: Edges | None = Edges(torch.randn(len(graph.distance), DIM, requires_grad=True), by_distance=True)
    nodes = torch.randn(graph.n_nodes, DIM, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda table: table):
        for _ in range(LAYERS):
            assert edges is not None
            nodes, edges = convolved(graph, nodes, edges, layer(), WeightedBatchNorm(DIM), False)
    assert len(graph.receiver) > len(graph.distance) > graph.n_nodes
    assert not held
    assert edges is not None
    assert edges.token is not None
    assert edges.token.untyped_storage().nbytes() == torch.get_default_dtype().itemsize


def test_one_message_comes_through_whatever_its_gate(graph: Graph) -> None:
    zeros, ones = torch.zeros(DIM, DIM), torch.ones(DIM)
    maps = Maps(zeros, ones, zeros, ones, torch.randn(DIM, DIM), ones, zeros, ones)
    nodes, edges = torch.randn(graph.n_nodes, DIM), Edges(torch.randn(len(graph.receiver), DIM))
    received, _ = convolved(graph, nodes, edges, maps, None, True)
    heard = graph.first_edge.diff() > 0
    torch.testing.assert_close(received[heard], torch.ones_like(received[heard]), atol=1e-5, rtol=0)


def test_without_gradients_edges_are_plain_rows(graph: Graph) -> None:
    edges = Edges(torch.randn(len(graph.distance), DIM), by_distance=True)
    with torch.no_grad():
        for keep in (True, False):
            found = convolved(graph, torch.randn(graph.n_nodes, DIM), edges, layer(), WeightedBatchNorm(DIM), keep)[1]
            assert found is not None
            assert found.token is None
            assert found.updates == ()
            assert found.rows.shape == (len(graph.receiver), DIM)


def test_pieces_are_all_rows_once() -> None:
    for n, f in ((0, 3), (1, 3), (1000, 400), (5, 10**6)):
        cut = list(chunks.of(torch.empty(n, f, device="cpu")))
        assert [row for piece in cut for row in range(piece.start, piece.stop)] == list(range(n))
        assert cut == list(chunks.of(torch.empty(2, f, device="cpu"), n))
    assert len(list(chunks.of(torch.empty(10**6, 4, device="meta")))) == 1
