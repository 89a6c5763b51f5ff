"""The contract that every encoder in configs/encoder/ is held to."""

from dataclasses import replace

import pytest
import torch
from needs import DGL
from support import ROOT, config, doubled, fresh_model, graph_settings_of, other_lattice, rotated, shuffled

from tltool import instantiate
from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.errors import ConfigError
from tltool.model.kernels import install
from tltool.model.property_model import PropertyModel
from tltool.model.surgery.edit import refit_statistics

ENCODERS = sorted(p.stem for p in (ROOT / "configs" / "encoder").glob("*.yaml"))
pytestmark = pytest.mark.parametrize("encoder", ENCODERS)
CHANGES = {
    "order of sites": lambda c: shuffled(c, 3),
    "rotation": lambda c: rotated(c, 4),
    "lattice": other_lattice,
    "supercell": doubled,
}


def graph_of(encoder: str, crystals: list[Crystal], quotient: bool = True) -> Graph:
    graph_settings = replace(graph_settings_of(encoder), quotient=quotient)
    return tensor_table.table(crystal_graphs.build(crystals, graph_settings)).select(torch.arange(len(crystals)))


def settled(encoder: str, crystals: list[Crystal]) -> PropertyModel:
    """Return a fresh model with the statistics of ``crystals``: with others its features may hardly vary."""
    model = fresh_model(encoder=encoder)
    refit_statistics(model, graph_of(encoder, crystals))
    return model.eval().requires_grad_(False)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("change", CHANGES)
def test_a_crystal_is_a_crystal(encoder: str, crystals: list[Crystal], change: str) -> None:
    model = settled(encoder, crystals)
    before = model(graph_of(encoder, crystals))
    assert float(before.std()) > 1e-3
    after = model(graph_of(encoder, [CHANGES[change](c) for c in crystals]))
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("double")
def test_the_quotient_equals_the_full_graph(encoder: str, crystals: list[Crystal]) -> None:
    model = settled(encoder, crystals)
    expected = model(graph_of(encoder, crystals, quotient=False))
    torch.testing.assert_close(model(graph_of(encoder, crystals)), expected, atol=1e-9, rtol=1e-9)


@DGL
@pytest.mark.usefixtures("double")
def test_dgl_kernels_give_the_same(encoder: str, crystals: list[Crystal]) -> None:
    model, graph = settled(encoder, crystals), graph_of(encoder, crystals)
    expected = model(graph)
    install.choose("dgl").install(model)
    torch.testing.assert_close(model(graph), expected, atol=1e-9, rtol=1e-9)


@pytest.mark.usefixtures("double")
def test_a_batch_equals_its_members(encoder: str, crystals: list[Crystal]) -> None:
    model, some = settled(encoder, crystals), crystals[::4]
    alone = torch.cat([model(graph_of(encoder, [crystal])) for crystal in some])
    torch.testing.assert_close(model(graph_of(encoder, some)), alone, atol=1e-9, rtol=1e-9)


def test_levels_and_gradients(encoder: str, crystals: list[Crystal]) -> None:
    model = fresh_model(encoder=encoder)
    graph = graph_of(encoder, crystals)
    levels = model.levels(graph)
    assert len(levels) == model.encoder.n_levels
    assert all(level.shape == (graph.n_nodes, model.encoder.dim) for level in levels)
    same_element = graph.number == graph.number[0]
    torch.testing.assert_close(levels[0][same_element], levels[0][:1].expand(int(same_element.sum()), -1))
    model.values(model.embed(graph)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_a_wrong_choice_is_named(encoder: str) -> None:
    node = config("pretrain", f"encoder={encoder}")["encoder"]
    if "elements" in node:
        with pytest.raises(ConfigError, match="descriptors, learned or matscholar"):
            instantiate.call(node | {"elements": "guessed"})
        assert instantiate.call(node | {"elements": "learned"}).dim == node["dim"]
    with pytest.raises(ConfigError, match="takes no 'dimm'"):
        instantiate.call(node | {"dimm": 3})
