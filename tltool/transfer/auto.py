"""Choose among other modes by cross-validation inside the training rows, and train the chosen mode."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tltool import instantiate, machine
from tltool.data.batches.batches import Batches
from tltool.data.record import Floats
from tltool.errors import ConfigError, InapplicableError, NumericError, standing_at
from tltool.instantiate import TRAINING, Idle
from tltool.model.property_model import PropertyModel
from tltool.training.fit import Fit
from tltool.transfer.steps import cross_validation

Mode = Callable[[PropertyModel, Batches, Fit], PropertyModel]


class Tried(NamedTuple):
    """Errors (n,) of a candidate on the training rows, NaN where not tried; ``why`` it was given up, or empty."""

    errors: Floats
    folds: int
    seconds: float
    why: str


def auto(
    source: PropertyModel,
    data: Batches,
    fit: Fit,
    /,
    *,
    candidates: dict[str, Mode],
    folds: int,
    tolerance: float,
    most_rows: dict[str, int],
    max_seconds: float | None,
) -> PropertyModel:
    """Return what the best of ``candidates`` makes of ``source``: exactly what that mode alone would.

    Each is tried in ``folds``-fold cross-validation on the training rows, in the order of the YAML, cheap ones first.
    The first that is no more than ``tolerance`` standard errors behind the best is taken. A candidate is given up when
    it is clearly behind after two folds or more, when its loss is not finite, when this source or these data do not
    allow it (formulas, or a source whose head is an estimator), or when it would take the time spent beyond
    ``max_seconds`` (null for no limit); it is left out with more training rows than ``most_rows`` says for it.
    The choice is logged and in ``spec["auto"]``.
    """
    rows = len(data.split["train"])
    if machine.ranks() > 1:
        # It chooses by the time that candidates take, which differs between processes.
        raise ConfigError("mode=auto compares modes in one process; start it without torchrun, or name the mode.")
    if not candidates:
        raise ConfigError("mode.candidates is empty; name at least one mode.")
    if folds < 2 or tolerance < 0:
        raise ConfigError(f"mode.folds={folds} must be 2 or more and mode.tolerance={tolerance} 0 or more.")
    if rows < 4:
        raise ConfigError(f"mode=auto needs 4 training rows to compare modes by, there are {rows}; name a mode.")
    folds = min(folds, rows)
    small = {name: mode for name, mode in candidates.items() if rows <= most_rows.get(name, rows)}
    if left_out := [name for name in candidates if name not in small]:
        fit.log({"event": "say", "text": f"Too many training rows for {', '.join(left_out)} (mode.most_rows)."})
    candidates = small
    if not candidates:
        raise ConfigError(f"mode.most_rows leaves no candidate for {rows} training rows; name one without a limit.")

    def say(text: str) -> None:
        fit.log({"event": "say", "text": text})

    say(
        f"Choosing among {', '.join(candidates)} by {folds}-fold cross-validation on the {rows:,} training rows; "
        "errors are MAE/MAD. Test rows are not looked at."
    )
    began = time.perf_counter()
    tried: dict[str, Tried] = {}
    for name, mode in candidates.items():
        left = None if max_seconds is None else max_seconds - (time.perf_counter() - began)
        rivals = [t.errors for t in tried.values() if not t.why]
        best = min(rivals, key=lambda errors: float(errors.mean())) if rivals else None
        with standing_at(f"mode.candidates.{name}", "mode"):
            found = tried[name] = _try(mode, source, data, fit, folds, best, left if rivals else None)
        known = found.errors[np.isfinite(found.errors)]
        error = f"{known.mean():.3f}" if len(known) else "-"
        say(f"  {name}: {error} ({found.seconds:.1f} s)" + (f", given up: {found.why}" if found.why else ""))
    whole = {name: t.errors for name, t in tried.items() if not t.why}
    if not whole:
        why = next(iter(tried.values())).why
        raise NumericError(f"No candidate of mode=auto could be trained; of the first: {why}")
    standing = cross_validation.standings(whole)
    name = cross_validation.chosen(standing, tolerance)
    reason = _reason(name, standing, tolerance)
    say(f"Chosen: {name}. {reason} The comparison took {time.perf_counter() - began:.1f} s.")
    table = {k: _row(t, standing.get(k)) for k, t in tried.items()}
    choice = {"chosen": name, "reason": reason, "folds": folds, "rows": rows, "measure": "MAE/MAD", "candidates": table}
    fit.log({"event": "auto", **choice})
    with standing_at(f"mode.candidates.{name}", "mode"):
        model = candidates[name](source, data, fit)
    model.spec["auto"] = choice
    return model


def idle_keys(node: Mapping[str, Any], config: Mapping[str, Any], /) -> dict[str, Idle]:
    """Return what no candidate reads (see ``instantiate.idle_keys``)."""
    limits = [name for name in node["most_rows"] or {} if name not in node["candidates"]]
    found = {f"most_rows.{name}": Idle(f"{{at}}.candidates has no {name}", "name one of those") for name in limits}
    told = [instantiate.idle_keys(mode, config, config.get("plugins") or ()) for mode in node["candidates"].values()]
    if told and all(TRAINING in keys for keys in told):
        why = "no candidate of {at}.candidates trains by steps"
        found[TRAINING] = Idle(why, "add one, as +mode@{at}.candidates.lora=lora")
    return found


def _try(
    mode: Mode,
    source: PropertyModel,
    data: Batches,
    fit: Fit,
    folds: int,
    best: Floats | None,
    left: float | None,
) -> Tried:
    """Cross-validate ``mode`` against the ``best`` errors so far, with so many seconds ``left``."""
    quiet = replace(fit, log=lambda event: None)
    errors = np.full(len(data.split["train"]), np.nan)
    began = time.perf_counter()
    for done, (fold, held) in enumerate(cross_validation.cut(data, fit.settings, folds, fit.seed), 1):
        try:
            errors[held.numpy()] = cross_validation.row_errors(mode(source, fold, quiet), fold, data)
        except (NumericError, InapplicableError) as error:
            return Tried(errors, done, time.perf_counter() - began, str(error))
        seconds = time.perf_counter() - began
        known = np.isfinite(errors)
        if done == folds:
            break
        if left is not None and seconds * folds / done > left:
            return Tried(errors, done, seconds, f"{folds} folds need about {seconds * folds / done:.0f} s")
        if done > 1 and best is not None and cross_validation.hopeless(errors[known], best[known]):
            return Tried(errors, done, seconds, f"clearly behind after {done} folds")
    why = "" if np.isfinite(errors).all() else "predictions are not finite"
    return Tried(errors, folds, time.perf_counter() - began, why)


def _reason(name: str, standing: dict[str, cross_validation.Standing], tolerance: float) -> str:
    best = min(standing, key=lambda k: standing[k].error)
    taken = standing[name]
    if name == best:
        return f"Its error is the lowest, {taken.error:.3f} ± {taken.standard_error:.3f}."
    return (
        f"It comes first of those that are no more than {tolerance:g} standard errors behind {best} "
        f"({standing[best].error:.3f}): {taken.behind:.3f} ± {taken.behind_standard_error:.3f}."
    )


def _row(tried: Tried, standing: cross_validation.Standing | None) -> dict[str, Any]:
    known = tried.errors[np.isfinite(tried.errors)]
    facts: dict[str, Any] = {"error": float(known.mean()) if len(known) else None}
    facts |= standing._asdict() if standing else {}
    return facts | {"folds": tried.folds, "seconds": round(tried.seconds, 2), "given_up": tried.why or None}
