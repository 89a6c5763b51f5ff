import pytest
import torch
from support import FULL, QUOTIENT
from torch import Tensor

from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.model import message_passing
from tltool.model.kernels import cgcnn_gate
from tltool.model.kernels.cgcnn_gate import gated_sum
from tltool.model.norm import WeightedBatchNorm


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("graph_settings", [QUOTIENT, FULL], ids=["quotient", "full"])
@pytest.mark.parametrize("training", [True, False])
def test_the_written_out_pass_equals_the_composed_one(crystals: list[Crystal], graph_settings, training: bool) -> None:
    graph = tensor_table.table(crystal_graphs.build(crystals[:15], graph_settings)).select(torch.arange(15))
    torch.manual_seed(0)
    sizes = (graph.n_nodes, graph.n_nodes, len(graph.distance))
    parts = [torch.randn(size, 6, requires_grad=True) for size in sizes]
    upstream = torch.randn(graph.n_nodes, 3)
    results = []
    for written_out in (True, False):
        torch.manual_seed(1)
        norm = WeightedBatchNorm(6).train(training)
        with torch.no_grad():
            norm.scale.uniform_(0.5, 2)
            norm.bias.normal_()
            norm.variance.uniform_(0.5, 2)
        if written_out:
            out = gated_sum(graph, *parts, norm)
        else:
            normalised = norm(message_passing.edge_sum(graph, *parts), graph.edge_weight())
            gate, message = normalised.chunk(2, dim=1)
            out = message_passing.neighbour_sum(graph, gate.sigmoid() * torch.nn.functional.softplus(message))
        inputs = [*parts, norm.scale, norm.bias]
        results.append([out, *torch.autograd.grad(out, inputs, upstream), norm.mean.clone(), norm.variance.clone()])
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-10, rtol=1e-10)


def test_no_edge_at_all() -> None:
    import numpy as np

    lonely = Crystal(30 * np.eye(3), np.zeros((1, 3)), np.array([2]))
    graph = tensor_table.table(crystal_graphs.build([lonely], QUOTIENT)).select(torch.arange(1))
    parts = [torch.randn(size, 4, requires_grad=True) for size in (1, 1, 0)]
    out = gated_sum(graph, *parts, WeightedBatchNorm(4))
    assert torch.equal(out, torch.zeros(1, 2))
    out.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in parts if p.grad is not None)


def test_a_triton_kernel_that_disagrees_is_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(graph: Graph, a: Tensor, b: Tensor, c: Tensor, norm: WeightedBatchNorm) -> Tensor:
        return 1.01 * cgcnn_gate._by_autograd_function(graph, a, b, c, norm)

    cpu = torch.device("cpu")
    for kernel, agrees in ((cgcnn_gate._by_autograd_function, True), (wrong, False)):
        cgcnn_gate._triton_agrees.cache_clear()
        monkeypatch.setattr(cgcnn_gate, "_by_triton", kernel)
        assert cgcnn_gate._triton_agrees(cpu, torch.float32, 32) == agrees
    said = capsys.readouterr().err
    assert "The Triton kernels for 32 gates and messages give results that differ from plain PyTorch in float32" in said
    assert said.count("\n") == 1
    cgcnn_gate._triton_agrees.cache_clear()
