"""What is left of a study in seconds: its pretrainings and its cells, from what was done before or from rates."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from tltool.errors import TltoolError
from tltool.reporting import finished_runs
from tltool.reporting.comparable import grouped
from tltool.reporting.wording import plural
from tltool.run_folder import bundled_models, status
from tltool.study import cells, rates, timing
from tltool.study.cells import Task
from tltool.study.plan import Kind
from tltool.study.rates import Past
from tltool.study.timing import Estimate


def of_cells(left: Sequence[Kind], tasks: Sequence[Task], sources: Sequence[Task]) -> Estimate:
    """Return how long the kinds of cells ``left`` take, from those of ``tasks`` that are done, or by rates.

    ``sources`` are pretrainings, whose encoders are those of the cells that start from them.
    """
    done = list(cells.iterate_done(tasks))
    shares = timing.shares([span for _, span in done])
    times = grouped(
        zip((task for task, _ in done), shares, strict=True), lambda pair: pair[0].cell and pair[0].cell.kind
    )
    measured = {kind: [share for _, share in some] for kind, some in times.items() if kind}
    configs = {task.cell.kind: task.config for task in tasks if task.cell and task.config}
    encoders = {str(task.folder): rates.encoder(task.config["encoder"]) for task in sources}

    def guess(kind: Kind, rows: int) -> float:
        config = configs[kind]
        source = str(config["source"])
        if source not in encoders:
            encoders[source] = _encoder(source)
        return rates.of_cell(rows, config["mode"], int(config["fit"]["epochs"]), encoders[source])

    return timing.estimate([kind for kind in left if kind in configs], measured, guess)


def said(waiting: Sequence[Task], trained: Sequence[Task]) -> str:
    """Return in a sentence how many pretrainings come first and how long they take, as far as that can be known."""
    measured = [(rates.encoder(task.config["encoder"]), past) for task in trained for past in _past(task)]
    times = [_seconds(task.config, measured) for task in waiting]
    known = [seconds for seconds in times if seconds is not None]
    first = f"{plural(len(waiting), 'pretraining')} {'comes' if len(waiting) == 1 else 'come'} first"
    if not known:
        return f"{first}; how long is not known: of all rows, or with an encoder without a rate."
    who = f"{len(known):,} of them" if len(known) < len(waiting) else "they"
    how = "by those that are done" if measured else "by the rates of their encoders"
    takes = "it takes" if len(waiting) == 1 else f"{who} take"
    return f"{first}; {takes} about {timing.told(sum(known))} ({how}), without preparing the data."


def _seconds(config: Mapping[str, Any], measured: Sequence[tuple[str, Past]]) -> float | None:
    rows, name = config["split"].get("train_size"), rates.encoder(config["encoder"])
    if not isinstance(rows, int):
        return None
    like = [past for other, past in measured if other == name]
    return rates.of_pretraining(float(rows * config["fit"]["epochs"]), name, like)


def _past(task: Task) -> Iterator[Past]:
    """Yield the work and seconds of a pretraining that has finished."""
    if status.read(task.folder).get("state") == "finished":
        with suppress(ValueError):
            run = finished_runs.read(task.folder, task.name, "pretrain")
            epochs = task.config["fit"]["epochs"]
            if run.train_size and run.seconds > 0:
                yield Past(float(run.train_size * epochs), run.seconds)


def _encoder(source: str) -> str:
    """Return the name of the encoder of a model, or of the pretraining that is to make it; empty if unknown."""
    with suppress(OSError, ValueError, TypeError, yaml.YAMLError, TltoolError):
        folder = bundled_models.folder(source) if bundled_models.is_one(source) else Path(source)
        for name in ("model.yaml", "model/model.yaml", "config.yaml"):
            if (folder / name).is_file():
                found = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
                return rates.encoder(found.get("encoder") or {})
    return ""
