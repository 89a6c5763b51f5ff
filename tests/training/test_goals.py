import pytest
import torch
from support import a_fit, batches_of, fresh_model

from tltool.data.dataset import Dataset
from tltool.errors import ConfigError
from tltool.model import surgery
from tltool.training.fit import train
from tltool.training.goals import goals_of, scalers


def test_the_scaler_sees_training_rows_only(part: Dataset) -> None:
    data = batches_of(part)
    poisoned = data.labels.clone()
    for name in ("val", "test"):
        poisoned[data.split[name]] += 1e6
    for reference in (False, True):
        clean = scalers(data, reference)["e_form"].state_dict()
        other = scalers(type(data)(data.table, poisoned, data.quantities, data.split), reference)["e_form"].state_dict()
        assert all(torch.equal(clean[k], other[k]) for k in clean)


def test_a_kept_logarithm_meets_a_label_without_one(part: Dataset) -> None:
    data = batches_of(part)
    rows = data.split["train"]
    data.labels[:] = data.labels.abs() + 0.5
    model = fresh_model()
    surgery.new_heads(model, scalers(data, reference=False, scale="log"))
    assert torch.isfinite(goals_of(model, data)[rows]).all()
    data.labels[rows[3]] = torch.nan
    train(model, data, a_fit(epochs=1))  # an absent label is none
    for value in (0.0, -1.5):
        data.labels[rows[3]] = value
        with pytest.raises(ConfigError, match=rf"logarithm of e_form, and a training label is {value:g}, which has no"):
            train(model, data, a_fit(epochs=1))
