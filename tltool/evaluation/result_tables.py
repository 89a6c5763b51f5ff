"""Show the results of a run on the terminal: tables of errors and of predictions, and one line for a run of a sweep."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from tltool import metrics
from tltool.evaluation import class_labels
from tltool.metrics import Metric
from tltool.quantities import defined, shipped
from tltool.run_folder.console import show

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 20  # predictions on the screen
_MOST_SHOWN = 5  # classes whose probabilities are among them


def show_errors(summary: Mapping[str, Any], part: str) -> None:
    """Print the errors on ``part`` in ``metrics.json``, each with its unit."""
    heading = " ".join(filter(None, [summary["stage"], summary.get("mode"), summary["target"]]))
    heading += f", seed {summary['seed']}" if summary.get("seed") is not None else ""
    heading += f", {summary['train_size']:,} training crystals" if summary.get("train_size") else ""
    about = [defined(name, block["definition"]) for name, block in summary["quantities"].items()]
    shown = [metric for metric in metrics.METRICS if any(metric.applies_to(one) for one in about)]
    table = Table(title=heading)
    for column in ("quantity", "unit", f"n {part}", *(metric.name for metric in shown)):
        table.add_column(column, justify="left" if column in ("quantity", "unit") else "right")
    for one in about:
        found = summary["quantities"][one.name]
        table.add_row(*_error_row(one.name, one.unit, found[part], shown))
        for kind, errors in _of_subsets(found).items() if part == "test" else ():
            table.add_row(*_error_row(f"  {kind}", one.unit, errors, shown))
        if one.log10_of and f"MAE_{one.log10_of}" in found[part]:
            plain = {"n": found[part]["n"], "MAE": found[part][f"MAE_{one.log10_of}"]}
            table.add_row(*_error_row(one.log10_of, shipped()[one.log10_of].unit, plain, shown))
    show(table)


def show_predictions(table: "pd.DataFrame") -> None:
    """Print the first predictions of a ``Predictor``, with as many digits as their intervals are worth."""
    good = table[table.prediction.notna()]
    likely = [str(c) for c in table if str(c).startswith(class_labels.PROBABILITY)]
    columns = ["id", "formula", "quantity", "prediction", *[c for c in ("lower", "upper") if c in table], "unit"]
    columns += likely if len(likely) <= _MOST_SHOWN else []
    columns += [column for column in ("far", "unseen_elements") if column in table]
    shown = Table(title=f"{min(len(good), _SHOWN)} of {len(good):,} predictions" if len(good) > _SHOWN else None)
    for column in columns:
        shown.add_column(column, justify="right" if column in ("prediction", "lower", "upper") else "left")
    for row in good.head(_SHOWN).to_dict("records"):
        width = row.get("upper", math.nan) - row.get("lower", math.nan)
        words: dict[str, str] = {
            key: digits(row[key], width)
            for key in ("prediction", "lower", "upper")
            if isinstance(row.get(key), float | int)
        }
        words |= {"far": "far" if row.get("far") is True else ""}
        words |= {str(key): "" if math.isnan(row[key]) else f"{row[key]:.2f}" for key in likely}
        shown.add_row(*(words.get(str(column), str(row[column])) for column in columns))
    if len(good):
        show(shown)


def in_a_line(folder: Path) -> str:
    """Return the test error that models are compared by, of each quantity of the run in ``folder``, in one line."""
    found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["quantities"]
    words = []
    for name, block in found.items():
        about, errors = defined(name, block["definition"]), block.get("test", {})
        if (error := errors.get(metrics.judged(about).error)) is not None:
            called = f"{name} " if len(found) > 1 else ""
            words.append(f"{called}{metrics.judged(about).error} {error:.4g}{'' if about.is_class else about.in_unit}")
    return ", ".join(words)


def digits(value: float, width: float) -> str:
    """Print ``value`` so that half the ``width`` of its interval has two digits; four digits without one."""
    if not math.isfinite(value):
        return ""
    if not math.isfinite(width) or width <= 0:
        return f"{value:.4g}"
    places = 1 - math.floor(math.log10(width / 2))
    return f"{round(value, places) + 0.0:.{max(places, 0)}f}"  # no -0


def _of_subsets(found: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Return the errors of a quantity on each subset of the test rows."""
    subsets = {kind: found[kind] for kind in ("seen", "unseen", "unknown") if kind in found}
    return {**subsets, **found.get("functionals", {})}


def _error_row(name: str, unit: str, errors: Mapping[str, float], shown: Sequence[Metric]) -> list[str]:
    numbers = [format(errors[m.name], m.style or ".4g") if m.name in errors else "" for m in shown]
    return [escape(name), escape(unit), str(errors["n"]), *numbers]
