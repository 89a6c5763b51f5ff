"""The contract that every encoder in configs/encoder/ is held to."""

import pytest
import torch
from support import FULL, QUOTIENT, ROOT, config, doubled, fresh_model, other_lattice, rotated, shuffled

from tltool import plugs
from tltool.data import graphs, loading
from tltool.data.record import Crystal
from tltool.errors import ConfigError

ENCODERS = sorted(p.stem for p in (ROOT / "configs" / "encoder").glob("*.yaml"))
pytestmark = pytest.mark.parametrize("encoder", ENCODERS)
CHANGES = {
    "order of sites": lambda c: shuffled(c, 3),
    "rotation": lambda c: rotated(c, 4),
    "lattice": other_lattice,
    "supercell": doubled,
}


def predictions(encoder: str, crystals: list[Crystal], recipe: graphs.Recipe = QUOTIENT) -> torch.Tensor:
    model = fresh_model(encoder=encoder).eval()
    with torch.no_grad():
        return model(loading.table(graphs.build(crystals, recipe)).select(torch.arange(len(crystals))))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("change", CHANGES)
def test_a_crystal_is_a_crystal(encoder: str, crystals: list[Crystal], change: str) -> None:
    before = predictions(encoder, crystals)
    assert float(before.std()) > 1e-3
    after = predictions(encoder, [CHANGES[change](c) for c in crystals])
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("double")
def test_the_quotient_equals_the_full_graph(encoder: str, crystals: list[Crystal]) -> None:
    expected = predictions(encoder, crystals, FULL)
    torch.testing.assert_close(predictions(encoder, crystals), expected, atol=1e-9, rtol=1e-9)


def test_levels_and_gradients(encoder: str, crystals: list[Crystal]) -> None:
    model = fresh_model(encoder=encoder)
    graph = loading.table(graphs.build(crystals, QUOTIENT)).select(torch.arange(len(crystals)))
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
        with pytest.raises(ConfigError, match="descriptors or learned"):
            plugs.call(node | {"elements": "guessed"})
        assert plugs.call(node | {"elements": "learned"}).dim == node["dim"]
    with pytest.raises(ConfigError, match="takes no 'dimm'"):
        plugs.call(node | {"dimm": 3})
