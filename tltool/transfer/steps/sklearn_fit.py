"""Fit an estimator of scikit-learn so that an interruption ends the fit, not only what comes after it."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tltool import interruption
from tltool.transfer.steps import weighted

Floats = npt.NDArray[np.float64]
_OWN_OPTIMISER = "fmin_l_bfgs_b"
"""What Gaussian processes of scikit-learn call the optimiser that they come with."""


def fitted(estimator: Any, inputs: Floats, labels: npt.NDArray[Any], counts: Floats | None = None) -> Any:
    """Return a copy of ``estimator`` fitted to ``labels`` (n,) of ``inputs`` (n, f); rows count as in ``weighted``.

    The search of a Gaussian process ends at the next value of its likelihood when the run was asked to end.
    """
    from sklearn.base import clone
    from sklearn.exceptions import ConvergenceWarning

    made = clone(estimator)
    searches = getattr(made, "optimizer", None) == _OWN_OPTIMISER
    if searches:
        made.set_params(optimizer=_searched)
    with warnings.catch_warnings():
        # A kernel's parameter that ends at its bound is no fault, nor are weights that go on growing in separable data.
        warnings.simplefilter("ignore", ConvergenceWarning)
        weighted.fit(made, inputs, labels, counts)
    for part in _parts(made) if searches else ():
        part.optimizer = _OWN_OPTIMISER
    return made


def _searched(
    negative: Callable[[Floats], tuple[float, Floats]], initial_theta: Floats, bounds: Sequence[tuple[float, float]]
) -> tuple[Floats, float]:
    """Search as ``fmin_l_bfgs_b`` of scikit-learn does; return the logarithms of the parameters and their value."""
    from scipy.optimize import minimize

    def checked(theta: Floats) -> tuple[float, Floats]:
        interruption.check()
        return negative(theta)

    found = minimize(checked, initial_theta, method="L-BFGS-B", jac=True, bounds=bounds)
    return found.x, float(found.fun)


def _parts(process: Any) -> Iterator[Any]:
    """Yield a fitted Gaussian process and those that it consists of, which have parameters of their own."""
    yield process
    inner = getattr(process, "base_estimator_", None)
    if inner is not None:
        yield inner
        yield from getattr(inner, "estimators_", ())
        if hasattr(inner, "estimator"):
            yield inner.estimator
