import numpy as np
import pytest
import torch
from needs import DGL
from support import FULL, QUOTIENT, fresh_model

from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.model import message_passing
from tltool.model.kernels import dgl, install


@pytest.fixture(params=[QUOTIENT, FULL], ids=["quotient", "full"])
def graph(crystals: list[Crystal], request: pytest.FixtureRequest) -> Graph:
    lonely = Crystal(30 * np.eye(3), np.zeros((1, 3)), crystals[0].numbers[:1])
    return tensor_table.table(crystal_graphs.build([*crystals[:20], lonely], request.param)).select(torch.arange(21))


def both(make):
    """What ``make`` gives, and the gradients of its sum of squares, with each kind of kernels."""
    results = []
    for operations in ({}, dgl.operations()):
        inputs = [torch.randn(shape, generator=torch.Generator().manual_seed(7)) for shape in make.shapes]
        inputs = [x.requires_grad_() for x in inputs]
        out = make(operations, *inputs)
        out.square().sum().backward()
        results.append((out.detach(), [x.grad for x in inputs]))
    return results


@DGL
@pytest.mark.parametrize("operation", ["edge_sum", "neighbour_sum", "edge_softmax", "crystal_mean"])
def test_dgl_and_torch_agree(graph: Graph, operation: str) -> None:
    n, e, d = graph.n_nodes, len(graph.neighbour), len(graph.distance)
    shapes = {"edge_sum": [(n, 5), (n, 5), (d, 5)], "crystal_mean": [(n, 5)]}.get(operation, [(e, 5)])

    def make(operations, *inputs):
        return getattr(message_passing, operation)(graph.using(operations), *inputs)

    make.shapes = shapes
    (plain, plain_grads), (mine, grads) = both(make)
    torch.testing.assert_close(plain, mine, atol=1e-5, rtol=1e-6)
    for a, b in zip(plain_grads, grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)


@DGL
@pytest.mark.usefixtures("double")
def test_the_whole_model_agrees_to_1e_6(crystals: list[Crystal]) -> None:
    graph = tensor_table.table(crystal_graphs.build(crystals, QUOTIENT)).select(torch.arange(len(crystals)))
    model = fresh_model().eval()
    plain = model(graph)
    install.choose("dgl").install(model)
    torch.testing.assert_close(model(graph), plain, atol=1e-6, rtol=1e-6)


def test_sums_and_shares_are_what_they_say(graph: Graph) -> None:
    ones = torch.ones(len(graph.neighbour), 1)
    degree = torch.zeros(graph.n_nodes).index_add(0, graph.receiver, graph.edge_multiplicity)
    torch.testing.assert_close(message_passing.neighbour_sum(graph, ones)[:, 0], degree)
    scores = torch.randn(len(graph.neighbour), 3)
    total = message_passing.neighbour_sum(graph, message_passing.edge_softmax(graph, scores))
    torch.testing.assert_close(total[degree > 0], torch.ones_like(total[degree > 0]))
    assert bool((total[degree == 0] == 0).all())
    sites = torch.randn(graph.n_nodes, 2)
    first = slice(int(graph.first_node[0]), int(graph.first_node[1]))
    weights = graph.multiplicity[first, None]
    expected = (sites[first] * weights).sum(0) / weights.sum()
    torch.testing.assert_close(message_passing.crystal_mean(graph, sites)[0], expected)
