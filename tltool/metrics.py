"""How good predictions are: each metric is one function and one line of ``METRICS``.

``metrics.json``, the table on the terminal and the report read that table, so that a metric which is added to it shows
up in all three. Sums are divided once.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tltool.quantities import Quantities, Quantity, quantity

Floats = npt.NDArray[np.float64]


class Rows(NamedTuple):
    """Labels and predictions of the rows that have a label, r > 0, and the mean of the training labels.

    Of a number they are (r,), (r,) and (), in its unit. Of k classes they are (r, k): 1 for the class of the row and 0
    for the others, and probabilities; the mean (k,) is the share of each class.
    """

    label: Floats
    prediction: Floats
    train_mean: Any


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
        """Say whether it is a metric of this quantity; None is one that is not known, and a number."""
        return self.kind in ("all", "class" if about is not None and about.is_class else "number")

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


def brier(prediction: Floats, label: Floats) -> Floats:
    """Return (r,): half the squared distance of probabilities and labels (r, k), from 0 to 1; (r, 1) for two classes.

    Its mean is the Brier score (Monthly Weather Review 78, 1 (1950)), a proper score: true probabilities make it
    smallest.
    """
    share = 1.0 if label.shape[1] == 1 else 0.5
    found: Floats = share * ((np.clip(prediction, 0.0, 1.0) - label) ** 2).sum(1)
    return found


def brier_score(rows: Rows) -> float:
    """Return the mean Brier score, from 0 to 1."""
    return float(brier(rows.prediction, rows.label).mean())


def brier_of_shares(rows: Rows) -> float:
    """Return the Brier score of always predicting the shares of the classes in training."""
    return float(brier(np.broadcast_to(rows.train_mean, rows.label.shape), rows.label).mean())


def brier_by_shares(rows: Rows) -> float:
    """Return the Brier score over that of the shares: below 1 the model has learnt something; NaN where that is 0."""
    usual = brier_of_shares(rows)
    return brier_score(rows) / usual if usual > 0 else float("nan")


def cross_entropy(rows: Rows) -> float:
    """Return the mean of -log p of the right class, natural logarithm; a p below 1e-6 counts as that."""
    return float(-np.log(np.clip((rows.prediction * rows.label).sum(1), 1e-6, 1.0)).mean())


def accuracy(rows: Rows) -> float:
    """Return how often the likeliest class is right."""
    return float((_said(rows) == rows.label.argmax(1)).mean())


def accuracy_of_most_frequent(rows: Rows) -> float:
    """Return how often the most frequent training class is right."""
    return float((int(np.argmax(rows.train_mean)) == rows.label.argmax(1)).mean())


def balanced_accuracy(rows: Rows) -> float:
    """Return how often the class is right, averaged over the classes with a label; NaN if that is one alone."""
    right, label = _said(rows) == rows.label.argmax(1), rows.label.argmax(1)
    shares = [float(right[label == k].mean()) for k in np.unique(label)]
    return float(np.mean(shares)) if len(shares) > 1 else float("nan")


def f1(rows: Rows) -> float:
    """Return the harmonic mean of precision and recall, averaged over the classes with a label or a prediction."""
    from sklearn.metrics import f1_score

    label, found = rows.label.argmax(1), _said(rows)
    names = np.unique(np.concatenate([label, found[found >= 0]]))
    return float(f1_score(label, found, labels=names, average="macro", zero_division=0.0))


def roc_auc(rows: Rows) -> float:
    """Return the area under the ROC curve of each class against the others, averaged; NaN if one class has all labels.

    Classes without a label take no part.
    """
    from sklearn.metrics import roc_auc_score

    if not np.isfinite(rows.prediction).all():
        return float("nan")
    there = [k for k in range(rows.label.shape[1]) if 0 < rows.label[:, k].sum() < len(rows.label)]
    areas = [float(roc_auc_score(rows.label[:, k], rows.prediction[:, k])) for k in there]
    return float(np.mean(areas)) if areas else float("nan")


def _said(rows: Rows) -> npt.NDArray[np.int64]:
    """Return (r,): the likeliest class of each row; of two that are equally likely the second."""
    return said(rows.prediction)


def said(probabilities: Floats) -> npt.NDArray[np.int64]:
    """Return (r,): the class that probabilities (r, k) say, the likeliest, of equal ones the last; -1 for NaN."""
    last: npt.NDArray[np.int64] = probabilities.shape[1] - 1 - probabilities[:, ::-1].argmax(1)
    return np.where(np.isnan(probabilities).any(1), -1, last)


def whole(columns: Floats) -> Floats:
    """Return (r, k) for k classes from their columns: one of two classes is the probability of the second alone."""
    if columns.shape[1] > 1:
        return columns
    second = np.clip(columns, 0.0, 1.0)
    return np.concatenate([1.0 - second, second], axis=1)


def confusion(rows: Rows) -> list[list[int]]:
    """Return how many rows of each class (a line each) are said to be of each class (a column each)."""
    k, found = rows.label.shape[1], _said(rows)
    there = found >= 0
    return np.bincount(rows.label.argmax(1)[there] * k + found[there], minlength=k * k).reshape(k, k).tolist()


def calibration(rows: Rows, bins: int = 10) -> list[dict[str, float]]:
    """Return, for each tenth that probabilities of any class fall into: their number, mean, and how many came true."""
    there = np.isfinite(rows.prediction).all(1)
    p, y = np.clip(rows.prediction[there], 0.0, 1.0).ravel(), rows.label[there].ravel()
    place = np.minimum((p * bins).astype(int), bins - 1)
    return [
        {
            "n": int((place == k).sum()),
            "predicted": float(p[place == k].mean()),
            "observed": float(y[place == k].mean()),
        }
        for k in np.unique(place)
    ]


METRICS = (
    Metric("MAE", mae, "smaller", has_unit=True, kind="number"),
    Metric("RMSE", rmse, "smaller", has_unit=True, kind="number"),
    Metric("R2", r2, "larger", kind="number"),
    Metric("MAD", mad, "", has_unit=True, kind="number"),
    Metric("MAE/MAD", mae_by_mad, "smaller", kind="number"),
    Metric("Brier", brier_score, "smaller", kind="class"),
    Metric("Brier of shares", brier_of_shares, "", kind="class"),
    Metric("Brier/shares", brier_by_shares, "smaller", kind="class"),
    Metric("cross-entropy", cross_entropy, "smaller", kind="class"),
    Metric("accuracy", accuracy, "larger", kind="class"),
    Metric("accuracy of most frequent", accuracy_of_most_frequent, "", kind="class"),
    Metric("balanced accuracy", balanced_accuracy, "larger", kind="class"),
    Metric("F1", f1, "larger", kind="class"),
    Metric("ROC-AUC", roc_auc, "larger", kind="class"),
)
"""In the order in which they are shown. Verdicts and the choice of a mode rest on those that ``judged`` names."""


class Judged(NamedTuple):
    """The names of the metric that compares models, and of the same over that of the mean predictor."""

    error: str
    relative: str


def of_epochs(about: Quantity) -> str:
    """Return what the validation error of an epoch is called: of a class it is the probability of the wrong classes."""
    return "probability error" if about.is_class else "MAE"


def judged(about: Quantity | None) -> Judged:
    """Return the metrics that verdicts on a quantity rest on; None is one that is not known, and so a number."""
    return Judged("Brier", "Brier/shares") if about is not None and about.is_class else Judged("MAE", "MAE/MAD")


def of(about: Quantity | None) -> list[Metric]:
    """Return the metrics of a quantity."""
    return [metric for metric in METRICS if metric.applies_to(about)]


def measure(
    name: str, label: Floats, prediction: Floats, train_mean: Any, known: Quantities | None = None
) -> dict[str, Any]:
    """Return n and the metrics of the quantity ``name`` over the rows that have a label; for none n = 0 alone.

    ``label``, ``prediction`` and ``train_mean`` are (r,), (r,) and () of a number, (r, w), (r, w) and (w,) of a class.
    A quantity that is a log10 also gets the MAE of what it is the logarithm of, as ``MAE_<name>``; a class its
    ``confusion`` and ``calibration``.
    """
    about = quantity(name, known)
    if about.is_class:
        return _of_class(about, *(np.asarray(side, dtype=np.float64) for side in (label, prediction, train_mean)))
    there = np.isfinite(label)
    rows = Rows(label[there], prediction[there], train_mean)
    if not len(rows.label):
        return {"n": 0}
    found: dict[str, Any] = {"n": len(rows.label)} | {metric.name: metric.of(rows) for metric in of(about)}
    plain = Rows(10.0**rows.label, 10.0**rows.prediction, float("nan")) if about.log10_of else None
    return found | ({f"MAE_{about.log10_of}": mae(plain)} if plain else {})


def _of_class(about: Quantity, label: Floats, prediction: Floats, shares: Floats) -> dict[str, Any]:
    label, prediction, shares = (side.reshape(-1, about.width) for side in (label, prediction, shares))
    there = np.isfinite(label[:, 0])
    rows = Rows(whole(label[there]), whole(prediction[there]), whole(shares)[0])
    if not len(rows.label):
        return {"n": 0}
    found: dict[str, Any] = {"n": len(rows.label)} | {metric.name: metric.of(rows) for metric in of(about)}
    return found | {"confusion": confusion(rows), "calibration": calibration(rows)}
