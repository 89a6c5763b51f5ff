"""Layers with compiled kernels are what automatic differentiation makes of PyTorch's operations."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from support import QUOTIENT
from torch import Tensor

from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.model.encoders.megnet import EdgeUpdate, Layers
from tltool.model.kernels import cpp_library, megnet_layers, rows_cpp
from tltool.model.kernels.cpp_kernels import CppKernels

pytestmark = pytest.mark.skipif(cpp_library.compiler() is None, reason="no C++ compiler")


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_the_activation_and_its_slope(cpp: CppKernels, kind: torch.dtype) -> None:
    for numbers in (torch.linspace(-120.0, 120.0, 997, dtype=kind), torch.randn(3, 5, dtype=kind), torch.empty(0, 4)):
        rows = numbers.to(kind).clone()
        out = rows_cpp.soften(cpp, rows)
        torch.testing.assert_close(out, F.softplus(numbers.to(kind)) - torch.log(torch.tensor(2.0, dtype=kind)))
        torch.testing.assert_close(rows, torch.sigmoid(numbers.to(kind)))
    bad = torch.tensor([float("nan"), 1.0], dtype=kind)
    assert rows_cpp.soften(cpp, bad).isnan().tolist() == [True, False]


def leaf(*shape: int) -> Tensor:
    return torch.randn(*shape, requires_grad=True)


@pytest.mark.usefixtures("double")
def test_layers(cpp: CppKernels) -> None:
    found = []
    for form in (Layers.forward, partial(megnet_layers.layers, cpp)):
        torch.manual_seed(0)
        rows, module = leaf(11, 3), Layers([3, 5, 4])
        out = form(module, rows)
        (out * torch.randn_like(out)).sum().backward()
        found.append([out, *(table.grad for table in (rows, *module.parameters()))])
    torch.testing.assert_close(*found, atol=1e-10, rtol=1e-10)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("by_distance", [True, False])
def test_edge_layers(by_distance: bool, crystals: list[Crystal], cpp: CppKernels) -> None:
    graph = tensor_table.table(crystal_graphs.build(crystals[:9], QUOTIENT)).select(torch.arange(9))
    found = []
    for form in (EdgeUpdate.forward, partial(megnet_layers.edge_layers, cpp)):
        torch.manual_seed(0)
        sizes = graph.n_nodes, len(graph.distance if by_distance else graph.receiver), graph.n_crystals
        inputs, module = [leaf(size, 3) for size in sizes], EdgeUpdate(3, 5)
        out = form(module, *inputs, graph, by_distance)
        (out * torch.randn_like(out)).sum().backward()
        found.append([out, *(table.grad for table in (*inputs, *module.parameters()))])
    torch.testing.assert_close(*found, atol=1e-10, rtol=1e-10)
