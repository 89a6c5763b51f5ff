"""What a model knows of its own errors: scores for intervals, and how far a crystal is from the training rows.

All of it is arrays of numbers, ``PropertyModel.uncertainty``, which travel with the model in a file of their own:
``score/QUANTITY`` (m) sorted, ``rows/QUANTITY`` (1) how many rows they are of, ``of`` (1) 0 for out-of-fold and 1 for
validation rows, ``embedding`` (r, d) of training rows, standardised by ``mean`` and ``scale`` (d), ``limit`` (1) the
distance beyond which a crystal is far. A score is |label - prediction| on the scale that the model learns, divided by
the standard deviation that the model gives for the crystal, or by 1 where it gives none. A class has probabilities, and
neither scores nor intervals. Sizes: c crystals, v columns of predictions (``PropertyModel.columns``).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tltool.crystal_graph import Graph
from tltool.data.batches.batches import Batches
from tltool.data.batches.tensor_table import evaluation_size
from tltool.data.record import Floats, Ints
from tltool.evaluation import conformal
from tltool.model.property_model import PropertyModel
from tltool.model.scaler import ClassScaler, Scaler
from tltool.model.sklearn_head import EstimatorHead
from tltool.training.fit import predict

Arrays = dict[str, npt.NDArray[Any]]
OUT_OF_FOLD, VALIDATION = 0, 1
_MOST = 1_000  # training rows that stand for all
_PERCENTILE = 99
_SMALLEST = 1e-12


class Bounds(NamedTuple):
    """Intervals of predictions (c, v), NaN where there is none, and which crystals (c,) are ``far``."""

    lower: Floats
    upper: Floats
    far: npt.NDArray[np.bool_]


def scale_of(model: PropertyModel, data: Batches, part: str) -> Floats:
    """Return (r, v): the standard deviation that ``model`` gives for each row of ``part``, 1 where it gives none.

    On the scale that is learnt: of the logarithm or the logit of the label where that is.
    """
    found = [_scale(model, batch.graph) for batch in data.of(part, evaluation_size(data.table))]
    return np.concatenate(found) if found else np.ones((0, data.labels.shape[1]))


def scores(model: PropertyModel, label: Floats, prediction: Floats, scale: Floats) -> Floats:
    """Return (r, v): how far ``prediction`` is from ``label`` (r, v), in units of ``scale``; NaN without a label.

    Infinite where a label has no logarithm and the model learns logarithms.
    """
    found = np.full(label.shape, np.nan)
    for name, k in number_columns(model).items():
        one, other = (_learnt(model, name, values[:, k]) for values in (label, prediction))
        distance = np.abs(one - other) / np.maximum(scale[:, k], _SMALLEST)
        found[:, k] = np.where(np.isnan(distance), np.inf, distance)
    return np.where(np.isfinite(label), found, np.nan)


def remembered(model: PropertyModel, data: Batches, found: Floats, rows: int, of: int) -> Arrays:
    """Return what ``model`` is to carry: ``found`` scores (m, v) of that many ``rows``, and its training rows.

    ``of`` is OUT_OF_FOLD or VALIDATION. Of quantities that are classes, or have no score, none is kept.
    """
    share = rows / max(len(found), 1)
    arrays: Arrays = {"of": np.array([of], dtype=np.int64)}
    for name, k in number_columns(model).items():
        known = found[~np.isnan(found[:, k]), k]
        if len(known):
            arrays[f"score/{name}"] = np.sort(known)
            arrays[f"rows/{name}"] = np.array([round(len(known) * share)], dtype=np.int64)
    return arrays | _neighbourhood(model, data)


def of_validation(model: PropertyModel, data: Batches) -> Arrays:
    """Return what ``model`` is to carry, its scores those of the validation rows of ``data``."""
    label = data.labels[data.split["val"]].cpu().double().numpy()
    found = scores(model, label, predict(model, data, "val"), scale_of(model, data, "val"))
    return remembered(model, data, found, len(found), VALIDATION)


def rows_of(arrays: Mapping[str, npt.NDArray[Any]], name: str) -> int:
    """Return of how many rows the scores of a quantity are; 0 without scores."""
    return int(arrays[f"rows/{name}"][0]) if f"rows/{name}" in arrays else 0


def bounds(model: PropertyModel, graph: Graph, prediction: Floats, coverage: float) -> Bounds:
    """Return the intervals of ``coverage`` around ``prediction`` (c, v) for the crystals of ``graph``."""
    scale, width = _scale(model, graph), np.full(prediction.shape[1], np.nan)
    for name, k in number_columns(model).items():
        if rows := rows_of(model.uncertainty, name):
            width[k] = conformal.quantile(model.uncertainty[f"score/{name}"], coverage, rows)
    return Bounds(*around(model, prediction, scale, width), is_far(model, graph))


def around(model: PropertyModel, prediction: Floats, scale: Floats, width: Floats) -> tuple[Floats, Floats]:
    """Return the lower and upper ends (c, v): ``width`` (v,) times ``scale`` (c, v) on both sides, as is learnt.

    NaN where the width is not finite.
    """
    lower, upper = np.full(prediction.shape, np.nan), np.full(prediction.shape, np.nan)
    for name, k in number_columns(model).items():
        if np.isfinite(width[k]):
            centre, half = _learnt(model, name, prediction[:, k]), width[k] * scale[:, k]
            lower[:, k], upper[:, k] = (_label(model, name, centre + side * half) for side in (-1, 1))
    return lower, upper


@torch.no_grad()
def is_far(model: PropertyModel, graph: Graph) -> npt.NDArray[np.bool_]:
    """Return (c,): which crystals are farther from the training rows than 99 of 100 of these are from each other."""
    arrays = model.uncertainty
    rows = (model.embed(graph).double().cpu().numpy() - arrays["mean"]) / arrays["scale"]
    return _nearest(rows, arrays["embedding"].astype(np.float64)) > float(arrays["limit"][0])


def without(model: PropertyModel, coverage: float) -> list[str]:
    """Return a sentence for each quantity whose scores are too few for intervals of this ``coverage``."""
    needed = conformal.needed(coverage)
    counts = {name: rows_of(model.uncertainty, name) for name in number_columns(model)}
    return [
        f"{name}: no intervals, as {rows} rows are too few for {coverage:.0%}, which needs {needed}; use split=cv in "
        "transfer, or a smaller coverage."
        for name, rows in counts.items()
        if rows < needed
    ]


def bounds_of(model: PropertyModel, data: Batches, part: str, prediction: Floats, coverage: float) -> Bounds:
    """Return ``bounds`` for the rows of ``part``."""
    found, start = [], 0
    for batch in data.of(part, evaluation_size(data.table)):
        stop = start + batch.graph.n_crystals
        found.append(bounds(model, batch.graph, prediction[start:stop], coverage))
        start = stop
    if not found:
        return Bounds(prediction, prediction, np.zeros(0, dtype=bool))
    return Bounds(*(np.concatenate([getattr(one, key) for one in found]) for key in Bounds._fields))


def far_of(model: PropertyModel, data: Batches, part: str) -> npt.NDArray[np.bool_]:
    """Return (r,): which rows of ``part`` are far from the training rows of ``data``, by what ``model`` embeds."""
    model.uncertainty = _neighbourhood(model, data)
    found = [is_far(model, batch.graph) for batch in data.of(part, evaluation_size(data.table))]
    model.uncertainty = {}
    return np.concatenate(found) if found else np.zeros(0, dtype=bool)


def measured(model: PropertyModel, found: Bounds, label: Floats, coverage: float) -> dict[str, dict[str, Any]]:
    """Return for each quantity with intervals how many of the labels (r, v) lie within, and half their median width."""
    told: dict[str, dict[str, Any]] = {}
    for name, k in number_columns(model).items():
        there = np.isfinite(found.lower[:, k]) & np.isfinite(label[:, k])
        if there.any():
            low, high, y = found.lower[there, k], found.upper[there, k], label[there, k]
            told[name] = {
                "coverage": coverage,
                "of": "validation rows" if int(model.uncertainty["of"][0]) == VALIDATION else "out-of-fold rows",
                "rows": rows_of(model.uncertainty, name),
                "n": int(there.sum()),
                "covered": float(((low <= y) & (y <= high)).mean()),
                "half_width": float(np.median((high - low) / 2)),
            }
    return told


@torch.no_grad()
def _scale(model: PropertyModel, graph: Graph) -> Floats:
    columns = number_columns(model)
    found = np.ones((graph.n_crystals, sum(at.stop - at.start for at in model.columns.values())))
    if not any(isinstance(head, EstimatorHead) and head.gives_spread for head in model.heads.values()):
        return found
    hidden: Tensor = model.trunk(model.embed(graph))
    for name, k in columns.items():
        head = model.heads[name]
        if isinstance(head, EstimatorHead) and head.gives_spread:
            found[:, k] = head.spread(hidden) * float(model.scalers[name].spread)  # type: ignore[arg-type]
    return found


def _learnt(model: PropertyModel, name: str, values: Floats) -> Floats:
    """Return ``values`` of a quantity on the scale that is learnt: logarithms, logits, or as they are."""
    scaler = model.scalers[name]
    if isinstance(scaler, Scaler) and scaler.bounds:
        return scaler.learnt(torch.from_numpy(values)).numpy()
    if not getattr(scaler, "logarithmic", False):
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(values > 0, np.log(values), np.nan)


def _label(model: PropertyModel, name: str, values: Floats) -> Floats:
    scaler = model.scalers[name]
    return scaler.plain(torch.from_numpy(values)).numpy() if isinstance(scaler, Scaler) else values


def number_columns(model: PropertyModel) -> dict[str, int]:
    """Return the column of each quantity that is a number: what is no class, of older models too."""
    known = model.known
    classes = {name for name in model.quantities if name in known and known[name].is_class}
    classes |= {name for name, scaler in model.scalers.items() if isinstance(scaler, ClassScaler)}
    return {name: at.start for name, at in model.columns.items() if name not in classes}


@torch.no_grad()
def _neighbourhood(model: PropertyModel, data: Batches) -> Arrays:
    """Return the embeddings of training rows, at equal steps of many, and the distance that is far."""
    rows = data.split["train"]
    rows = rows[:: -(-len(rows) // _MOST)]
    parts = [model.embed(data.table.select(some)) for some in torch.split(rows, evaluation_size(data.table))]
    table = torch.cat(parts).double().cpu().numpy()
    mean, scale = table.mean(0), table.std(0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    table = (table - mean) / scale
    crystal = np.arange(len(rows)) if data.crystal is None else data.crystal[rows].cpu().numpy()
    several = len(np.unique(crystal)) > 1
    limit = np.percentile(_nearest(table, table, crystal), _PERCENTILE) if several else 0.0
    found = {"mean": mean, "scale": scale, "embedding": table.astype(np.float32)}
    return found | {"limit": np.array([limit * (1 + 1e-6)])}


def _nearest(rows: Floats, others: Floats, crystal: Ints | None = None) -> Floats:
    """Return (c,): the distance of each of ``rows`` to the nearest of ``others``.

    If both are the same rows, ``crystal`` (c,) numbers their crystals: then it is that to the nearest other crystal.
    """
    from scipy.spatial.distance import cdist

    found = cdist(rows, others)
    if crystal is not None:
        found[crystal[:, None] == crystal[None, :]] = np.inf
    nearest: Floats = found.min(1)
    return nearest
