"""Layers with compiled kernels are what automatic differentiation makes of PyTorch's operations."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from support import QUOTIENT
from torch import Tensor

from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.model import message_passing
from tltool.model.kernels import cgcnn_cpp, cpp_library, megnet_layers

pytestmark = pytest.mark.skipif(cpp_library.compiler() is None, reason="no C++ compiler")


@pytest.fixture(autouse=True)
def _kernels(kernel_folder: Path) -> Iterator[None]:
    for kind in (torch.float32, torch.float64):
        cgcnn_cpp.load(kernel_folder, lambda text: None, kind)
    yield
    message_passing.use("auto")


def weights_of(*sizes: int) -> list[Tensor]:
    pairs = pairwise(sizes)
    return [torch.randn(*shape, requires_grad=True) for a, b in pairs for shape in ((b, a), (b,))]


def use(kernel: str, tmp_path: Path) -> None:
    message_passing.use(kernel, torch.device("cpu"), tmp_path)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_the_activation_and_its_slope(kind: torch.dtype) -> None:
    for numbers in (torch.linspace(-120.0, 120.0, 997, dtype=kind), torch.randn(3, 5, dtype=kind), torch.empty(0, 4)):
        rows = numbers.to(kind).clone()
        out = cgcnn_cpp.soften(rows)
        torch.testing.assert_close(out, F.softplus(numbers.to(kind)) - torch.log(torch.tensor(2.0, dtype=kind)))
        torch.testing.assert_close(rows, torch.sigmoid(numbers.to(kind)))
    bad = torch.tensor([float("nan"), 1.0], dtype=kind)
    assert cgcnn_cpp.soften(bad).isnan().tolist() == [True, False]


@pytest.mark.usefixtures("double")
def test_layers(tmp_path: Path) -> None:
    found = {}
    for kernel in ("compiled", "torch"):
        use(kernel, tmp_path)
        torch.manual_seed(0)
        rows, weights = torch.randn(11, 3, requires_grad=True), weights_of(3, 5, 4)
        out = megnet_layers.layers(rows, weights)
        (out * torch.randn_like(out)).sum().backward()
        found[kernel] = [out, *(table.grad for table in (rows, *weights))]
    torch.testing.assert_close(found["compiled"], found["torch"], atol=1e-10, rtol=1e-10)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("by_distance", [True, False])
def test_edge_layers(by_distance: bool, crystals: list[Crystal], tmp_path: Path) -> None:
    graph = tensor_table.table(crystal_graphs.build(crystals[:9], QUOTIENT)).select(torch.arange(9))
    found = {}
    for kernel in ("compiled", "torch"):
        use(kernel, tmp_path)
        torch.manual_seed(0)
        sizes = graph.n_nodes, len(graph.distance if by_distance else graph.receiver), graph.n_crystals
        inputs = [torch.randn(size, 3, requires_grad=True) for size in sizes]
        first = [torch.randn(5, 3, requires_grad=True) for _ in range(4)]
        weights = [*first, torch.randn(5, requires_grad=True), *weights_of(5, 4)]
        sites, edges, state = inputs
        out = megnet_layers.edge_layers(graph, sites, edges, state, by_distance, weights)
        (out * torch.randn_like(out)).sum().backward()
        found[kernel] = [out, *(table.grad for table in (*inputs, *weights))]
    torch.testing.assert_close(found["compiled"], found["torch"], atol=1e-10, rtol=1e-10)
