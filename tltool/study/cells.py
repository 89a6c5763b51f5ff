"""The runs of a study: their configs, which of them are done, and how they are run, many at once.

Every run is an ordinary pretraining or transfer in a folder of its own, as one of a sweep.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tltool import machine
from tltool.command_line import early_checks, job, launch, overrides
from tltool.data import own_labels
from tltool.errors import ConfigError, TltoolError
from tltool.run_folder import status
from tltool.run_folder.find import model_folder, source_folder
from tltool.run_folder.run import Company, Run
from tltool.study import plan
from tltool.study.axes import Axes, Source
from tltool.study.plan import Cell, Series
from tltool.study.timing import Span
from tltool.training.saved_state import finished_cells

_PASSED_ON = ("device", "threads", "workers", "kernels", "cache", "checks", "limits", "plugins")
"""Keys of every stage that all runs of a study take from it."""


class Task(NamedTuple):
    """A run of a study: its stage, a name for people, its folder, its config, and the words of its command.

    ``fault`` says why there is no config. ``cell`` is None for a pretraining.
    """

    stage: str
    name: str
    folder: Path
    config: Mapping[str, Any]
    words: list[str]
    fault: str = ""
    cell: Cell | None = None


class Own(NamedTuple):
    """What all runs of a study share: the keys it hands on, as config and as words, and the user's YAML folders."""

    keys: Mapping[str, Any]
    words: list[str]
    folders: list[Path]
    runs: Path
    seed: int


class State(NamedTuple):
    """Whether a task is ``done``, ``failed`` (with a ``message``) or ``left`` to do."""

    word: str
    message: str = ""


def shared(config: Mapping[str, Any], folder: Path) -> Own:
    """Return what the runs of the study in ``folder`` take from its ``config``."""
    words, folders = overrides.of_this_command()
    passed = [word for word in words if _key(word).partition(".")[0] in _PASSED_ON]
    keys = {key: config[key] for key in _PASSED_ON} | {"runs": str(folder)}
    return Own(keys, passed, folders, Path(str(config["runs"])), int(config["seed"]))


def of_sources(axes: Axes, own: Own, folder: Run) -> list[Task]:
    """Return the pretrainings of a study; raise the error of one whose config is wrong."""
    found = []
    for source in axes.sources:
        if not source.given:
            words = [*own.words, *source.words, f"seed={own.seed}"]
            config = _plain("pretrain", launch.cell("pretrain", words, own.folders), own, folder)
            early_checks.check("pretrain", config)
            place = plan.source_folder(folder.folder, source)
            found.append(Task("pretrain", f"source {source.name}", place, config, words))
    return found


def source_paths(axes: Axes, own: Own, folder: Run) -> dict[str, str]:
    """Return {name of a source: what ``source=`` is for it}; raise CheckpointError for one that is not there."""
    return {source.name: _path(source, own, folder) for source in axes.sources}


def of_cells(axes: Axes, series: Iterable[Series], paths: Mapping[str, str], own: Own, folder: Run) -> list[Task]:
    """Return the transfers of ``series``; a wrong config is the fault of its cells, unless all have one.

    Raises ConfigError for an override that no transfer reads, and for a mistake that all cells share.
    """
    found: list[Task] = []
    composed: list[overrides.Cell] = []
    for one in series:
        words = [*own.words, *one.words]
        try:
            made = launch.cell("transfer", words, own.folders)
            base = _plain("transfer", made, own, folder)
        except TltoolError as error:
            found += [_task(cell, {}, words, str(error)) for cell in one.cells]
            continue
        composed.append(made)
        idle = overrides.unread("transfer", made)
        one = one._replace(words=tuple(word for word in one.words if _key(word) not in idle))
        found += [_of_cell(one, cell, base, paths[cell.kind.source], own) for cell in one.cells]
    if found and all(task.fault for task in found):
        raise ConfigError(found[0].fault)
    overrides.refuse("transfer", composed, sweep=True)
    return found


def state(task: Task, *, again: bool) -> State:
    """Return whether ``task`` is done; one that failed with the same config is left alone unless ``again``."""
    if task.fault:
        return State("failed", task.fault)
    about = status.read(task.folder)
    if finished_cells.is_done(task.folder, task.config):
        return State("done")
    if about.get("state") == "failed" and not again and _is_same(task):
        return State("failed", str(about.get("message")))
    return State("left")


def run(tasks: Sequence[Task]) -> None:
    """Run ``tasks``, many at once; what became of each stands in its folder."""
    if not tasks:
        return
    if not machine.has_parts("sweep", "model.kernels"):
        for task in tasks:
            job.run(task.stage, task.config, task.folder, task.words, of_many=True)
        return
    from tltool.sweep import processes

    named = {task.folder: task for task in tasks}

    def work(one: processes.Job, company: Company) -> int:
        task = named[one.folder]
        # A pretraining saves its state, which several that are trained at once do not.
        alone = company._replace(ask=lambda question: None) if task.stage == "pretrain" else company
        return job.run(task.stage, task.config, task.folder, task.words, alone, of_many=True)

    processes.run([processes.Job(t.config, t.folder, t.name) for t in tasks], work, apart=True)


def span(folder: Path) -> Span | None:
    """Return when the run in ``folder`` began and ended, if it is known."""
    about = status.read(folder)
    with suppress(ValueError, TypeError):
        return Span(*(datetime.fromisoformat(str(about.get(key))).timestamp() for key in ("started", "finished")))
    return None


def _of_cell(series: Series, cell: Cell, base: Mapping[str, Any], path: str, own: Own) -> Task:
    try:
        config = plan.drawn(base, cell, path, own.seed)
        words = [*own.words, *plan.command(series, config)]
        early_checks.check("transfer", {**config, "source": "bundled"})  # the source may be yet to come
    except TltoolError as error:
        return _task(cell, {}, [], str(error))
    return _task(cell, config, words)


def _task(cell: Cell, config: Mapping[str, Any], words: list[str], fault: str = "") -> Task:
    kind = cell.kind
    rows = "all rows" if kind.size is None else f"{kind.size:,} rows"
    split = f", {kind.split}" if kind.split != "random" else ""
    name = f"{kind.target}{split}, {rows}, {kind.mode} from {kind.source}, draw {cell.draw}"
    return Task("transfer", name, cell.folder, config, words, fault, cell)


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _path(source: Source, own: Own, folder: Run) -> str:
    if not source.given:
        return str(plan.source_folder(folder.folder, source))
    if source.given == "latest":
        return str(source_folder("latest", own.runs, folder.say))
    model_folder(source.given, own.runs, "pretrain")
    return source.given


def _plain(stage: str, made: overrides.Cell, own: Own, folder: Run) -> dict[str, Any]:
    """Return the config of a run as plain values, with the keys that the study hands on."""
    plain = launch.plain(stage, made)
    return own_labels.settled(plain | dict(own.keys), own_labels.of_folders(own.folders), folder.say)


def _is_same(task: Task) -> bool:
    """Say if the run in the folder of ``task`` had the same config and data."""
    with suppress(OSError, ValueError, yaml.YAMLError):
        old = yaml.safe_load((task.folder / "config.yaml").read_text(encoding="utf-8"))
        return finished_cells.digest(old) == finished_cells.digest(json.loads(json.dumps(dict(task.config))))
    return False


def iterate_done(tasks: Iterable[Task]) -> Iterator[tuple[Task, Span]]:
    """Yield every task of a cell that has finished, with when it was at work."""
    for task in tasks:
        at = span(task.folder) if status.read(task.folder).get("state") == "finished" else None
        if task.cell is not None and at is not None:
            yield task, at
