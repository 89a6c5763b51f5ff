"""Fit estimators of scikit-learn to rows that count differently. Sizes: r rows, f features."""

from typing import Any

from tltool.data.record import Floats
from tltool.errors import InapplicableError

_PROCESS = "GaussianProcessRegressor"
_LEAST = 1e-10
_TIMES = 2


def takes(estimator: Any) -> bool:
    """Say whether ``estimator`` can count rows differently."""
    from sklearn.utils.validation import has_fit_parameter

    return type(estimator).__name__ == _PROCESS or bool(has_fit_parameter(estimator, "sample_weight"))


def require(estimator: Any, counts: Floats | None) -> None:
    """Raise InapplicableError if there are ``counts`` of rows and ``estimator`` counts all rows equally."""
    if counts is not None and not takes(estimator):
        raise InapplicableError(
            f"mode.regressor: {type(estimator).__name__} counts every row equally, and data.weight or data.uncertainty "
            "says otherwise; use mode/regressor=ridge, or leave the weights out."
        )


def fit(estimator: Any, inputs: Floats, goals: Any, counts: Floats | None) -> Any:
    """Return ``estimator`` fitted to ``goals`` (r,) of ``inputs`` (r, f), which count ``counts`` (r,); None: equally.

    A Gaussian process has the variance of its noise divided by the counts. Raise InapplicableError for an estimator
    that counts every row equally.
    """
    if counts is None:
        return estimator.fit(inputs, goals)
    require(estimator, counts)
    if type(estimator).__name__ == _PROCESS:
        return _process(estimator, inputs, goals, counts)
    return estimator.fit(inputs, goals, sample_weight=counts)


def _process(estimator: Any, inputs: Floats, goals: Any, counts: Floats) -> Any:
    """Return a Gaussian process whose noise falls with the counts.

    The white noise of the kernel is that of the row that counts most, and what others have more is ``alpha``: first by
    the white noise that the kernel starts from, then by that of the fit. ``goals`` are scaled by the counts already.
    """
    kernel = estimator.kernel
    levels = [] if kernel is None else [name for name in kernel.get_params() if name.endswith("noise_level")]
    if not levels:
        raise InapplicableError(
            "mode.regressor: the kernel of the Gaussian process has no WhiteKernel, whose noise rows could count by; "
            "use mode/regressor=additive_gp."
        )
    estimator.set_params(normalize_y=False)
    for _ in range(_TIMES):
        white = sum(float(kernel.get_params()[name]) for name in levels)
        further = white * (counts.max() / counts - 1.0)
        kernel = estimator.set_params(alpha=_LEAST + further).fit(inputs, goals).kernel_
    return estimator
