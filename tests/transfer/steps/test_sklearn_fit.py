"""A fit ends when its run is asked to end, and gives what the estimator alone gives."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from support import additive_gp

from tltool.interruption import RunThread, Terminated
from tltool.transfer.steps import sklearn_fit

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(60, 3))
VALUES = np.sin(INPUTS[:, 0]) + 0.1 * RNG.normal(size=60)
CLASSES = np.digitize(VALUES, [-0.4, 0.4])
KERNEL = ConstantKernel() * Matern(3.0, nu=1.5) + WhiteKernel(0.1)


def of_scikit_learn() -> None:
    sklearn_fit.fitted(GaussianProcessRegressor(KERNEL), INPUTS, VALUES)


def of_classes() -> None:
    sklearn_fit.fitted(GaussianProcessClassifier(ConstantKernel() * Matern()), INPUTS, CLASSES)


def additive() -> None:
    additive_gp().fitted(INPUTS, VALUES, {"one": 1, "two": 2})


@pytest.mark.parametrize("fit", [of_scikit_learn, of_classes, additive])
def test_the_fit_of_a_process_ends_when_its_run_is_asked_to_end(fit: Callable[[], None]) -> None:
    """Of a thread, which no signal reaches: as the folds of a cross-validation and the runs of a sweep."""
    ended: list[BaseException | None] = []

    def work() -> None:
        torch.set_num_threads(1)
        try:
            fit()
        except Terminated as error:
            ended.append(error)
        else:
            ended.append(None)

    thread = RunThread(target=work)
    thread.request = Terminated()
    thread.start()
    thread.join(60)
    assert ended == [thread.request]


@pytest.mark.parametrize("classes", [2, 3])
def test_a_classifier_is_that_of_scikit_learn_and_keeps_nothing_of_the_search(classes: int) -> None:
    labels = np.minimum(CLASSES, classes - 1)
    alone = GaussianProcessClassifier(ConstantKernel() * Matern(), random_state=0)
    made = sklearn_fit.fitted(alone, INPUTS, labels)
    np.testing.assert_array_equal(made.predict_proba(INPUTS), alone.fit(INPUTS, labels).predict_proba(INPUTS))
    parts = list(sklearn_fit._parts(made))
    assert len(parts) == (2 if classes == 2 else 6)
    assert {part.optimizer for part in parts if hasattr(part, "optimizer")} == {"fmin_l_bfgs_b"}


def test_a_regressor_is_that_of_scikit_learn() -> None:
    alone = GaussianProcessRegressor(KERNEL, random_state=0)
    made = sklearn_fit.fitted(alone, INPUTS, VALUES)
    np.testing.assert_array_equal(made.predict(INPUTS), alone.fit(INPUTS, VALUES).predict(INPUTS))
    assert made.optimizer == "fmin_l_bfgs_b"
