"""How good predictions are: each metric is one function and one line of ``METRICS``.

``metrics.json``, the table on the terminal and the report read that table, so that a metric which is added to it shows
up in all three. Sums are divided once.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tltool.quantities import Quantities, Quantity, quantity

Floats = npt.NDArray[np.float64]


class Rows(NamedTuple):
    """Labels and predictions (r,) of the rows that have a label, r > 0; ``train_mean`` is the mean training label.

    All are in the unit of the quantity. A class is 1 or 0 as a label, and a prediction of 0.5 and more says 1.
    """

    label: Floats
    prediction: Floats
    train_mean: float


class Metric(NamedTuple):
    """A line of the table: the ``name``, and the function ``of`` rows that returns the number, NaN where it has none.

    ``better`` says which way it points, and is "" for what depends on the rows alone and compares no models: the report
    leaves that out. ``has_unit``: the number is in the unit of the quantity, else it has none. ``kind`` says of which
    quantities it is: all, those that are a class, or those that are a number and no class. ``style`` is a format of
    Python, such as ``.1%``; without one there are four digits on the terminal and three in the report.
    """

    name: str
    of: Callable[[Rows], float]
    better: Literal["smaller", "larger", ""]
    has_unit: bool = False
    kind: Literal["all", "class", "number"] = "all"
    style: str = ""

    def applies_to(self, about: Quantity | None) -> bool:
        """Say whether it is a metric of this quantity; None is a quantity that is not known."""
        return self.kind == "all" or (about is not None and about.is_class == (self.kind == "class"))

    def header(self, unit: str) -> str:
        """Return the name, with the ``unit`` of the quantity where it has one."""
        return f"{self.name} ({unit})" if self.has_unit else self.name


def mae(rows: Rows) -> float:
    """Return the mean absolute error."""
    return float(np.abs(rows.prediction - rows.label).mean())


def rmse(rows: Rows) -> float:
    """Return the root of the mean squared error."""
    return float(np.sqrt(((rows.prediction - rows.label) ** 2).mean()))


def r2(rows: Rows) -> float:
    """Return the coefficient of determination; NaN where all labels are equal."""
    around_mean = float(((rows.label - rows.label.mean()) ** 2).sum())
    error = float(((rows.prediction - rows.label) ** 2).sum())
    return 1 - error / around_mean if around_mean > 0 else float("nan")


def mad(rows: Rows) -> float:
    """Return the MAE of always predicting the mean training label."""
    return float(np.abs(rows.label - rows.train_mean).mean())


def mae_by_mad(rows: Rows) -> float:
    """Return MAE/MAD: below 1 the model has learnt something; NaN where MAD is 0."""
    return mae(rows) / mad(rows) if mad(rows) > 0 else float("nan")


def accuracy(rows: Rows) -> float:
    """Return how often the class is right."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(rows.label >= 0.5, rows.prediction >= 0.5))


def balanced_accuracy(rows: Rows) -> float:
    """Return how often the class is right, averaged over both classes; NaN where one of them has no label."""
    from sklearn.metrics import balanced_accuracy_score

    return float(balanced_accuracy_score(rows.label >= 0.5, rows.prediction >= 0.5)) if _both(rows) else float("nan")


def f1(rows: Rows) -> float:
    """Return the harmonic mean of precision and recall of class 1; 0 where neither labels nor predictions are 1."""
    from sklearn.metrics import f1_score

    return float(f1_score(rows.label >= 0.5, rows.prediction >= 0.5, zero_division=0.0))


def roc_auc(rows: Rows) -> float:
    """Return the area under the ROC curve, over all thresholds; NaN where a class has no label."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(rows.label >= 0.5, rows.prediction)) if _both(rows) else float("nan")


def _both(rows: Rows) -> bool:
    """Say whether both classes are among the labels, and all predictions are finite."""
    return len(np.unique(rows.label >= 0.5)) == 2 and bool(np.isfinite(rows.prediction).all())


METRICS = (
    Metric("MAE", mae, "smaller", has_unit=True),
    Metric("RMSE", rmse, "smaller", has_unit=True),
    Metric("R2", r2, "larger"),
    Metric("MAD", mad, "", has_unit=True),
    Metric("MAE/MAD", mae_by_mad, "smaller"),
    Metric("accuracy", accuracy, "larger", kind="class"),
    Metric("balanced accuracy", balanced_accuracy, "larger", kind="class"),
    Metric("F1", f1, "larger", kind="class"),
    Metric("ROC-AUC", roc_auc, "larger", kind="class"),
)
"""In the order in which they are shown. MAE and MAE/MAD must stay: verdicts and the choice of a mode rest on them."""


def of(about: Quantity | None) -> list[Metric]:
    """Return the metrics of a quantity."""
    return [metric for metric in METRICS if metric.applies_to(about)]


def measure(
    name: str, label: Floats, prediction: Floats, train_mean: float, known: Quantities | None = None
) -> dict[str, float]:
    """Return n and the metrics of the quantity ``name`` over the rows (r,) that have a label; for none n = 0 alone.

    A quantity that is a log10 also gets the MAE of what it is the logarithm of, as ``MAE_<name>``.
    """
    there = np.isfinite(label)
    rows, about = Rows(label[there], prediction[there], train_mean), quantity(name, known)
    if not len(rows.label):
        return {"n": 0}
    found = {"n": len(rows.label)} | {metric.name: metric.of(rows) for metric in of(about)}
    plain = Rows(10.0**rows.label, 10.0**rows.prediction, float("nan")) if about.log10_of else None
    return found | ({f"MAE_{about.log10_of}": mae(plain)} if plain else {})
