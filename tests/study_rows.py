"""Descriptions of studies, and finished cells of one without a run."""

from pathlib import Path
from typing import Any

import numpy as np
from support import config

from tltool.reporting.finished_runs import Result
from tltool.study.axes import Axes, read
from tltool.study.plan import Cell, Kind
from tltool.study.summary import Summary, summarise
from tltool.study.table import Row


def node(**changes: Any) -> dict[str, Any]:
    """Return the description of the demo with some keys changed."""
    return {**config("study", "study=demo")["study"], **changes}


def axes(**changes: Any) -> Axes:
    return read(node(**changes))


def row(
    mode: str, size: int, draw: int, error: float, *, source: str = "pbe", folder: Path = Path(), **keys: Any
) -> Row:
    """Return a finished cell; cells of one size and draw have the same rows."""
    rows = {"train": f"{size} {draw}", "test": {"gap": "test"}} | keys.pop("identity", {})
    block = {"unit": "eV", "test": {"n": 10, "MAE": error}, **keys.pop("block", {})}
    run = Result(
        folder=folder, name="", stage="transfer", mode=mode, target="gaps", data="gaps", seed=draw, split_seed=0,
        draw=draw, fold=None, train_size=size, source=source, trainable_parameters=1.0, seconds=1.0,
        quantities={"gap": block}, citations=("Doe, J. Res. 1, 2 (2020)",), settings={}, identity=rows,
    )  # fmt: skip
    kind = Kind("gaps", source, mode, size, keys.pop("split", "random"))
    return Row(Cell(kind, draw, folder), "gap", "eV", "MAE", error, run)


def rows(gain: float = 0.8, sizes: tuple[int, ...] = (50, 100, 200), draws: int = 6, noise: float = 0.02) -> list[Row]:
    """Return cells of scratch and of a mode whose error is ``gain`` times that of scratch, with noise of both."""
    made = np.random.default_rng(0)
    found = []
    for size in sizes:
        for draw in range(draws):
            base = size**-0.4 * float(np.exp(noise * made.normal()))
            found.append(row("scratch", size, draw, base))
            found.append(row("tuned", size, draw, gain * base * float(np.exp(noise * made.normal()))))
    return found


def summary_of(found: list[Row], *splits: str) -> Summary:
    """Return the statistics of cells of the modes scratch and tuned, with a random split and ``splits``."""
    given: dict[str, Any] = {"targets": {"gaps": {}}, "modes": {"scratch": {}, "tuned": {"mode": "finetune"}}}
    given |= {"sources": {"pbe": {"source": "bundled"}}, "claims": []}
    return summarise(axes(**given, splits={name: [] for name in ("random", *splits)}), found)
