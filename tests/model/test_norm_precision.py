"""Under autocast, normalisation and sums over edges are those of single precision."""

import pytest
import torch
from support import QUOTIENT

from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.model.kernels.cgcnn_gate import gated_sum
from tltool.model.norm import WeightedBatchNorm


@pytest.mark.parametrize("training", [True, False])
def test_the_gate_of_half_precision_tables_is_that_of_single_precision(crystals: list[Crystal], training: bool) -> None:
    graph = tensor_table.table(crystal_graphs.build(crystals, QUOTIENT)).select(torch.arange(len(crystals)))
    torch.manual_seed(0)
    sizes = graph.n_nodes, graph.n_nodes, len(graph.distance)
    parts = [torch.randn(size, 8, dtype=torch.bfloat16) for size in sizes]
    found = []
    for half in (True, False):
        norm = WeightedBatchNorm(8).train(training)
        given = [part.requires_grad_() if half else part.detach().float().requires_grad_() for part in parts]
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = gated_sum(graph, *given, norm)
        assert out.dtype == torch.float32
        found.append([out, norm.mean, norm.variance, *torch.autograd.grad(out.sum(), [*given, norm.scale])])
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected.to(mine.dtype))


def test_normalisation_of_half_precision_rows() -> None:
    torch.manual_seed(0)
    rows, weights = 100 + torch.randn(5000, 4, dtype=torch.bfloat16), torch.rand(5000)
    norm, expected = WeightedBatchNorm(4), WeightedBatchNorm(4)
    with torch.autocast("cpu", torch.bfloat16):
        mine = norm(rows, weights)
    torch.testing.assert_close(mine, expected(rows.float(), weights))
    torch.testing.assert_close(norm.mean, expected.mean)
