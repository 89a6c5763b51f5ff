from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate

import tltool
from tltool import TransferClassifier, TransferRegressor
from tltool.data.record import Crystal
from tltool.data.store import Store
from tltool.errors import ConfigError, DataError
from tltool.model.property_model import PropertyModel
from tltool.training.saved_model import checkpoint


@pytest.fixture(scope="module")
def folder(source: PropertyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("estimators") / "model"
    checkpoint.save(path, source)
    return path


@pytest.fixture(scope="module")
def rows(demo: Store) -> tuple[list[Crystal], np.ndarray]:
    """Eighty crystals with their formation energies."""
    at = list(range(0, len(demo), len(demo) // 80))[:80]
    return [demo.crystal(row) for row in at], demo.label("e_form")[at]


def a_regressor(folder: Path, **settings: object) -> TransferRegressor:
    return TransferRegressor(folder, kernels="torch", device="cpu", **settings)


@pytest.mark.parametrize("mode", ["features", "finetune", "scratch"])
def test_it_learns_and_its_model_can_be_loaded(
    mode: str, folder: Path, rows: tuple[list[Crystal], np.ndarray], tmp_path: Path
) -> None:
    crystals, labels = rows
    overrides = [] if mode == "features" else ["fit.epochs=20"]
    fitted = a_regressor(folder, mode=mode, overrides=overrides).fit(crystals, labels)
    predicted = fitted.predict(crystals)
    assert predicted.shape == labels.shape
    assert np.abs(predicted - labels).mean() < 0.8 * np.abs(labels - labels.mean()).mean()
    fitted.save(tmp_path / "model")
    again = tltool.load_model(tmp_path / "model", "cpu", kernels="torch").predict(crystals)
    assert np.allclose(again.prediction, predicted, atol=1e-5)


def test_scikit_learn_takes_it(folder: Path, rows: tuple[list[Crystal], np.ndarray]) -> None:
    crystals, labels = rows
    own = a_regressor(folder, overrides=["mode.level=0"])
    assert clone(own).get_params() == own.get_params()
    errors = -cross_val_score(own, crystals, labels, cv=2, scoring="neg_mean_absolute_error")
    assert errors.shape == (2,)
    assert errors.mean() < np.abs(labels - labels.mean()).mean()
    search = GridSearchCV(own, {"overrides": [["mode.level=0"], ["mode.level=trunk"]]}, cv=2).fit(crystals, labels)
    assert len(search.predict(crystals[:3])) == 3


def test_the_same_seed_gives_the_same_model(folder: Path, rows: tuple[list[Crystal], np.ndarray]) -> None:
    crystals, labels = rows
    first, again, other = (
        a_regressor(folder, seed=seed).fit(crystals, labels).predict(crystals[:9]) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_missing_labels_are_left_out(folder: Path, rows: tuple[list[Crystal], np.ndarray]) -> None:
    crystals, labels = rows
    holes = np.where(np.arange(len(labels)) % 2, labels, np.nan)
    own = a_regressor(folder, validation=0.0)
    kept = [crystal for n, crystal in enumerate(crystals) if n % 2]
    expected = clone(own).fit(kept, labels[1::2]).predict(crystals)
    # The rows are permuted otherwise; a ridge regression depends on that by rounding only.
    assert np.allclose(own.fit(crystals, holes).predict(crystals), expected, atol=1e-3)


def test_mistakes_are_said(folder: Path, rows: tuple[list[Crystal], np.ndarray]) -> None:
    crystals, labels = rows
    with pytest.raises(NotFittedError):
        a_regressor(folder).predict(crystals)
    with pytest.raises(DataError, match=r"structure 1: there is no file no\.cif"):
        a_regressor(folder).fit([crystals[0], "no.cif"], labels[:2])
    with pytest.raises(DataError, match="80 structures have labels of shape"):
        a_regressor(folder).fit(crystals, labels[:3])
    with pytest.raises(ConfigError, match=r"validation=1\.5"):
        a_regressor(folder, validation=1.5).fit(crystals, labels)
    with pytest.raises(ConfigError, match="finetun"):
        a_regressor(folder, mode="finetun").fit(crystals, labels)
    with pytest.raises(DataError, match="too few"):
        a_regressor(folder).fit(crystals[:2], [np.nan, np.nan])


def test_public_names_are_listed() -> None:
    assert {"load_model", "Predictor", "embed", "TransferClassifier", "TransferRegressor"} <= set(dir(tltool))


def a_classifier(folder: Path, **settings: object) -> TransferClassifier:
    return TransferClassifier(folder, kernels="torch", device="cpu", **settings)


@pytest.mark.parametrize("numbers", [True, False])
def test_classes_are_learnt_with_their_probabilities(
    numbers: bool, folder: Path, rows: tuple[list[Crystal], np.ndarray], tmp_path: Path
) -> None:
    """Labels may be words or numbers, and some may be missing."""
    crystals, energies = rows
    third = np.searchsorted(np.quantile(energies, [1 / 3, 2 / 3]), energies)
    words = np.array([30, 4, 5]) if numbers else np.array(["low, deep", "middle", "high"])
    labels = [None if n % 9 == 0 else words[k] for n, k in enumerate(third)]
    fitted = a_classifier(folder, quantity="depth").fit(crystals, labels)
    assert fitted.classes_.tolist() == sorted(words.tolist())
    likely = fitted.predict_proba(crystals)
    np.testing.assert_allclose(likely.sum(1), 1.0, atol=1e-5)
    said = fitted.predict(crystals)
    assert (said == fitted.classes_[likely.argmax(1)]).all()
    assert (said == words[third]).mean() > 0.6
    fitted.save(tmp_path / "model")
    again = tltool.load_model(tmp_path / "model", "cpu", kernels="torch").predict(crystals)
    assert again.prediction.tolist() == [str(word) for word in said]


def test_scikit_learn_takes_the_classifier(folder: Path, rows: tuple[list[Crystal], np.ndarray]) -> None:
    crystals, energies = rows
    labels = np.where(energies > np.median(energies), "high", "low")
    own = a_classifier(folder, overrides=["mode.level=0"])
    assert clone(own).get_params() == own.get_params()
    found = cross_validate(own, crystals, labels, cv=2, scoring=["accuracy", "roc_auc"])
    assert found["test_accuracy"].mean() > 0.6
    assert found["test_roc_auc"].mean() > 0.6
    search = GridSearchCV(own, {"overrides": [["mode.level=0"], ["mode.level=trunk"]]}, cv=2).fit(crystals, labels)
    assert search.predict_proba(crystals[:3]).shape == (3, 2)


def test_mistakes_about_classes_are_said(folder: Path, rows: tuple[list[Crystal], np.ndarray]) -> None:
    crystals, labels = rows
    with pytest.raises(NotFittedError):
        a_classifier(folder).predict(crystals)
    with pytest.raises(DataError, match="The labels have 1 class; give rows of two"):
        a_classifier(folder).fit(crystals, ["same"] * 80)
    with pytest.raises(ConfigError, match="classes must be a list of 2 to 100"):
        a_classifier(folder).fit([crystals[0]] * 120, [f"word {n}" for n in range(120)])
    with pytest.raises(ConfigError, match="quantity=is_metal is a class; use TransferClassifier"):
        a_regressor(folder, quantity="is_metal").fit(crystals, labels)


def test_a_quantity_that_does_not_ship_is_a_number(folder: Path, rows: tuple[list[Crystal], np.ndarray]) -> None:
    crystals, labels = rows
    own = a_regressor(folder, quantity="kappa").fit(crystals, labels)
    assert np.isfinite(own.predict(crystals)).all()
    assert own.model_.quantities == ["kappa"]
