"""Classifiers of scikit-learn as heads for quantities that are classes: a regressor's counterpart, fitted to classes.

The configured regressor says which kind of estimator is meant; ``COUNTERPARTS`` lists what stands for it where the
labels are classes. Sizes: r training rows, f features, k classes.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from tltool import metrics
from tltool.data.record import Floats, Ints
from tltool.errors import InapplicableError
from tltool.model.sklearn_head import ClassifierHead, probabilities
from tltool.transfer.steps import sklearn_fit, weighted

COUNTERPARTS = {
    "Ridge": "LogisticRegression",
    "RidgeCV": "LogisticRegression",
    "LogisticRegression": "LogisticRegression",
    "AdditiveGP": "GaussianProcessClassifier",
    "GaussianProcessRegressor": "GaussianProcessClassifier",
    "RandomForestRegressor": "RandomForestClassifier",
    "HistGradientBoostingRegressor": "HistGradientBoostingClassifier",
}
"""What stands for a regressor where the labels are classes."""

_MOST_PROCESS_ROWS = 300
_FOLDS = 5
_FEWEST = 1e-6
Say = Callable[[str], None]


def fitted_head(
    regressor: Any, inputs: Floats, labels: Ints, n_classes: int, say: Say, counts: Floats | None = None
) -> nn.Module:
    """Return a head with log-odds (two classes) or logarithms of probabilities: a classifier fitted to ``labels`` (r,).

    ``inputs`` (r, f) are standardised; ``labels`` are the numbers of classes, 0 to ``n_classes`` - 1, some of which may
    have no row. ``counts`` (r,) says how much each row counts, None for equally much. Raise InapplicableError for a
    regressor that has no counterpart, and for one that cannot count rows differently.
    """
    made = _classifier(regressor, inputs.shape[1])
    if len(np.unique(labels)) < 2:
        return _constant(labels, inputs.shape[1], n_classes)
    if isinstance(made, list):
        return _linear(_best(made, inputs, labels, n_classes, counts), inputs.shape[1], n_classes)
    weighted.require(made, counts)
    if _name(made) == "GaussianProcessClassifier" and len(inputs) > _MOST_PROCESS_ROWS:
        say(f"The Gaussian process classifier takes {_MOST_PROCESS_ROWS} of {len(inputs):,} training rows.")
        drawn = np.random.default_rng(made.random_state or 0).permutation(len(inputs))[:_MOST_PROCESS_ROWS]
        inputs, labels = inputs[drawn], labels[drawn]
        if len(np.unique(labels)) < 2:
            return _constant(labels, inputs.shape[1], n_classes)
    fitted = sklearn_fit.fitted(made, inputs, labels, counts)
    if _name(made) == "LogisticRegression":
        return _linear(fitted, inputs.shape[1], n_classes)
    return ClassifierHead(fitted, n_classes)


def require_regressor(regressor: Any, name: str) -> None:
    """Raise InapplicableError for a classifier where the quantity ``name`` is a number."""
    if hasattr(regressor, "predict_proba"):
        raise InapplicableError(
            f"mode.regressor: {_name(regressor)} is a classifier, and {name} is a number; use a regressor, such as "
            "mode/regressor=ridge."
        )


def _classifier(regressor: Any, width: int) -> Any:
    """Return an unfitted classifier for ``width`` features, or a list of them to choose from."""
    if hasattr(regressor, "predict_proba"):
        return regressor
    name = _name(regressor)
    if COUNTERPARTS.get(name) == "LogisticRegression":
        from sklearn.linear_model import LogisticRegression

        alphas = np.atleast_1d(regressor.alphas if name == "RidgeCV" else regressor.alpha)
        # With fewer rows than features, newton-cg takes about half the time of lbfgs, and ends nearer the optimum.
        return [
            LogisticRegression(C=1 / alpha, max_iter=1000, solver="newton-cg") for alpha in sorted(alphas, reverse=True)
        ]
    if COUNTERPARTS.get(name) == "GaussianProcessClassifier":
        from sklearn.gaussian_process import GaussianProcessClassifier
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern

        length = float(np.sqrt(width))
        kernel = ConstantKernel(1.0, (1e-2, 1e3)) * Matern(length, (length / 30, length * 300), nu=2.5)
        return GaussianProcessClassifier(kernel, random_state=regressor.random_state)
    if name in COUNTERPARTS:
        from sklearn import ensemble

        made = getattr(ensemble, COUNTERPARTS[name])()
        usual, other = type(regressor)().get_params(), made.get_params().keys() - {"criterion", "loss", "quantile"}
        given = {key: value for key, value in regressor.get_params().items() if key in other}
        return made.set_params(**{key: value for key, value in given.items() if value != usual[key]})
    raise InapplicableError(
        f"mode.regressor: {name} gives no probabilities of classes; use mode/regressor=ridge, gaussian_process, "
        "additive_gp, random_forest or gradient_boosting, or a classifier of scikit-learn that gives them."
    )


def _name(estimator: Any) -> str:
    return type(estimator).__name__


def _best(estimators: Sequence[Any], inputs: Floats, labels: Ints, n_classes: int, counts: Floats | None) -> Any:
    """Return the logistic regression with the smallest Brier score in stratified cross-validation, of all rows."""
    from sklearn.base import clone
    from sklearn.exceptions import ConvergenceWarning

    fold = np.empty(len(labels), dtype=np.int64)
    fold[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % _FOLDS
    label = (labels[:, None] == np.arange(n_classes)).astype(np.float64)
    errors = np.zeros(len(estimators))
    for held in (fold == k for k in range(_FOLDS)):
        if len(np.unique(labels[~held])) < 2 or not held.any():
            continue
        # The weights for one penalty are near those for the next.
        warm = clone(estimators[0]).set_params(warm_start=True)
        for k, estimator in enumerate(estimators):
            warm.set_params(C=estimator.C)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                weighted.fit(warm, inputs[~held], labels[~held], None if counts is None else counts[~held])
            brier = metrics.brier(probabilities(warm, inputs[held], n_classes), label[held])
            errors[k] += float(brier.sum() if counts is None else counts[held] @ brier)
    return sklearn_fit.fitted(estimators[int(np.argmin(errors))], inputs, labels, counts)


def _linear(fitted: Any, width: int, n_classes: int) -> nn.Module:
    """Return a fitted logistic regression as a linear map: of log-odds, or of logarithms for each class."""
    weight, bias = np.atleast_2d(fitted.coef_), np.atleast_1d(fitted.intercept_)
    if n_classes > 2:
        there = np.asarray(fitted.classes_, dtype=np.int64)
        if len(there) == 2:
            weight, bias = np.stack([0 * weight[0], weight[0]]), np.array([0.0, bias[0]])
        whole, floor = np.zeros((n_classes, width)), np.full(n_classes, float(np.log(_FEWEST)))
        whole[there], floor[there] = weight, bias
        weight, bias = whole, floor
    return _map(weight, bias)


def _constant(labels: Ints, width: int, n_classes: int) -> nn.Module:
    """Return a head that gives every crystal the shares of the classes among the ``labels``."""
    shares = np.clip(np.bincount(labels, minlength=n_classes) / len(labels), _FEWEST, 1 - _FEWEST)
    logs = np.log(shares)
    bias = logs if n_classes > 2 else logs[1:] - logs[:1]
    return _map(np.zeros((len(bias), width)), bias)


def _map(weight: Floats, bias: Floats) -> nn.Module:
    head = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    return head
