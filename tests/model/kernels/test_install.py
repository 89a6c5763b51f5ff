"""Kernels are chosen by name and device, and put into a model without a trace in what it learns or in its copies."""

import copy
from pathlib import Path

import pytest
import torch
from needs import DGL
from support import fresh_model, graph_settings_of

from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.errors import ConfigError
from tltool.model.kernels import cpp_library, install, self_check

NAMES = [
    pytest.param(
        "compiled", marks=pytest.mark.skipif(cpp_library.compiler() is None, reason="no C++ compiler is here")
    ),
    pytest.param("dgl", marks=DGL),
    "torch",
]


def test_other_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="auto, compiled, dgl, torch or triton"):
        install.choose("jax")
    assert install.choose("auto").name in ("compiled", "torch")


def test_compiled_kernels_are_for_the_cpu(tmp_path: Path) -> None:
    elsewhere = torch.device("meta")
    with pytest.raises(ConfigError, match="device=cpu, not on meta"):
        install.choose("compiled", elsewhere, tmp_path)
    assert install.choose("auto", elsewhere, tmp_path).name == "torch"
    assert list(tmp_path.iterdir()) == []


def outcome(model: torch.nn.Module, graph: Graph) -> list[torch.Tensor]:
    """Predictions in training, the gradients of a sum of their squares, and predictions in evaluation."""
    out = model.train()(graph)
    gradients = torch.autograd.grad(out.square().sum(), list(model.parameters()), allow_unused=True)
    return [out.detach(), *(g for g in gradients if g is not None), model.eval()(graph).detach()]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("encoder", ["cgcnn", "megnet", "cgat", "alignn"])
@pytest.mark.parametrize("name", NAMES)
def test_a_model_computes_what_the_plain_one_does(
    name: str, encoder: str, crystals: list[Crystal], kernel_folder: Path
) -> None:
    table = tensor_table.table(crystal_graphs.build(crystals[:12], graph_settings_of(encoder)))
    graph, model = table.select(torch.arange(12)), fresh_model(encoder=encoder)
    kernels = install.choose(name, folder=kernel_folder)
    if kernels.cpp is not None:
        self_check.load(kernels.cpp, torch.float64)
    mine, before = copy.deepcopy(model), repr(model)
    kernels.install(mine)
    assert repr(mine) == before
    # Copied after the others have moved its statistics, a copy computes with tensors of its own.
    again = copy.deepcopy(mine)
    found = [outcome(one, graph.using({})) for one in (model, mine, again)]
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), again.parameters(), strict=True))


@DGL
@pytest.mark.parametrize("encoder", ["cgcnn", "alignn_small", "megnet"])
def test_kernels_are_in_use_where_there_are_some_and_can_be_taken_out(encoder: str, kernel_folder: Path) -> None:
    model = fresh_model(encoder=encoder)
    install.choose("auto", folder=kernel_folder).install(model)
    if encoder != "megnet" or cpp_library.compiler() is not None:
        assert any("forward" in vars(module) for module in model.modules())
    install.choose("dgl").install(model)
    assert not any("forward" in vars(module) for module in model.modules())
    assert model.operations
