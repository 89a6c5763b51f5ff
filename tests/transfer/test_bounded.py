"""A quantity between two bounds is learnt as its logit in every mode; intervals and files keep to the bounds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import ROOT, a_fit, batches_of, candidates, config

from tltool import instantiate
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.errors import ConfigError, InapplicableError
from tltool.evaluation import uncertainty
from tltool.model.property_model import PropertyModel
from tltool.quantities import as_text, defined
from tltool.training.fit import predict
from tltool.training.saved_model import checkpoint

DEFINE = {"efficiency": {"unit": "%", "scale": "logit", "least": 0, "most": 100}}
MODES = sorted(p.stem for p in (ROOT / "configs" / "mode").glob("*.yaml"))


@pytest.fixture(scope="module")
def data(part: Dataset) -> Batches:
    energy = part.store.label("e_form")
    share = (energy - np.nanmin(energy)) / (np.nanmax(energy) - np.nanmin(energy))
    store = replace(
        part.store,
        labels={"efficiency": 100 * share**3},
        attributes={**part.store.attributes, "define": as_text(DEFINE)},
    )
    return batches_of(replace(part, store=store), ("efficiency",), seed=3, train_size=40, val=0.3)


def run(mode: str, source: PropertyModel, data: Batches, *overrides: str) -> PropertyModel:
    node = config("transfer", f"mode={mode}", *overrides)["mode"]
    return instantiate.call(node, source, data, a_fit(reference=False))


@pytest.mark.parametrize("mode", MODES)
def test_predictions_and_intervals_stay_between_the_bounds(
    mode: str, source: PropertyModel, data: Batches, tmp_path: Path
) -> None:
    keys = ["mode.folds=2", *candidates("labels", "process", "ridge", "finetune")] if mode == "auto" else []
    model = run(mode, source, data, *keys)
    found = predict(model, data, "test")
    assert ((found > 0) & (found < 100)).all()
    model.uncertainty = uncertainty.of_validation(model, data)
    bounds = uncertainty.bounds_of(model, data, "test", found, 0.9)
    assert ((bounds.lower >= 0) & (bounds.lower < found) & (found < bounds.upper) & (bounds.upper <= 100)).all()
    model.spec |= {"quantities": DEFINE, "bounded": {"efficiency": [0.0, 100.0]}, "elements": []}
    checkpoint.save(tmp_path / "model", model)
    again = checkpoint.load(tmp_path / "model")
    np.testing.assert_allclose(predict(again, data, "test"), found, atol=1e-3)
    assert again.scalers["efficiency"].bounds == (0.0, 100.0)


def test_the_uncertainty_of_a_fraction_counts_less_near_a_bound(source: PropertyModel, data: Batches) -> None:
    """One per cent at 1 % says less about the logit than at 50 %."""
    labels = torch.tensor([1.0, 50.0])
    model = run("features", source, data)
    slope = model.scalers["efficiency"].steepness(labels)
    assert float(slope[0] / slope[1]) == pytest.approx(0.25 / (0.01 * 0.99), rel=1e-4)


def test_what_a_logit_needs_is_named(source: PropertyModel, data: Batches) -> None:
    with pytest.raises(ConfigError, match="scale: logit needs the bounds of the quantity, such as least: 0, most: 1"):
        defined("yield", {"scale": "logit", "least": 0})
    model = run("finetune", source, data)
    with pytest.raises(InapplicableError, match="labels needs a source that learnt numbers or logarithms"):
        run("features", model, data, "mode.extra_features=[labels]")
    run("features", model, data, "mode/regressor=additive_gp", "mode.regressor.members=1")
