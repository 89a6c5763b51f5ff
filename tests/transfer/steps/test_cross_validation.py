import numpy as np
import pytest
import torch
from support import a_fit, batches_of, fresh_model

from tltool.data.dataset import Dataset
from tltool.model.surgery import edit
from tltool.training.fit import predict
from tltool.training.scaled_labels import scalers
from tltool.transfer.steps import cross_validation


def test_folds_part_the_training_rows_and_hold_nothing_else(part: Dataset) -> None:
    data = batches_of(part, train_size=33)
    train = set(data.split["train"].tolist())
    settings = a_fit(select="last").settings
    found = list(cross_validation.cut(data, settings, 5, seed=1))
    assert sorted(row for fold, _ in found for row in fold.split["test"].tolist()) == sorted(train)
    for fold, held in found:
        assert set(fold.split["train"].tolist()) | set(fold.split["test"].tolist()) == train
        assert not set(fold.split["train"].tolist()) & set(fold.split["test"].tolist())
        assert torch.equal(data.split["train"][held], fold.split["test"])
        assert len(fold.split["val"]) == 0
        assert len(fold.split["test"]) in (6, 7)
    for stops in ({"select": "best"}, {"select": "last", "patience": 3}):
        fold, _ = next(cross_validation.cut(data, a_fit(**stops).settings, 5, seed=1))
        assert torch.equal(fold.split["val"], data.split["val"])
    others = [held for _, held in cross_validation.cut(data, settings, 5, seed=2)]
    assert any(not torch.equal(a, b) for a, (_, b) in zip(others, found, strict=True))


def test_row_errors_are_in_units_of_the_mad_and_skip_absent_labels(part: Dataset) -> None:
    data = batches_of(part, ("e_form", "e_above_hull"), train_size=20)
    model = fresh_model(data.quantities)
    edit.new_heads(model, scalers(data, False, "linear"))
    data.labels[int(data.split["train"][0]), 1] = torch.nan
    label = data.labels[data.split["train"]].double().numpy()
    mads = np.nanmean(np.abs(label - np.nanmean(label, axis=0)), axis=0)
    predicted = predict(model, data, "train")
    wrong = np.abs(predicted - label) / mads
    found = cross_validation.row_errors(predicted, data)
    assert found[0] == pytest.approx(wrong[0, 0])
    np.testing.assert_allclose(found[1:], wrong[1:].mean(1))


def test_weights_fall_with_the_error_and_the_best_has_the_largest() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(400)
    near = base + rng.normal(0.004, 0.1, 400)
    far = base + 0.3 + rng.normal(0, 0.1, 400)
    found = cross_validation.standings({"far": far, "near": near, "base": base})
    assert found["base"].behind == 0
    assert found["near"].behind == pytest.approx((near - base).mean())
    assert found["near"].behind_standard_error == pytest.approx((near - base).std(ddof=1) / 20)
    assert found["near"].behind < found["near"].behind_standard_error
    two = cross_validation.weights(found, 0.1, 4)
    assert list(two) == ["base", "near"]
    assert two["near"] / two["base"] == pytest.approx(np.exp(-10 * (near.mean() / base.mean() - 1)))
    assert cross_validation.weights(found, 0.0, 4) == {"base": 1.0}
    assert cross_validation.weights(found, 1e9, 4) == pytest.approx(dict.fromkeys(["base", "near", "far"], 1 / 3))
    assert cross_validation.weights(found, 1e9, 2) == pytest.approx(dict.fromkeys(["base", "near"], 1 / 2))
    perfect = cross_validation.standings({"wrong": base, "right": np.zeros(400)})
    assert cross_validation.weights(perfect, 0.1, 4) == {"right": 1.0}
    assert cross_validation.hopeless(far, base)
    assert not cross_validation.hopeless(near, base)
