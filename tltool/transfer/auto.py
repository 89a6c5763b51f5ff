"""Compare other modes by cross-validation inside the training rows, and train the best, or the mean of the best."""

import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tltool import instantiate, machine, metrics
from tltool.data.batches.batches import Batches
from tltool.data.record import Floats
from tltool.errors import ConfigError, NumericError, standing_at
from tltool.instantiate import TRAINING, Idle
from tltool.model.mean_of_models import MeanOfModels, mean_by
from tltool.model.property_model import PropertyModel
from tltool.renamed import renamed_key
from tltool.training.fit import Fit
from tltool.transfer.steps import cross_validation, trials
from tltool.transfer.steps.trials import Mode, Tried


def auto(
    source: PropertyModel,
    data: Batches,
    fit: Fit,
    /,
    *,
    candidates: dict[str, Mode],
    folds: int,
    tolerance: float,
    most_members: int,
    without_source: list[str],
    most_rows: dict[str, int],
    max_seconds: float | None,
    max_seconds_per_row: float,
) -> PropertyModel:
    """Return what the best of ``candidates`` make of ``source``: one alone, or the mean of several.

    Each is tried in ``folds``-fold cross-validation on the training rows, in the order of the YAML, cheap ones first.
    The result is the mean of the best ``most_members``. The weight of one falls by a factor e for each ``tolerance``
    that its error lies above that of the best, as a share of it. A candidate is given up when it is clearly behind
    after a fold or more, when its loss is not finite, when this source or these data do not allow it (formulas, or a
    source whose head is an estimator), or when it would take the time spent beyond ``max_seconds`` (null for no limit)
    and ``max_seconds_per_row`` for each training row after the hundredth; it is left out with more training rows than
    ``most_rows`` says for it.
    ``without_source`` names the candidates that take nothing of the source, which say what it was worth. All that was
    compared is logged and in ``spec["auto"]``.
    """
    rows = len(data.split["train"])
    if machine.ranks() > 1:
        # The choice may depend on the time of candidates, which differs between processes.
        raise ConfigError("mode=auto works in one process only; start it without torchrun, or choose a mode.")
    if not candidates:
        raise ConfigError("mode.candidates is empty; name at least one mode.")
    if folds < 2 or tolerance < 0 or most_members < 1:
        raise ConfigError(
            f"mode.folds={folds} must be 2 or more, mode.tolerance={tolerance} 0 or more and "
            f"mode.most_members={most_members} 1 or more."
        )
    if rows < 4:
        raise ConfigError(f"mode=auto needs at least 4 training rows, but there are {rows}; choose a mode.")
    folds = min(folds, rows)
    small = {name: mode for name, mode in candidates.items() if rows <= most_rows.get(name, rows)}
    if left_out := [name for name in candidates if name not in small]:
        fit.log(
            {"event": "say", "text": f"There are too many training rows for {', '.join(left_out)} (mode.most_rows)."}
        )
    candidates = small
    if not candidates:
        raise ConfigError(
            f"mode.most_rows excludes every candidate for {rows} training rows; add a candidate without a limit."
        )

    def say(text: str) -> None:
        fit.log({"event": "say", "text": text})

    measure = " and ".join(dict.fromkeys(metrics.judged(data.known[name]).relative for name in data.quantities))
    say(
        f"Comparing {', '.join(candidates)} by {folds}-fold cross-validation on the {rows:,} training rows; "
        f"errors are {measure}. Test rows are not looked at."
    )
    began = time.perf_counter()
    limit = None if max_seconds is None else max_seconds + max_seconds_per_row * max(rows - 100, 0)
    tried = trials.compared(candidates, source, data, fit, folds, limit, set(without_source), say)
    whole = {name: t.errors for name, t in tried.items() if not t.why}
    if not whole:
        why = next(iter(tried.values())).why
        raise NumericError(f"No candidate of mode=auto could be trained; the first one failed: {why}")
    standing = cross_validation.standings(whole)
    weights = cross_validation.weights(standing, tolerance, most_members)
    names = list(weights)
    models = {}
    for name in names:
        with standing_at(f"mode.candidates.{name}", "mode"):
            models[name] = candidates[name](source, data, replace(fit, log=fit.log if name == names[0] else _silent))
    model = MeanOfModels(models, list(weights.values())) if len(models) > 1 else models[names[0]]
    taken = _mean(tried, weights, data, model)
    reason = _reason(weights, standing, taken)
    worth = _worth(tried, standing, set(without_source), taken, tolerance, most_members, data, model)
    name = " + ".join(names)
    say(f"Chosen: {name}. {reason} {worth} All of it took {time.perf_counter() - began:.1f} s.")
    table = {k: _row(t, standing.get(k)) for k, t in tried.items()}
    choice = {"chosen": name, "reason": reason, "source": worth, "folds": folds, "rows": rows, "measure": measure}
    choice |= {"error": float(taken.mean()), "candidates": table, "weights": weights}
    fit.log({"event": "auto", **choice})
    model.spec["auto"] = choice
    return model


