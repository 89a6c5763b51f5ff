"""Heads of another kind than a linear map, through every step that makes, keeps or drops them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import a_fit, batches_of, config, fresh_model
from torch import nn

from tltool import instantiate
from tltool.data.dataset import Dataset
from tltool.model.heads import MLPHead
from tltool.model.property_model import PropertyModel
from tltool.model.surgery import edit
from tltool.training.fit import predict
from tltool.training.saved_model import checkpoint
from tltool.training.scaled_labels import scalers

BACKBONE = ["encoder", "readout", "trunk"]


@pytest.fixture(scope="module")
def with_networks(part: Dataset) -> PropertyModel:
    """Give a source whose heads are networks, with running statistics and scalers of real rows."""
    data = batches_of(part, ("e_form", "e_above_hull"), train_size=60)
    model = fresh_model(("e_form", "e_above_hull"), overrides=("head=mlp", "trunk=none", "head.widths=[16,16]"))
    edit.new_heads(model, scalers(data, reference=False, scale="linear"))
    edit.refit_statistics(model, data.graph("train"))
    return model.eval()


def run(mode: str, source: PropertyModel, data, *overrides: str, **keys) -> PropertyModel:
    return instantiate.call(config("transfer", f"mode={mode}", *overrides)["mode"], source, data, a_fit(**keys))


def test_an_mlp_head_is_a_silu_before_each_map() -> None:
    head = MLPHead(3, widths=[4])
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    one, two = head.layers
    hidden = one(rows * torch.sigmoid(rows))
    torch.testing.assert_close(head(rows), two(hidden * torch.sigmoid(hidden)))


def test_each_quantity_has_a_network_of_its_own(with_networks: PropertyModel) -> None:
    first, second = with_networks.heads.values()
    assert isinstance(first, MLPHead)
    assert not torch.equal(first.layers[0].weight, second.layers[0].weight)


@pytest.mark.parametrize("mode", ["scratch", "finetune", "freeze", "lora"])
def test_a_new_head_is_a_network_too_and_comes_back_to_the_bit(
    mode: str, with_networks: PropertyModel, part: Dataset, tmp_path: Path
) -> None:
    data = batches_of(part, ("e_above_hull",), seed=3, train_size=40)
    model = run(mode, with_networks, data, epochs=1)
    assert isinstance(model.heads["e_above_hull"], MLPHead)
    model.spec |= {"quantities": {"e_above_hull": {"unit": "eV/atom"}}}
    checkpoint.save(tmp_path / "model", model)
    back = checkpoint.load(tmp_path / "model")
    assert isinstance(back.heads["e_above_hull"], MLPHead)
    assert (predict(back, data, "test") == predict(model, data, "test")).all()


def test_a_kept_network_predicts_what_the_source_does(with_networks: PropertyModel, part: Dataset) -> None:
    data = batches_of(part, ("e_form",), seed=9, train_size=50)
    model = run("finetune", with_networks, data, "mode.head=keep", epochs=0)
    assert (predict(model, data, "test")[:, 0] == predict(with_networks, data, "test")[:, 0]).all()


def test_freeze_equals_features(with_networks: PropertyModel, part: Dataset) -> None:
    data = batches_of(part, ("e_above_hull",), seed=3, train_size=40)
    frozen = run("freeze", with_networks, data, f"mode.parts=[{','.join(BACKBONE)}]", epochs=4)
    on_table = run("features", with_networks, data, "mode.level=trunk", "mode.regressor=null", epochs=4)
    np.testing.assert_allclose(predict(frozen, data, "test"), predict(on_table, data, "test"), atol=2e-5)


FEATURES = {
    "levels": ("mode.level=[0,1]",),
    "trunk": ("mode.level=trunk",),
    "labels": ("mode.level=[0]", "mode.extra_features=[labels,trunk]"),
    "sites": ("mode/regressor=atom_set", "mode.level=[1]"),
}


@pytest.mark.parametrize("how", FEATURES)
def test_features_have_a_head_of_their_own(
    how: str, with_networks: PropertyModel, part: Dataset, tmp_path: Path
) -> None:
    data = batches_of(part, ("e_above_hull",), seed=3, train_size=40)
    model = run("features", with_networks, data, *FEATURES[how], epochs=1)
    assert type(model.heads["e_above_hull"]) is nn.Linear
    model.spec |= {"quantities": {"e_above_hull": {"unit": "eV/atom"}}}
    checkpoint.save(tmp_path / "model", model)
    back = checkpoint.load(tmp_path / "model")
    np.testing.assert_allclose(predict(back, data, "test"), predict(model, data, "test"), atol=1e-6)


def test_a_model_of_before_there_were_kinds_has_linear_heads(with_networks: PropertyModel) -> None:
    spec = {key: value for key, value in with_networks.spec.items() if key != "head"}
    assert {type(head) for head in checkpoint.build(spec).heads.values()} == {nn.Linear}
