import csv
import json
from pathlib import Path

import numpy as np
import pytest
from commands import run
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as scores
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from tltool import metrics
from tltool.metrics import Metric, Rows, measure, whole
from tltool.quantities import Quantities, table_of


def test_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    label, prediction = rng.normal(size=50), rng.normal(size=50)
    found = measure("e_form", label, prediction, 0.3)
    assert found["MAE"] == pytest.approx(mean_absolute_error(label, prediction))
    assert found["RMSE"] == pytest.approx(root_mean_squared_error(label, prediction))
    assert found["R2"] == pytest.approx(r2_score(label, prediction))
    assert found["MAD"] == pytest.approx(np.abs(label - 0.3).mean())
    assert found["MAE/MAD"] == pytest.approx(found["MAE"] / found["MAD"])


def test_logarithms_absent_labels_and_empty_sets() -> None:
    label, prediction = np.array([2.0, np.nan, 1.0]), np.array([1.0, 5.0, 1.0])
    found = measure("log10_K_VRH", label, prediction, 1.5)
    assert found["n"] == 2
    assert found["MAE_K_VRH"] == pytest.approx(45.0)
    other = measure("log10_K_VRH", np.array([2.0, 1.0]), np.array([1.0, 2.0]), 1.5)
    assert other["MAE_K_VRH"] == pytest.approx(90.0)
    assert measure("gap", np.array([np.nan]), np.array([1.0]), 0.0) == {"n": 0}
    assert np.isnan(measure("gap", np.array([1.0]), np.array([1.0]), 1.0)["R2"])


def test_classes_against_counts() -> None:
    label = np.array([1.0, 1.0, 1.0, 0.0, np.nan])
    found = measure("is_metal", label, np.array([0.9, 0.5, 0.2, 0.3, 0.0]), 0.5)
    assert found["accuracy"] == pytest.approx(3 / 4)
    assert found["balanced accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["F1"] == pytest.approx((2 * 1.0 * (2 / 3) / (1.0 + 2 / 3) + 2 * 0.5 / 1.5) / 2)
    assert found["Brier"] == pytest.approx((0.1**2 + 0.5**2 + 0.8**2 + 0.3**2) / 4)
    assert found["Brier of shares"] == pytest.approx(0.25)
    assert found["accuracy of most frequent"] == pytest.approx(1 / 4)  # of two alike, the first
    assert found["confusion"] == [[1, 0], [1, 2]]
    assert found["ROC-AUC"] == pytest.approx(2 / 3)  # of three pairs, two are in order
    assert not found.keys() & {"MAE_is_metal"}
    one = measure("is_metal", np.zeros(2), np.array([0.1, 0.7]), 0.5)
    assert one["accuracy"] == 0.5
    assert np.isnan([one["balanced accuracy"], one["ROC-AUC"]]).all()
    assert "accuracy" not in measure("gap", np.zeros(2), np.ones(2), 0.5)


def test_of_a_class_numbers_that_are_none_leave_what_needs_an_order_unknown() -> None:
    label = np.array([1.0, 0.0, 1.0])
    found = measure("is_metal", label, np.array([np.nan, 0.2, 0.9]), 0.5)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert np.isnan(found["ROC-AUC"])
    none = measure("is_metal", np.zeros(3), np.array([0.1, 0.2, 0.3]), 0.5)
    assert none["F1"] == 1.0
    assert [name for name in none if "accuracy" in name] == [
        "accuracy",
        "accuracy of most frequent",
        "balanced accuracy",
    ]


def several() -> tuple[Quantities, np.ndarray, np.ndarray]:
    """Return a class of three, labels and probabilities."""
    known = table_of({"phase": {"classes": ["a", "b", "c"]}})
    rng = np.random.default_rng(0)
    place = rng.integers(0, 3, 60)
    label = np.eye(3)[place]
    prediction = rng.dirichlet([1, 1, 1], 60) * 0.5 + 0.5 * np.eye(3)[rng.permuted(place)]
    return known, label, prediction


def test_several_classes_against_scikit_learn() -> None:
    known, label, prediction = several()
    given = np.concatenate([label, [[np.nan] * 3]])
    found = measure("phase", given, np.concatenate([prediction, [[1, 0, 0]]]), np.array([0.2, 0.5, 0.3]), known)
    y, said = label.argmax(1), prediction.argmax(1)
    assert found["n"] == 60
    assert found["accuracy"] == pytest.approx(scores.accuracy_score(y, said))
    assert found["balanced accuracy"] == pytest.approx(scores.balanced_accuracy_score(y, said))
    assert found["F1"] == pytest.approx(scores.f1_score(y, said, average="macro"))
    assert found["ROC-AUC"] == pytest.approx(scores.roc_auc_score(y, prediction, multi_class="ovr"))
    assert found["cross-entropy"] == pytest.approx(scores.log_loss(y, prediction))
    assert found["confusion"] == scores.confusion_matrix(y, said).tolist()
    assert found["Brier"] == pytest.approx(((prediction - label) ** 2).sum(1).mean() / 2)
    assert found["Brier/shares"] == pytest.approx(found["Brier"] / found["Brier of shares"])
    assert found["accuracy of most frequent"] == pytest.approx((y == 1).mean())
    assert sum(one["n"] for one in found["calibration"]) == 180
    assert measure("phase", label * np.nan, prediction, np.ones(3) / 3, known) == {"n": 0}


@given(st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3), st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3))
def test_the_brier_score_is_proper(true: list[float], told: list[float]) -> None:
    """No other probabilities are expected to score better than the true ones."""
    p, q = np.array(true) / sum(true), np.array(told) / sum(told)
    expected = [float(p @ metrics.brier(np.broadcast_to(one, (3, 3)), np.eye(3))) for one in (p, q)]
    assert expected[0] <= expected[1] + 1e-12


