"""The table of a study, one row a cell, made from the results files in the run folders: nothing is computed again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tltool.metrics import judged
from tltool.reporting import finished_runs
from tltool.reporting.finished_runs import Result
from tltool.run_folder import prediction_table
from tltool.study.axes import Axes
from tltool.study.cells import State, Task
from tltool.study.plan import Cell, Kind

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "study", "target", "source", "source_rows", "mode", "size", "draw", "seed", "split", "quantity", "unit", "metric",
    "error", "RMSE", "R2", "relative_error", "n_train", "n_test", "n_seen", "error_seen", "n_unseen", "error_unseen",
    "seconds", "state", "message", "folder",
)  # fmt: skip
"""Columns of the table. ``error`` is the test error in ``unit`` that ``metric`` names, as are those of the test
crystals that the source was trained on (``error_seen``) and was not (``error_unseen``); ``relative_error`` is that
divided by the error of always predicting the mean. ``size`` is empty for all rows; ``n_train`` is their number.
``source_rows`` is the size of the pretraining, if the study made it. ``seconds`` is the time of the run, that of others
which were trained with it included."""

_WHOLE = ("size", "source_rows", "draw", "seed", "n_train", "n_test", "n_seen", "n_unseen")


class Row(NamedTuple):
    """A finished cell and one quantity of it: the test error in ``unit`` that ``metric`` names, and the run."""

    cell: Cell
    quantity: str
    unit: str
    metric: str
    error: float
    run: Result


def rows(tasks: Iterable[Task]) -> list[Row]:
    """Return a row for every quantity of every cell whose run has finished and can be read."""
    found: list[Row] = []
    for task in tasks:
        if task.cell is None:
            continue
        with suppress(ValueError):
            run = finished_runs.read(task.folder, task.name, "transfer")
            found += [_row(task.cell, run, name) for name in run.quantities]
    return found


def frame(axes: Axes, tasks: Sequence[Task], states: Mapping[Path, State]) -> pd.DataFrame:
    """Return the table of a study: every planned cell, with the errors of those that have finished."""
    import pandas as pd

    sizes = {source.name: source.rows for source in axes.sources}
    done = rows(task for task in tasks if states[task.folder].word == "done")
    lines = [_line(axes, row.cell.kind, row.cell, sizes) | _errors(row) | {"state": "done"} for row in done]
    for task in tasks:
        state = states[task.folder]
        if task.cell is not None and state.word != "done":
            about = {"state": state.word, "message": state.message}
            lines.append(_line(axes, task.cell.kind, task.cell, sizes) | about)
    table = pd.DataFrame(lines, columns=COLUMNS)
    return table.astype(dict.fromkeys(_WHOLE, "Int64"))


def write(table: pd.DataFrame, folder: Path, name: str) -> None:
    """Write ``table`` as ``name``.csv and ``name``.parquet to ``folder``."""
    for suffix in (".csv", ".parquet"):
        prediction_table.write(table, folder / f"{name}{suffix}")


def _line(axes: Axes, kind: Kind, cell: Cell, sizes: Mapping[str, int | None]) -> dict[str, Any]:
    facts = {"target": kind.target, "source": kind.source, "mode": kind.mode, "size": kind.size, "split": kind.split}
    own = {"study": axes.name, "source_rows": sizes[kind.source], "draw": cell.draw, "folder": str(cell.folder)}
    return facts | own | {"message": ""}


def _row(cell: Cell, run: Result, name: str) -> Row:
    unit = str(run.quantities[name].get("unit") or "")
    return Row(cell, name, unit, judged(run.about(name)).error, run.error(name), run)


def _errors(row: Row) -> dict[str, Any]:
    run, about = row.run, judged(row.run.about(row.quantity))
    block = run.quantities[row.quantity]
    found: dict[str, Any] = {
        "quantity": row.quantity,
        "unit": row.unit,
        "metric": about.error,
        "error": row.error,
        "relative_error": run.metric(row.quantity, about.relative),
        "seed": run.seed,
        "n_train": run.train_size,
        "n_test": block["test"].get("n"),
        "seconds": run.seconds,
    }
    found |= {name: run.metric(row.quantity, name) for name in ("RMSE", "R2")}
    whole = _overlap(run.folder)
    for kind in ("seen", "unseen"):
        part = block.get(kind) or (block["test"] if whole == kind else {})
        found |= {f"n_{kind}": part.get("n", 0 if whole else None), f"error_{kind}": part.get(about.error, math.nan)}
    return found


def _overlap(folder: Path) -> str:
    """Return ``seen`` or ``unseen`` if all test rows of a run are: then metrics.json has no block for them alone."""
    with suppress(OSError, ValueError):
        counts = json.loads((folder / "metrics.json").read_text(encoding="utf-8")).get("overlap") or {}
        known = {key: n for key, n in counts.items() if isinstance(n, int) and n}
        if set(known) == {"unseen"}:
            return "unseen"
        if known and not {"unseen", "unknown"} & set(known):
            return "seen"
    return ""
