"""Read finished runs from their folders: errors, predictions and epochs; models and data sets are not read.

A run folder is any folder with a status.json. Only runs that measure errors (pretrain, transfer, eval) are read.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tltool.errors import ConfigError, DataError
from tltool.metrics import judged
from tltool.quantities import Quantity, defined, shipped
from tltool.renamed import brought_up

if TYPE_CHECKING:
    import pandas as pd

Curve = dict[int, float]
STAGES = ("pretrain", "transfer", "eval")


class Result(NamedTuple):
    """The content of metrics.json of a finished run.

    ``name`` is the folder relative to the common folder of all runs. ``mode`` of pretrain and eval runs is their stage.
    ``source`` is the source model of a transfer, or the model of an evaluation. ``seconds`` is the time of the whole
    run. ``quantities`` is {quantity: {"unit": ..., "definition", "train", "val", "test": {metric: number}}}.
    ``settings`` of a transfer are its ``mode``, ``fit`` and ``optimiser`` as in the YAML. ``identity`` describes the
    data and settings behind the errors (``tltool.evaluation.digests``). Both are empty for runs of older versions.
    ``replay`` is what a transfer with ``mode.replay`` measured of its source (``tltool.transfer.steps.replay``).
    """

    folder: Path
    name: str
    stage: str
    mode: str
    target: str
    data: str
    seed: int | None
    split_seed: int | None
    draw: int | None
    fold: int | None
    train_size: int | None
    source: str
    trainable_parameters: float
    seconds: float
    quantities: dict[str, dict[str, Any]]
    citations: tuple[str, ...]
    settings: dict[str, Any]
    identity: dict[str, Any]
    replay: dict[str, Any] = {}  # noqa: RUF012 - nothing writes into it

    def metric(self, quantity: str, metric: str) -> float:
        """Return a metric of the test set, in the quantity's unit; NaN if it is missing or not finite."""
        block = self.quantities[quantity].get("test")
        return _number(block.get(metric)) if isinstance(block, dict) else math.nan

    def error(self, quantity: str) -> float:
        """Return the test error that models are compared by (``metrics.judged``); NaN if it is missing."""
        return self.metric(quantity, judged(self.about(quantity)).error)

    def about(self, quantity: str) -> Quantity | None:
        """Return the quantity as the run defines it; None if it does not, and no quantity of that name ships."""
        try:
            return defined(quantity, self.quantities[quantity]["definition"])
        except (KeyError, ConfigError):
            return shipped().get(quantity)


class Skipped(NamedTuple):
    """A run that is not in the report: its name as in ``Result``, its state (or ``damaged``), and the reason."""

    name: str
    state: str
    reason: str


class Runs(NamedTuple):
    """The result of ``collect``: the common folder of all runs, the finished runs, and the runs left out."""

    root: Path
    results: list[Result]
    skipped: list[Skipped]


def collect(folders: Sequence[Path]) -> Runs:
    """Read all runs in ``folders`` and their subfolders; unfinished and damaged runs are in ``skipped``.

    Raise DataError if a folder does not exist or no run is finished.
    """
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; name the folder with the runs.")
    places = sorted({file.parent.resolve() for folder in folders for file in folder.rglob("status.json")})
    root = Path(os.path.commonpath([place.parent for place in places]) if places else ".")
    found = [run for place in places if (run := _read(place, os.path.relpath(place, root)))]
    results = [run for run in found if isinstance(run, Result)]
    skipped = [run for run in found if isinstance(run, Skipped)]
    if not results:
        left = f" ({len(skipped)} unfinished or damaged)" if skipped else ""
        raise DataError(
            f"There is no finished run in {', '.join(map(str, folders))}{left}; make one with `tltool transfer "
            "target=bulk_modulus`."
        )
    return Runs(root, results, skipped)


def predictions(runs: Iterable[Result], quantity: str) -> pd.DataFrame | None:
    """Return the labelled test rows of every predictions.csv of ``runs`` that can be read; None if there are none.

    Columns: id, label, prediction and absolute ``error`` in the quantity's unit, elements, unseen_elements. Label and
    prediction of a class are their places among the classes, ``error`` is the probability of the wrong classes, and
    ``p_0``, ``p_1``, ... are the probabilities by place.
    """
    import pandas as pd

    columns = ["id", "label", "prediction", "error", "elements", "unseen_elements"]
    tables = []
    for run in runs:
        about = run.about(quantity)
        with suppress(OSError, ValueError, KeyError):
            # Read plain text: a formula or an id may be "NaN" or "NA".
            rows = pd.read_csv(run.folder / "predictions.csv", dtype=str, keep_default_na=False)
            rows = rows[(rows["split"] == "test") & (rows["quantity"] == quantity)].copy()
            likely = _of_class(rows, about.class_names) if about is not None and about.is_class else []
            if not likely:
                for column in ("label", "prediction"):
                    rows[column] = pd.to_numeric(rows[column], errors="coerce")
                rows["error"] = (rows["prediction"] - rows["label"]).abs()
            rows = rows.loc[rows["error"] < math.inf, [*columns, *likely]]
            tables += [rows] if len(rows) else []
    return pd.concat(tables, ignore_index=True) if tables else None