def test_two_columns_and_one_are_the_same_score() -> None:
    one, label = np.array([[0.2], [0.9]]), np.array([[0.0], [0.0]])
    np.testing.assert_allclose(metrics.brier(one, label), metrics.brier(whole(one), whole(label)))


def test_the_error_of_predicting_the_mean_of_the_training_rows_is_the_unit_of_errors() -> None:
    found = measure("gap", np.array([1.0, 3.0]), np.array([2.0, 2.0]), 0.0)
    assert found == {"n": 2, "MAE": 1.0, "RMSE": 1.0, "R2": 0.0, "MAD": 2.0, "MAE/MAD": 0.5}
    flat = measure("gap", np.array([1.0, 1.0]), np.array([1.0, 2.0]), 1.0)
    assert np.isnan([flat["R2"], flat["MAE/MAD"]]).all()
    assert flat["MAD"] == 0.0


def test_a_metric_that_is_added_to_the_table_shows_up_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def within(rows: Rows) -> float:
        return float((np.abs(rows.prediction - rows.label) <= 1.0).mean())

    def largest(rows: Rows) -> float:
        return float(np.abs(rows.prediction - rows.label).max())

    added = (
        Metric("within 1", within, "larger", style=".1%", kind="number"),
        Metric("largest error", largest, "smaller", has_unit=True),
        Metric("of classes", within, "larger", kind="class"),
    )
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, *added))
    short = ["fit.epochs=1", "split.train_size=40", "split.val=0.05", "split.test=0.05", "overlap=none"]
    short += ["threads=1", "device=cpu"]
    run(tmp_path, "pretrain", *short)
    done = run(tmp_path, "transfer", "mode=scratch", *short)

    (file,) = tmp_path.glob("runs/transfer/*/metrics.json")
    found = json.loads(file.read_text())["quantities"]["log10_K_VRH"]["test"]
    rows = [
        row
        for row in csv.DictReader(file.with_name("predictions.csv").read_text().splitlines())
        if row["split"] == "test"
    ]
    errors = np.array([abs(float(row["prediction"]) - float(row["label"])) for row in rows])
    assert found["largest error"] == pytest.approx(errors.max())
    assert found["within 1"] == pytest.approx((errors <= 1.0).mean())
    assert "of classes" not in found

    shown = f"{found['within 1']:.1%}"
    (row,) = [line for line in done.stdout.splitlines() if "│ log10_K_VRH │" in line]
    assert [cell.strip() for cell in row.split("│")][-3:-1] == [shown, f"{found['largest error']:.4g}"]
    assert "of classes" not in done.stdout

    run(tmp_path, "report")
    (file,) = tmp_path.glob("runs/report/*/report/report.md")
    page = file.read_text()
    assert "| within 1 | largest error (log10(GPa)) |" in page  # the modes beside each other
    assert "| test within 1 | test largest error |" in page  # the list of runs
    assert len([line for line in page.splitlines() if "| scratch |" in line and f"| {shown} |" in line]) == 2
    assert "Smaller is better for MAE, RMSE, MAE/MAD, largest error. Larger is better for R2, within 1." in page
    assert "of classes" not in page


@pytest.mark.parametrize("metric", metrics.METRICS, ids=lambda metric: metric.name)
def test_a_metric_says_the_truth_about_itself(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 50).astype(float)
    good = np.abs(label - rng.uniform(0, 0.45, 50))
    bad = 1.0 - good
    sides = (lambda column: whole(column[:, None])) if metric.kind == "class" else (lambda column: column)
    mean = np.array([0.6, 0.4]) if metric.kind == "class" else 0.4
    better, worse = (metric.of(Rows(sides(label), sides(prediction), mean)) for prediction in (good, bad))
    assert {"smaller": better < worse, "larger": better > worse, "": better == worse}[metric.better]
    if metric.kind != "class":
        # In a unit that is a hundred times smaller, the number of what has a unit is a hundred times larger.
        scaled = metric.of(Rows(100 * label, 100 * good, 40.0))
        assert (scaled == pytest.approx(100 * better)) == metric.has_unit
