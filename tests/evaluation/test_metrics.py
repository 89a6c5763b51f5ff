import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from tltool.evaluation.metrics import metrics


def test_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    label, prediction = rng.normal(size=50), rng.normal(size=50)
    found = metrics("e_form", label, prediction, 0.3)
    assert found["MAE"] == pytest.approx(mean_absolute_error(label, prediction))
    assert found["RMSE"] == pytest.approx(root_mean_squared_error(label, prediction))
    assert found["R2"] == pytest.approx(r2_score(label, prediction))
    assert found["MAD"] == pytest.approx(np.abs(label - 0.3).mean())
    assert found["MAE/MAD"] == pytest.approx(found["MAE"] / found["MAD"])


def test_logarithms_absent_labels_and_empty_sets() -> None:
    label, prediction = np.array([2.0, np.nan, 1.0]), np.array([1.0, 5.0, 1.0])
    found = metrics("log10_K_VRH", label, prediction, 1.5)
    assert found["n"] == 2
    assert found["MAE_K_VRH"] == pytest.approx(45.0)
    other = metrics("log10_K_VRH", np.array([2.0, 1.0]), np.array([1.0, 2.0]), 1.5)
    assert other["MAE_K_VRH"] == pytest.approx(90.0)
    assert metrics("gap", np.array([np.nan]), np.array([1.0]), 0.0) == {"n": 0}
    assert np.isnan(metrics("gap", np.array([1.0]), np.array([1.0]), 1.0)["R2"])


def test_classes_against_counts() -> None:
    label = np.array([1.0, 1.0, 1.0, 0.0, np.nan])
    found = metrics("is_metal", label, np.array([0.9, 0.5, 0.2, 0.3, 0.0]), 0.5)
    assert found["accuracy"] == pytest.approx(3 / 4)
    assert found["balanced accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["F1"] == pytest.approx(2 * 1.0 * (2 / 3) / (1.0 + 2 / 3))
    assert found["ROC-AUC"] == pytest.approx(2 / 3)  # of three pairs, two are in order
    assert not found.keys() & {"MAE_is_metal"}
    one = metrics("is_metal", np.zeros(2), np.array([0.1, 0.7]), 0.5)
    assert one["accuracy"] == 0.5
    assert np.isnan([one["balanced accuracy"], one["ROC-AUC"]]).all()
    assert "accuracy" not in metrics("gap", np.zeros(2), np.ones(2), 0.5)


def test_of_a_class_numbers_that_are_none_leave_what_needs_an_order_unknown() -> None:
    label = np.array([1.0, 0.0, 1.0])
    found = metrics("is_metal", label, np.array([np.nan, 0.2, 0.9]), 0.5)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["F1"] == pytest.approx(2 / 3)
    assert np.isnan([found["balanced accuracy"], found["ROC-AUC"]]).all()
    none = metrics("is_metal", np.zeros(3), np.array([0.1, 0.2, 0.3]), 0.5)
    assert none["F1"] == 0.0
    assert list(none)[-4:] == ["accuracy", "balanced accuracy", "F1", "ROC-AUC"]


def test_the_error_of_predicting_the_mean_of_the_training_rows_is_the_unit_of_errors() -> None:
    found = metrics("gap", np.array([1.0, 3.0]), np.array([2.0, 2.0]), 0.0)
    assert found == {"n": 2, "MAE": 1.0, "RMSE": 1.0, "R2": 0.0, "MAD": 2.0, "MAE/MAD": 0.5}
    flat = metrics("gap", np.array([1.0, 1.0]), np.array([1.0, 2.0]), 1.0)
    assert np.isnan([flat["R2"], flat["MAE/MAD"]]).all()
    assert flat["MAD"] == 0.0
