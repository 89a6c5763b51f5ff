"""Predictions of all five official folds of a Matbench task, in the format of the results files of its leaderboard.

The format is that of ``MatbenchBenchmark.to_file`` of the package matbench, version 0.4: predictions by published id
and four scores for each fold, and a sha256 over all of it. The package itself is not needed.
"""

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tltool.data.matbench_folds import FOLDS, TASKS
from tltool.reporting.comparable import grouped
from tltool.reporting.finished_runs import Result, predictions
from tltool.study.plan import Kind
from tltool.study.table import Row

_BENCHMARK, _VERSION = "matbench_v0.1", "0.4"
_LEAST = 1e-5  # labels nearer to zero have no share in the mean percentage error


def files(rows: Sequence[Row]) -> Iterator[tuple[Kind, dict[str, Any]]]:
    """Yield the content of a results file for each mode and source that has predicted all folds of a task of numbers.

    A task is recognised by its data; a test row without a prediction, which was left out as damaged, ends it.
    """
    for kind, some in grouped(rows, lambda row: row.cell.kind).items():
        runs = {row.run.fold: row.run for row in some if row.run.fold is not None}
        task = some[0].run.data
        if kind.size is None and set(runs) == set(range(FOLDS)) and task in TASKS and not TASKS[task].classes:
            folds = {f"fold_{fold}": _fold(run, some[0].quantity) for fold, run in sorted(runs.items())}
            if sum(len(fold["data"]) for fold in folds.values()) == TASKS[task].rows:
                yield kind, _benchmark(task, folds, kind)


def write(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write each results file to ``folder`` as JSON, compressed; return their paths."""
    found = []
    for kind, content in files(rows):
        folder.mkdir(exist_ok=True)
        path = folder / f"{kind.target}-{kind.mode}-{kind.source}.json.gz".replace("/", "_")
        path.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))
        found.append(path)
    return found


def digest(content: Mapping[str, Any]) -> str:
    """Return the sha256 of a results file without its own, as the package computes it: of its JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _benchmark(task: str, folds: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    about = {"algorithm": f"tltool {kind.mode}", "source": kind.source}
    content = {
        "@module": "matbench.bench",
        "@class": "MatbenchBenchmark",
        "version": _VERSION,
        "benchmark_name": _BENCHMARK,
        "user_metadata": about,
        # Without a clock the same runs give the same file.
        "datestamp": "1970.01.01 00:00.00",
        "tasks": {
            task: {
                "@module": "matbench.task",
                "@class": "MatbenchTask",
                "benchmark_name": _BENCHMARK,
                "dataset_name": task,
                "results": dict(folds),
            }
        },
    }
    return content | {"hash": digest(content)}


def _fold(run: Result, quantity: str) -> dict[str, Any]:
    rows = predictions([run], quantity)
    if rows is None:
        return {"data": {}, "parameters": {}, "scores": {}}
    label, found = rows["label"].to_numpy(float), rows["prediction"].to_numpy(float)
    error, is_far = np.abs(found - label), np.abs(label) > _LEAST
    scores = {
        "mae": float(error.mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "mape": float((error[is_far] / np.abs(label[is_far])).mean()),
        "max_error": float(error.max()),
    }
    data = dict(zip(rows["id"].astype(str), found.tolist(), strict=True))
    return {"data": data, "parameters": {"train_rows": run.train_size, "seed": run.seed}, "scores": scores}
