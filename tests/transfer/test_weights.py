"""A weight of two is the row twice, where that is exact; the label of a row with hardly any weight has no effect."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import ROOT, a_fit, batches_of, config

from tltool import instantiate
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.errors import ConfigError, InapplicableError
from tltool.model.property_model import PropertyModel
from tltool.model.scaler import Scaler
from tltool.training.fit import predict
from tltool.training.scaled_labels import label_weights

REGRESSORS = sorted(p.stem for p in (ROOT / "configs" / "mode" / "regressor").glob("*.yaml"))
MODES = sorted(p.stem for p in (ROOT / "configs" / "mode").glob("*.yaml") if p.stem != "auto")
ONE_PENALTY = "mode.regressor.alphas=[1.0]"
QUICK = {
    "random_forest": ["mode.regressor.n_estimators=10"],
    "gradient_boosting": ["mode.regressor.max_iter=5"],
    "additive_gp": ["mode.regressor.members=1", "mode.regressor.tail=null"],
}
HARDLY = 1e-9


def run(mode: str, source: PropertyModel, data: Batches, *overrides: str, **keys) -> np.ndarray:
    mode, *regressor = mode.split("/")
    node = config("transfer", f"mode={mode}", *(f"mode/regressor={name}" for name in regressor), *overrides)["mode"]
    return predict(instantiate.call(node, source, data, a_fit(**keys)), data, "test")


@pytest.fixture(scope="module")
def data(part: Dataset) -> Batches:
    return batches_of(part, seed=3, train_size=40)


def weighted(data: Batches, at: slice, weight: float, labels: float = 0.0) -> Batches:
    """Return ``data`` with the ``weight`` of some training rows, and their labels changed by ``labels``."""
    rows = data.split["train"][at]
    weights, changed = torch.ones(len(data.labels)), data.labels.clone()
    weights[rows] = weight
    changed[rows] += labels
    return replace(data, weight=weights, labels=changed)


@pytest.mark.parametrize(
    ("mode", "keys"),
    [
        ("features/ridge", [ONE_PENALTY]),
        ("features/ridge", [ONE_PENALTY, "mode.level=trunk"]),
        ("features/kernel_ridge", []),
    ],
)
def test_a_weight_of_two_is_the_row_twice(mode: str, keys: list[str], source: PropertyModel, data: Batches) -> None:
    rows = data.split["train"]
    twice = replace(data, split={**data.split, "train": torch.cat([rows, rows[:10]])})
    found = run(mode, source, weighted(data, slice(0, 10), 2.0), *keys)
    np.testing.assert_allclose(found, run(mode, source, twice, *keys), atol=2e-4 * data.labels.nan_to_num().std())
    assert np.abs(found - run(mode, source, data, *keys)).max() > 1e-3


@pytest.mark.parametrize("mode", [m for m in MODES if m != "features"] + [f"features/{name}" for name in REGRESSORS])
def test_the_label_of_a_row_with_hardly_any_weight_has_no_effect(
    mode: str, source: PropertyModel, data: Batches
) -> None:
    more = QUICK.get(mode.rpartition("/")[2], [])
    pair = [run(mode, source, weighted(data, slice(0, 5), HARDLY, by), *more, batch_size=20) for by in (0.0, 3.0)]
    full = run(mode, source, weighted(data, slice(0, 5), 1.0, 3.0), *more, batch_size=20)
    scale = float(data.labels.nan_to_num().std())
    effect = np.abs(full - pair[0]).max()
    assert effect > 1e-2 * scale
    assert np.abs(pair[0] - pair[1]).max() < 0.02 * effect


def test_the_uncertainty_of_a_label_counts_by_its_inverse_square(data: Batches) -> None:
    """Of a logarithm the relative one; on average over the training rows the weight is 1."""
    rows = data.split["train"]
    deviation = torch.linspace(0.1, 1.0, len(data.labels))
    positive = replace(data, labels=data.labels.abs() + 1.0, deviation=deviation)
    plain = label_weights(positive, {"e_form": Scaler()})[rows, 0]
    assert float(plain.mean()) == pytest.approx(1.0, rel=1e-5)
    torch.testing.assert_close(plain / plain[0], (deviation[rows[0]] / deviation[rows]) ** 2)
    relative = deviation[rows] / positive.labels[rows, 0]
    logs = label_weights(positive, {"e_form": Scaler(True)})[rows, 0]
    torch.testing.assert_close(logs / logs[0], (relative[0] / relative) ** 2)
    assert label_weights(data, {"e_form": Scaler()}) is None


def test_what_cannot_count_rows_differently_says_so(source: PropertyModel, data: Batches) -> None:
    of_class = replace(
        data, quantities=("is_metal",), labels=(data.labels > data.labels.nanmedian()).to(data.labels.dtype)
    )
    with pytest.raises(InapplicableError, match="GaussianProcessClassifier counts every row equally"):
        run("features/additive_gp", source, weighted(of_class, slice(0, 5), 2.0))
    with pytest.raises(ConfigError, match="is_metal is a class, which has no uncertainty"):
        run("features", source, replace(of_class, deviation=torch.ones(len(data.labels))))
    pair = [run("features", source, weighted(of_class, slice(0, 20), weight)) for weight in (1.0, 100.0)]
    assert np.abs(pair[0] - pair[1]).max() > 1e-2
