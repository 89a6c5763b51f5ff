"""What a mode made is a source for every mode, from the disk, as in a chain of transfers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import ROOT, a_fit, batches_of, candidates, config

from tltool import instantiate
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.model.property_model import PropertyModel
from tltool.model.surgery import edit
from tltool.run_folder.find import chain
from tltool.training.fit import predict
from tltool.training.saved_model import checkpoint

MODES = sorted(p.stem for p in (ROOT / "configs" / "mode").glob("*.yaml"))
FIRST = {
    "finetune": ["mode=finetune"],
    "ridge": ["mode=features"],
    "atom_set": ["mode=features", "mode/regressor=atom_set"],
    "svr": ["mode=features", "mode/regressor=svr", "mode.level=trunk"],
}


def run(source: PropertyModel, data: Batches, *overrides: str, **keys) -> PropertyModel:
    return instantiate.call(config("transfer", *overrides)["mode"], source, data, a_fit(**keys))


@pytest.fixture(scope="module")
def between(source: PropertyModel, part: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, PropertyModel]:
    """Models of e_above_hull made from the source, saved and loaded."""
    data = batches_of(part, ("e_above_hull",), seed=3, train_size=40)
    found = {}
    for name, overrides in FIRST.items():
        model = run(source, data, *overrides)
        model.spec |= {"quantities": {"e_above_hull": {"unit": "eV/atom"}}}
        path = tmp_path_factory.mktemp("chain") / name
        checkpoint.save(path, model)
        found[name] = checkpoint.load(path)
    return found


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_goes_on_from_every_mode(
    first: str, mode: str, between: dict[str, PropertyModel], part: Dataset, tmp_path: Path
) -> None:
    data = batches_of(part, ("e_form",), seed=5, train_size=24)
    less = ["mode.folds=2", *candidates("labels", "ridge", "kernel_ridge", "finetune")] if mode == "auto" else []
    before = {k: v.clone() for k, v in between[first].state_dict().items()}
    model = run(between[first], data, f"mode={mode}", *less, epochs=1)
    assert model.quantities == ["e_form"]
    assert all(torch.equal(v, before[k]) for k, v in between[first].state_dict().items())
    predicted = predict(model, data, "test")
    assert np.isfinite(predicted).all()
    assert predicted.std() > 0
    model.spec |= {"quantities": {"e_form": {"unit": "eV/atom"}}}
    checkpoint.save(tmp_path / "model", model)
    np.testing.assert_allclose(predict(checkpoint.load(tmp_path / "model"), data, "test"), predicted, rtol=1e-5)


def test_scratch_forgets_standardised_features_too(between: dict[str, PropertyModel], part: Dataset) -> None:
    data = batches_of(part, ("e_form",), seed=5, train_size=24)
    other = edit.copy_of(between["ridge"])
    other.trunk.mean += 1.0
    made = [predict(run(model, data, "mode=scratch"), data, "test") for model in (between["ridge"], other)]
    assert (made[0] == made[1]).all()


def test_a_kept_ridge_head_predicts_what_it_did(between: dict[str, PropertyModel], part: Dataset) -> None:
    same = batches_of(part, ("e_above_hull",), seed=8, train_size=24)
    model = run(between["ridge"], same, "mode=finetune", "mode.head=keep", epochs=0)
    assert (predict(model, same, "test") == predict(between["ridge"], same, "test")).all()


def test_the_chain_in_words() -> None:
    steps = [
        {"stage": "pretrain", "name": "demo", "quantities": ["e_form", "gap"]},
        {"stage": "transfer", "name": "elastic", "quantities": ["log10_K_VRH"], "mode": "finetune"},
        {"stage": "transfer", "name": "dielectric", "quantities": ["n"], "mode": "auto", "chosen": "ridge"},
        {"stage": "pretrain"},
    ]
    assert chain({"provenance": steps}) == [
        "e_form, gap (demo)", "log10_K_VRH (elastic, finetune)", "n (dielectric, auto: ridge)", "unknown ()",
    ]  # fmt: skip
    assert chain({}) == []