def _silent(event: Mapping[str, Any]) -> None:
    """Take an event and tell nobody."""


def idle_keys(node: Mapping[str, Any], config: Mapping[str, Any], /) -> dict[str, Idle]:
    """Return the keys that no candidate uses (see ``instantiate.idle_keys``)."""
    limits = [name for name in node["most_rows"] or {} if name not in node["candidates"]]
    found = {f"most_rows.{name}": Idle(f"{{at}}.candidates has no {name}", _advice(name)) for name in limits}
    told = [instantiate.idle_keys(mode, config, config.get("plugins") or ()) for mode in node["candidates"].values()]
    if told and all(TRAINING in keys for keys in told):
        why = "no candidate of {at}.candidates trains by steps"
        found[TRAINING] = Idle(why, "add one, as +mode@{at}.candidates.lora=lora")
    return found


def _advice(name: str) -> str:
    now = renamed_key(f"candidates.{name}")
    return f"use {{at}}.most_rows.{now.name.rpartition('.')[2]}={{value}}" if now else "name one of those"


def _mean(tried: Mapping[str, Tried], weights: Mapping[str, float], data: Batches, model: PropertyModel) -> Floats:
    """Return (n,): the errors on training rows of the mean of candidates with ``weights``."""
    scalers = [scaler for scaler in model.scalers.values() for _ in range(int(scaler.width))]  # type: ignore[arg-type]
    found = torch.from_numpy(np.stack([tried[name].predictions for name in weights], axis=-1))
    shares = torch.tensor(list(weights.values()), dtype=found.dtype)
    columns = [mean_by(scaler, found[:, k], shares).numpy() for k, scaler in enumerate(scalers)]
    return cross_validation.row_errors(np.stack(columns, axis=1), data)


def _reason(weights: Mapping[str, float], standing: Mapping[str, cross_validation.Standing], taken: Floats) -> str:
    best = min(standing, key=lambda k: standing[k].error)
    alone = f"{standing[best].error:.3f} ± {standing[best].standard_error:.3f}"
    if len(weights) == 1:
        return f"Its error is the lowest, {alone}."
    shares = ", ".join(f"{name} {share:.0%}" for name, share in weights.items())
    return f"The mean with the weights {shares} has the error {taken.mean():.3f}; {best} alone has {alone}."


def _worth(
    tried: Mapping[str, Tried],
    standing: Mapping[str, cross_validation.Standing],
    without: AbstractSet[str],
    taken: Floats,
    tolerance: float,
    most_members: int,
    data: Batches,
    model: PropertyModel,
) -> str:
    """Return what the source was worth: the error with it and of the same choice among candidates without it."""
    alone = {name: tried[name].errors for name in standing if name in without}
    if not alone or len(alone) == len(standing):
        return "No candidate without the source was tried to the end, so what it was worth is not known."
    names = cross_validation.weights(cross_validation.standings(alone), tolerance, most_members)
    errors = _mean(tried, names, data, model)
    gain = errors - taken
    standard_error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
    how = "lowers" if gain.mean() >= 0 else "raises"
    sure = "" if abs(gain.mean()) > 2 * standard_error else ", which may be chance"
    return (
        f"Without the source it would be {errors.mean():.3f} ({' + '.join(names)}): the source {how} the error by "
        f"{abs(gain.mean()) / errors.mean():.0%} ± {standard_error / errors.mean():.0%}{sure}."
    )


def _row(tried: Tried, standing: cross_validation.Standing | None) -> dict[str, Any]:
    known = tried.errors[np.isfinite(tried.errors)]
    facts: dict[str, Any] = {"error": float(known.mean()) if len(known) else None}
    facts |= standing._asdict() if standing else {}
    return facts | {"folds": tried.folds, "seconds": round(tried.seconds, 2), "given_up": tried.why or None}
