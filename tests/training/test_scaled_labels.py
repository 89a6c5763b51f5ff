from dataclasses import replace

import pytest
import torch
from support import a_fit, batches_of, fresh_model

from tltool.data.dataset import Dataset
from tltool.errors import ConfigError
from tltool.model.surgery import edit
from tltool.training.fit import train, validate
from tltool.training.scaled_labels import goals_of, scalers


def test_the_scaler_sees_training_rows_only(part: Dataset) -> None:
    data = batches_of(part)
    poisoned = data.labels.clone()
    for name in ("val", "test"):
        poisoned[data.split[name]] += 1e6
    for reference in (False, True):
        clean = scalers(data, reference, "linear")["e_form"].state_dict()
        other = scalers(replace(data, labels=poisoned), reference, "linear")["e_form"].state_dict()
        assert all(torch.equal(clean[k], other[k]) for k in clean)


@pytest.mark.parametrize("scale", ["auto", "log"])
def test_training_labels_alone_decide_about_a_logarithm(part: Dataset, scale: str) -> None:
    positive = replace(batches_of(part), quantities=("phonon_peak",))
    positive.labels[:] = positive.labels.abs() + 0.5
    expected = scalers(positive, False, scale)["phonon_peak"]
    assert expected.logarithmic
    for name, value in (("val", -1.0), ("val", 0.0), ("test", -1.0), ("val", 1e30)):
        labels = positive.labels.clone()
        labels[positive.split[name]] = value
        found = scalers(replace(positive, labels=labels), False, scale)["phonon_peak"]
        assert found.logarithmic
        assert torch.equal(found.mean, expected.mean)
        assert torch.equal(found.spread, expected.spread)
    labels = positive.labels.clone()
    labels[positive.split["train"][-1]] = -1.0
    if scale == "auto":
        assert not scalers(replace(positive, labels=labels), False, scale)["phonon_peak"].logarithmic
    else:
        with pytest.raises(
            ConfigError, match=r"phonon_peak has a training label of -1, and its logarithm does not exist"
        ):
            scalers(replace(positive, labels=labels), False, scale)


def test_a_validation_label_without_a_logarithm_counts_as_far_away(part: Dataset) -> None:
    data = batches_of(part)
    data.labels[:] = data.labels.abs() + 0.5
    data.labels[data.split["val"][0]] = -2.0
    model = fresh_model()
    edit.new_heads(model, scalers(data, reference=False, scale="log"))
    trained = train(model, data, a_fit(epochs=2, select="best"))
    assert trained.best_epoch > 0
    error, _ = validate(model, data)
    rest = replace(data, split={**data.split, "val": data.split["val"][1:]})
    n = len(data.split["val"])
    assert error == pytest.approx((validate(model, rest)[0] * (n - 1) + 10.0) / n)


def test_a_kept_logarithm_meets_a_label_without_one(part: Dataset) -> None:
    data = batches_of(part)
    rows = data.split["train"]
    data.labels[:] = data.labels.abs() + 0.5
    model = fresh_model()
    edit.new_heads(model, scalers(data, reference=False, scale="log"))
    assert torch.isfinite(goals_of(model, data)[rows]).all()
    data.labels[rows[3]] = torch.nan
    train(model, data, a_fit(epochs=1))  # an absent label is none
    for value in (0.0, -1.5):
        data.labels[rows[3]] = value
        with pytest.raises(ConfigError, match=rf"logarithm of e_form, and a training label is {value:g}, which has no"):
            train(model, data, a_fit(epochs=1))


def test_only_positive_labels_of_a_scale_that_is_asked_for_are_learnt_as_logarithms(part: Dataset) -> None:
    data = batches_of(part)
    data.labels[:] = data.labels.abs() + 0.5
    learnt = {scale: scalers(data, False, scale)["e_form"].logarithmic for scale in ("linear", "log", "auto")}
    assert learnt == {"linear": False, "log": True, "auto": False}
    data.labels[data.split["train"][0]] = 0.0
    with pytest.raises(
        ConfigError, match=r"fit\.scale=log: e_form has a training label of 0, and its logarithm does not exist"
    ):
        scalers(data, False, "log")
