"""Errors of predictions, in the unit of the quantity; sums are divided once."""

import numpy as np

from tltool.data.record import Floats
from tltool.quantities import quantity


def metrics(name: str, label: Floats, prediction: Floats, train_mean: float) -> dict[str, float]:
    """Return n, MAE, RMSE, R2, MAD and MAE/MAD over rows (r,) that have a label; empty sets give n = 0 alone.

    MAD is the MAE of always predicting ``train_mean``, the mean label of the training rows. A quantity that is a
    log10 also gets the MAE of what it is the logarithm of, as ``MAE_<name>``.
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
    plain = quantity(name).log10_of
    if plain:
        found[f"MAE_{plain}"] = float(np.abs(10.0**prediction - 10.0**label).mean())
    return found
