"""Every mode and regressor learns a class: probabilities come out, and come back from the disk."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import ROOT, a_fit, batches_of, candidates, config

from tltool import instantiate
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.store import Store
from tltool.errors import ConfigError, InapplicableError
from tltool.model.property_model import PropertyModel
from tltool.quantities import as_text
from tltool.training.fit import predict
from tltool.training.saved_model import checkpoint
from tltool.transfer.steps import classifiers, cross_validation

MODES = [*sorted(p.stem for p in (ROOT / "configs" / "mode").glob("*.yaml")), "features/atom_set"]
REGRESSORS = sorted(p.stem for p in (ROOT / "configs" / "mode" / "regressor").glob("*.yaml"))
WITHOUT = {"kernel_ridge", "svr"}
"""Regressors that no classifier with probabilities stands for."""
DEFINE = {
    "bond": {"classes": ["ionic", "so, called", 'the "rest"']},
    "class": {"kind": "class", "classes": ["no", "yes"]},
}


def with_classes(part: Dataset) -> Dataset:
    """Return the data set with a class of three and one of two, by the number of its elements and its energy."""
    store = part.store
    several = [len(set(store.crystal(row).numbers.tolist())) for row in range(len(store))]
    labels = {"bond": np.clip(np.array(several) - 1, 0, 2).astype(float)}
    energy = store.label("e_form")
    labels["class"] = np.where(np.isfinite(energy), (energy > np.nanmedian(energy)).astype(float), np.nan)
    labels["bond"][::17] = np.nan
    own: Store = replace(
        store, labels={**store.labels, **labels}, attributes={**store.attributes, "define": as_text(DEFINE)}
    )
    return replace(part, store=own)


@pytest.fixture(scope="module")
def data(part: Dataset) -> dict[str, Batches]:
    own = with_classes(part)
    return {name: batches_of(own, (name,), seed=3, train_size=40) for name in DEFINE}


def run(mode: str, source: PropertyModel, data: Batches, *overrides: str, **keys) -> PropertyModel:
    mode, *regressor = mode.split("/")
    node = config("transfer", f"mode={mode}", *(f"mode/regressor={name}" for name in regressor), *overrides)["mode"]
    return instantiate.call(node, source, data, a_fit(**keys))


def saved(model: PropertyModel, data: Batches, tmp_path) -> PropertyModel:
    """Return the model as a file gives it back."""
    model.spec |= {"quantities": {name: DEFINE[name] for name in data.quantities}, "classified": list(data.quantities)}
    checkpoint.save(tmp_path / "model", model)
    return checkpoint.load(tmp_path / "model")


def require_probabilities(found: np.ndarray, classes: int) -> None:
    assert found.shape[1] == (classes if classes > 2 else 1)
    assert (found >= 0).all()
    assert (found <= 1).all()
    if classes > 2:
        np.testing.assert_allclose(found.sum(1), 1.0, atol=1e-5)
    assert found.std() > 0


@pytest.mark.parametrize(
    ("mode", "name"), [*((mode, "bond") for mode in MODES), ("finetune", "class"), ("lora", "class")]
)
def test_a_mode_gives_probabilities_that_survive_the_disk(
    mode: str, name: str, source: PropertyModel, data: dict[str, Batches], tmp_path
) -> None:
    keys = (
        ["mode.folds=2", *candidates("labels", "process", "ridge", "kernel_ridge", "finetune")]
        if mode == "auto"
        else []
    )
    model = run(mode, source, data[name], *keys)
    found = predict(model, data[name], "test")
    require_probabilities(found, len(DEFINE[name]["classes"]))
    np.testing.assert_allclose(predict(saved(model, data[name], tmp_path), data[name], "test"), found, atol=1e-5)


@pytest.mark.parametrize(
    ("regressor", "name"),
    [*((name, "bond") for name in REGRESSORS if name != "atom_set"), ("ridge", "class"), ("additive_gp", "class")],
)
def test_a_regressor_has_a_classifier_in_its_place_or_says_that_it_has_none(
    regressor: str, name: str, source: PropertyModel, data: dict[str, Batches], tmp_path
) -> None:
    more = {"random_forest": ["mode.regressor.n_estimators=20"], "gradient_boosting": ["mode.regressor.max_iter=5"]}
    if regressor in WITHOUT:
        with pytest.raises(InapplicableError, match="gives no probabilities of classes; use mode/regressor=ridge"):
            run(f"features/{regressor}", source, data[name])
        return
    model = run(f"features/{regressor}", source, data[name], *more.get(regressor, []))
    found = predict(model, data[name], "test")
    require_probabilities(found, len(DEFINE[name]["classes"]))
    np.testing.assert_allclose(predict(saved(model, data[name], tmp_path), data[name], "test"), found, atol=1e-5)


def test_training_lowers_the_cross_entropy_and_labels_are_learnt(
    source: PropertyModel, data: dict[str, Batches]
) -> None:
    """The number of elements can be read off the features, so that hardly a training row is wrong."""
    target, at = data["bond"], slice(0, 3)
    known = torch.isfinite(target.labels[target.split["train"], 0]).numpy()
    label = target.labels[target.split["train"]].numpy()[known, at]
    before, after = (
        predict(run("finetune", source, target, epochs=n, select="last", ema=0.0), replace_test(target), "test")[known]
        for n in (0, 40)
    )
    entropy = [float(-np.log((found * label).sum(1)).mean()) for found in (before, after)]
    assert entropy[1] < 0.5 * entropy[0]
    assert (after.argmax(1) == label.argmax(1)).mean() > 0.9


def replace_test(data: Batches) -> Batches:
    return replace(data, split={**data.split, "test": data.split["train"]})


def test_a_class_and_a_number_are_learnt_together(source: PropertyModel, part: Dataset, tmp_path) -> None:
    data = batches_of(with_classes(part), ("e_above_hull", "bond", "class"), seed=3, train_size=40)
    assert data.columns == {"e_above_hull": slice(0, 1), "bond": slice(1, 4), "class": slice(4, 5)}
    for mode in ("finetune", "features"):
        model = run(mode, source, data)
        found = predict(model, data, "test")
        require_probabilities(found[:, 1:4], 3)
        require_probabilities(found[:, 4:], 2)
    balanced = run("finetune", source, data, loss_balance="uncertainty")
    assert np.isfinite(predict(balanced, data, "test")).all()


@pytest.mark.parametrize("regressor", ["ridge", "additive_gp", "random_forest"])
def test_classes_without_a_training_row(
    regressor: str, source: PropertyModel, data: dict[str, Batches], tmp_path
) -> None:
    """A label that only test rows have gets hardly a probability; one class alone gets nearly all of it."""
    target = data["bond"]
    rows = target.split["train"]
    label = target.labels[rows]
    for allowed, wanted in (((0, 1), 2), ((1,), 0)):
        kept = rows[torch.stack([label[:, k] == 1 for k in allowed]).any(0)]
        model = run(f"features/{regressor}", source, replace(target, split={**target.split, "train": kept}))
        found = predict(model, target, "test")
        assert np.isfinite(found).all()
        assert found[:, wanted].max() < 0.05
        if len(allowed) == 1:
            assert found[:, 1].min() > 0.9


def test_a_classifier_of_the_user_and_none_for_a_number(
    source: PropertyModel, data: dict[str, Batches], part: Dataset
) -> None:
    keys = ["~mode.regressor.alphas", "mode.regressor._target_=sklearn.linear_model.LogisticRegression"]
    model = run("features", source, data["bond"], *keys)
    assert isinstance(model.heads["bond"], torch.nn.Linear)
    with pytest.raises(InapplicableError, match="LogisticRegression is a classifier, and e_above_hull is a number"):
        run("features", source, batches_of(part, ("e_above_hull",), seed=3, train_size=40), *keys)


def test_the_head_of_a_class_is_kept_for_the_same_classes_alone(
    source: PropertyModel, data: dict[str, Batches]
) -> None:
    first = run("finetune", source, data["bond"])
    again = run("finetune", first, data["bond"], "mode.head=keep", epochs=0)
    assert (predict(again, data["bond"], "test") == predict(first, data["bond"], "test")).all()
    with pytest.raises(ConfigError, match=r'head=keep: the source\'s bond is ionic, so, called, the "rest", and class'):
        run("finetune", first, data["class"], "mode.head=keep")
    with pytest.raises(ConfigError, match=r"head=keep: the source's e_form is a number, and class is no, yes"):
        run("finetune", source, data["class"], "mode.head=keep")
    with pytest.raises(InapplicableError, match="this source predicts classes; use trunk"):
        run("features", first, data["class"], "mode.extra_features=[labels]")


def test_the_mean_predictor_is_the_unit_of_the_choice(data: dict[str, Batches]) -> None:
    target = data["bond"]
    labels = target.labels[target.split["train"]].double().numpy()
    known = np.isfinite(labels[:, 0])
    shares = np.where(known[:, None], labels[known].mean(0), np.nan)
    errors = cross_validation.row_errors(np.nan_to_num(shares), target)
    assert errors[known].mean() == pytest.approx(1.0)
    assert (errors[~known] == 0).all()
    assert cross_validation.row_errors(np.nan_to_num(labels), target).max() == 0


def test_rows_of_a_process_are_drawn_and_said() -> None:
    """Rows that are sorted by their class must not leave a class out."""
    said: list[str] = []
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 120)
    inputs = rng.normal(size=(360, 3)) + labels[:, None]
    forest = type("AdditiveGP", (), {"random_state": 0})()
    head = classifiers.fitted_head(forest, inputs, labels, 3, said.append)
    assert "takes 300 of 360 training rows" in said[0]
    found = head(torch.from_numpy(inputs)).argmax(1).numpy()
    assert (found == labels).mean() > 0.7