def _of_class(rows: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Put numbers in the place of the words in ``rows``, add their errors, and return the columns of probabilities."""
    import pandas as pd

    place = {name: float(k) for k, name in enumerate(names)}
    found = rows[[f"p_{name}" for name in names]].apply(pd.to_numeric, errors="coerce").to_numpy()
    for column in ("label", "prediction"):
        rows[column] = rows[column].map(place)
    label = rows["label"].to_numpy(float)
    right = np.nan_to_num(label).astype(int)
    rows["error"] = np.where(np.isnan(label), np.nan, 1.0 - found[np.arange(len(found)), right])
    for k in range(len(names)):
        rows[f"p_{k}"] = found[:, k]
    return [f"p_{k}" for k in range(len(names))]


def epochs(run: Result, quantity: str) -> tuple[Curve, Curve]:
    """Return validation MAE (in the quantity's unit) and training loss by epoch; the last value of a repeated epoch."""
    val: Curve = {}
    loss: Curve = {}
    for event in _events(run, "epoch"):
        with suppress(ValueError, KeyError, TypeError):
            loss[event["epoch"]] = float(event["train_loss"])
            val[event["epoch"]] = float(event["val_MAE"][quantity])
    return val, loss


def kept_epoch(run: Result) -> int | None:
    """Return the epoch whose weights the run kept; None if it trained by no epochs, or its log does not say."""
    found = [event.get("epoch") for event in _events(run, "kept")]
    return found[-1] if found and isinstance(found[-1], int) else None


def _events(run: Result, kind: str) -> Iterator[dict[str, Any]]:
    log = run.folder / "log.jsonl"
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else ():
        # A crash may leave an incomplete line; skip it.
        with suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict) and event.get("event") == kind:
                yield event


def _read(folder: Path, name: str) -> Result | Skipped | None:
    """Read one run folder; return None for a stage without errors (prepare, predict, report)."""
    try:
        status = _json(folder / "status.json")
        state, stage = str(status.get("state")), str(status.get("stage"))
        if stage not in STAGES:
            return None
        if state != "finished":
            return Skipped(name, state, str(status.get("message") or "not finished"))
        return read(folder, name, stage)
    except ValueError as error:
        return Skipped(name, "damaged", str(error))


def read(folder: Path, name: str, stage: str) -> Result:
    """Return the content of metrics.json of one run; raise ValueError if it is damaged."""
    found = _json(folder / "metrics.json")
    quantities, citations = found.get("quantities"), found.get("citations")
    if not isinstance(quantities, dict) or not all(isinstance(q, dict) for q in quantities.values()) or not quantities:
        raise ValueError("metrics.json has no quantities")
    return Result(
        folder=folder,
        name=name,
        stage=stage,
        mode=str(found.get("mode")) if stage == "transfer" else stage,
        target=str(found.get("target")),
        data=str(found.get("data")),
        seed=_whole(found.get("seed")),
        split_seed=_whole(found.get("split_seed")),
        draw=_whole(found.get("draw")),
        fold=_whole(found.get("fold")),
        train_size=_whole(found.get("train_size")),
        source=str(found.get("model" if stage == "eval" else "source") or ""),
        trainable_parameters=_number(found.get("trainable_parameters")),
        seconds=_number(found.get("seconds")),
        quantities=quantities,
        citations=tuple(map(str, citations)) if isinstance(citations, list) else (),
        settings=brought_up(_table(found.get("settings"))),
        identity=_table(found.get("identity")),
        replay=_table(found.get("replay")),
    )


def command(run: Result) -> list[str]:
    """Return the command line of a run from its environment.json, as words; empty if it is not there."""
    with suppress(ValueError):
        return shlex.split(str(_json(run.folder / "environment.json").get("command") or ""))
    return []


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ValueError(f"{path.name} is missing") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path.name} is not a JSON object: {error}") from error


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else math.nan


def _whole(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number.is_integer() else None
