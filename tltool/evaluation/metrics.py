"""Errors of predictions, in the unit of the quantity; sums are divided once. Of classes, how often they are right."""

import numpy as np

from tltool.data.record import Floats
from tltool.quantities import quantity

CLASS_METRICS = ("accuracy", "balanced accuracy", "F1", "ROC-AUC")
"""Of a class: the first three at a threshold of 0.5, the last over all thresholds of the predicted number."""


def metrics(name: str, label: Floats, prediction: Floats, train_mean: float) -> dict[str, float]:
    """Return n, MAE, RMSE, R2, MAD and MAE/MAD over rows (r,) that have a label; empty sets give n = 0 alone.

    MAD is the MAE of always predicting ``train_mean``, the mean label of the training rows. A quantity that is a
    log10 also gets the MAE of what it is the logarithm of, as ``MAE_<name>``; a class gets ``CLASS_METRICS``.
    """
    known = np.isfinite(label)
    label, prediction = label[known], prediction[known]
    if not len(label):
        return {"n": 0}
    error = prediction - label
    mae = float(np.abs(error).mean())
    mad = float(np.abs(label - train_mean).mean())
    spread = float(((label - label.mean()) ** 2).sum())
    found = {
        "n": len(label),
        "MAE": mae,
        "RMSE": float(np.sqrt((error**2).mean())),
        "R2": 1 - float((error**2).sum()) / spread if spread > 0 else float("nan"),
        "MAD": mad,
        "MAE/MAD": mae / mad if mad > 0 else float("nan"),
    }
    about = quantity(name)
    if about.log10_of:
        found[f"MAE_{about.log10_of}"] = float(np.abs(10.0**prediction - 10.0**label).mean())
    return found | _of_classes(label, prediction) if about.is_class else found


def _of_classes(label: Floats, prediction: Floats) -> dict[str, float]:
    """Return ``CLASS_METRICS``; those that need both classes among the labels are NaN without."""
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score

    truth, verdict = label >= 0.5, prediction >= 0.5
    both = len(np.unique(truth)) == 2 and bool(np.isfinite(prediction).all())
    numbers = (
        accuracy_score(truth, verdict),
        balanced_accuracy_score(truth, verdict) if both else float("nan"),
        f1_score(truth, verdict, zero_division=0.0),
        roc_auc_score(truth, prediction) if both else float("nan"),
    )
    return dict(zip(CLASS_METRICS, map(float, numbers), strict=True))
