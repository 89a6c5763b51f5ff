"""Save and load an estimator of scikit-learn in the format of skops, which holds no pickle."""

from pathlib import Path
from typing import Any

from torch import nn

from tltool.errors import CheckpointError
from tltool.model.scaler import ClassScaler
from tltool.model.sklearn_head import ClassifierHead, EstimatorHead

_TRUSTED = frozenset(
    {
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.CompoundKernel",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.DotProduct",
        "sklearn.gaussian_process.kernels.ExpSineSquared",
        "sklearn.gaussian_process.kernels.Exponentiation",
        "sklearn.gaussian_process.kernels.Matern",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.RationalQuadratic",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.tree._tree.Tree",
    }
)
"""What an estimator of scikit-learn may hold beside what skops knows to be harmless; no function is among it."""


def save(file: Path, estimator: Any) -> None:
    """Write ``estimator`` to ``file``."""
    import skops.io

    skops.io.dump(estimator, file)


def head(file: Path, scaler: nn.Module) -> EstimatorHead:
    """Return a head with the estimator in ``file``; with a ``scaler`` of classes, one that predicts probabilities.

    Raises CheckpointError, naming the file, for a damaged one and one that holds what is not allowed.
    """
    estimator = _estimator(file)
    if not isinstance(scaler, ClassScaler):
        return EstimatorHead(estimator)
    if not hasattr(estimator, "predict_proba"):
        raise CheckpointError(f"{file} contains no classifier; copy the whole model folder again.")
    return ClassifierHead(estimator, len(scaler.names))


def _estimator(file: Path) -> Any:
    import skops.io

    try:
        unknown = skops.io.get_untrusted_types(file=file)
        strange = sorted(set(unknown) - _TRUSTED)
        if strange:
            raise CheckpointError(f"{file} contains {', '.join(strange)}, which is not allowed; do not use this model.")
        estimator = skops.io.load(file, trusted=unknown)
    except CheckpointError:
        raise
    except Exception as error:  # a file of a stranger makes skops fail in any way there is
        raise CheckpointError(
            f"{file} is not an estimator in skops format ({type(error).__name__}); copy it again."
        ) from error
    if not hasattr(estimator, "predict"):
        raise CheckpointError(f"{file} contains no estimator that can predict; do not use this model.")
    return estimator
