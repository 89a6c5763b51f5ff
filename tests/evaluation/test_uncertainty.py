import numpy as np
import pytest
import torch
from support import batches_of

from tltool.data.dataset import Dataset
from tltool.evaluation import uncertainty
from tltool.model.property_model import PropertyModel
from tltool.model.surgery.edit import copy_of
from tltool.training.fit import predict


def test_the_interval_of_a_row_holds_its_label_where_its_score_is_small_enough(source, part: Dataset) -> None:
    data, model = batches_of(part), copy_of(source)
    model.uncertainty = uncertainty.of_validation(model, data)
    label = data.labels[data.split["val"]].double().numpy()
    prediction = predict(model, data, "val")
    found = uncertainty.bounds_of(model, data, "val", prediction, 0.9)
    inside = ((found.lower <= label) & (label <= found.upper)).mean()
    assert inside >= 0.9, "the rows that the scores are of hold at least their share"
    assert uncertainty.rows_of(model.uncertainty, "e_form") == len(label)
    assert copy_of(model).uncertainty == {}, "a model that is transferred again has no intervals of the last time"


def test_intervals_of_logarithms_are_factors(source: PropertyModel, part: Dataset) -> None:
    model = copy_of(source)
    model.scalers["e_form"].logarithmic = True
    prediction = np.array([[2.0], [8.0]])
    lower, upper = uncertainty.around(model, prediction, np.ones((2, 1)), np.array([np.log(2.0)]))
    np.testing.assert_allclose(lower.ravel(), [1.0, 4.0])
    np.testing.assert_allclose(upper.ravel(), [4.0, 16.0])
    found = uncertainty.scores(model, np.array([[4.0], [-1.0]]), prediction, np.full((2, 1), 2.0))
    np.testing.assert_allclose(found.ravel(), [np.log(2) / 2, np.inf])


def test_a_training_row_is_near_and_another_embedding_is_far(source: PropertyModel, part: Dataset) -> None:
    data, model = batches_of(part), copy_of(source)
    model.uncertainty = uncertainty.of_validation(model, data)
    assert not uncertainty.is_far(model, data.graph("train")).any()
    shifted = dict(model.uncertainty)
    shifted["mean"] = shifted["mean"] + 100 * shifted["scale"]
    model.uncertainty = shifted
    assert uncertainty.is_far(model, data.graph("train")).all()


def test_too_few_rows_are_said(source: PropertyModel, part: Dataset) -> None:
    data, model = batches_of(part), copy_of(source)
    model.uncertainty = uncertainty.of_validation(model, data)
    assert uncertainty.without(model, 0.9) == []
    assert uncertainty.without(model, 0.99)[0].startswith("e_form: no intervals, as 20 rows are too few for 99%")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
