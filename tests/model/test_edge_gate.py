from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from support import QUOTIENT
from torch import Tensor

from tltool.data import graphs, loading
from tltool.data.record import Crystal
from tltool.fields import Graph
from tltool.model import kernels, pieces
from tltool.model.edge_gate import gated_mean

pytestmark = pytest.mark.usefixtures("double")


@pytest.fixture(params=["graph", "line"])
def graph(crystals: list[Crystal], request: pytest.FixtureRequest) -> Graph:
    recipe = replace(QUOTIENT, angles=True)
    made = loading.table(graphs.build(crystals[:12], recipe)).select(torch.arange(12))
    assert made.line is not None
    return made if request.param == "graph" else made.line


@pytest.fixture(autouse=True)
def _afterwards() -> Iterator[None]:
    yield
    kernels.use("auto")


def outcome(graph: Graph, kernel: str, read: str) -> list[Tensor]:
    """Results, and gradients of all inputs through what is ``read`` of them."""
    kernels.use(kernel)
    torch.manual_seed(0)
    n, e = graph.n_nodes, len(graph.neighbour)
    inputs = [torch.randn(rows, 5, requires_grad=True) for rows in (n, n, e, n)]
    results = gated_mean(graph, *inputs)
    rows = {"mean": results[:1], "gates": results[1:], "both": results}[read]
    sum((r * torch.randn_like(r)).sum() for r in rows).backward()
    return [*results, *(torch.zeros_like(x) if x.grad is None else x.grad for x in inputs)]


@pytest.mark.parametrize("read", ["mean", "gates", "both"])
@pytest.mark.parametrize("size", [64, 2**16])
def test_the_written_backward_pass_is_that_of_automatic_differentiation(
    graph: Graph, read: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "_NUMBERS", size)
    for mine, other in zip(*(outcome(graph, kernel, read) for kernel in ("torch", "dgl")), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=1e-10)


def test_one_message_comes_through_whatever_its_gate(graph: Graph) -> None:
    zeros, ones = torch.zeros(graph.n_nodes, 3), torch.ones(graph.n_nodes, 3)
    received, _ = gated_mean(graph, zeros, zeros, torch.randn(len(graph.neighbour), 3), ones)
    heard = graph.first_edge.diff() > 0
    torch.testing.assert_close(received[heard], ones[heard], atol=1e-5, rtol=0)


def test_pieces_are_all_rows_once() -> None:
    for n, f in ((0, 3), (1, 3), (1000, 400), (5, 10**6)):
        cut = list(pieces.of(torch.empty(n, f, device="cpu")))
        assert [row for piece in cut for row in range(piece.start, piece.stop)] == list(range(n))
    assert len(list(pieces.of(torch.empty(10**6, 4, device="meta")))) == 1
