"""``tltool study``: many transfers by source, target, mode and size; one table and one page over them."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tltool.errors import ConfigError, TltoolError
from tltool.reporting.comparable import grouped
from tltool.reporting.wording import plural
from tltool.run_folder.run import Run
from tltool.study import axes as described
from tltool.study import cells, expected, outputs, plan, timing
from tltool.study.axes import Axes
from tltool.study.cells import State, Task
from tltool.study.page import wording
from tltool.training.backend import Backend

_FAILED = ("leave", "again")


def run(config: Mapping[str, Any], folder: Run, backend: Backend, /) -> None:
    """Run what is left of the study ``config['study']`` in ``folder``; write its table and its page.

    Raises the error of the first run that failed, when all others have ended.
    """
    axes, again = described.read(config["study"]), config["failed"] == "again"
    if config["failed"] not in _FAILED:
        raise ConfigError(f"failed={config['failed']} is not known; use {' or '.join(_FAILED)}.")
    pilot = config["pilot"]
    if pilot is not None and (not isinstance(pilot, int) or pilot < 1):
        raise ConfigError(f"pilot={pilot} must be a number of draws, or null.")
    (folder.folder / "error.log").unlink(missing_ok=True)  # of an earlier command
    own = cells.shared(config, folder.folder)
    series = plan.plan(axes, folder.folder)
    sources = cells.of_sources(axes, own, folder)
    tasks = cells.of_cells(axes, series, cells.source_paths(axes, own, folder), own, folder)
    asked = [task for task in tasks if pilot is None or (task.cell and task.cell.draw < pilot)]
    folder.say(_planned(axes, sources, asked))
    if config["dry_run"]:
        _tell_time(axes, sources, asked, tasks, folder, again=again)
        return
    lost = _train_sources(sources, folder, again=again)
    if lost:
        asked = [task for task in asked if _source(task) not in lost]
    _tell_time(axes, (), asked, tasks, folder, again=again)
    for _, some in groupby(asked, key=_place):
        part = list(some)
        left = [task for task in part if cells.state(task, again=again).word == "left"]
        cells.run(left)
        if left and part[-1] is not asked[-1]:
            outputs.write(axes, tasks, _states(tasks, lost), folder.folder)
            _tell_time(axes, (), asked, tasks, folder, again=again)
    _finish(axes, tasks, asked, lost, folder)


def _planned(axes: Axes, sources: Sequence[Task], asked: Sequence[Task]) -> str:
    trained = f" and {plural(len(sources), 'pretraining')}" if sources else ""
    parts = {"source": axes.sources, "target": axes.targets, "mode": axes.modes, "size": axes.draws}
    counts = ", ".join(plural(len(some), word) for word, some in parts.items())
    splits = "1 kind of split" if len(axes.splits) == 1 else f"{len(axes.splits)} kinds of split"
    return f"Study {axes.name}: {wording.cells(len(asked))}{trained} ({counts}, {splits})."


def _train_sources(sources: Sequence[Task], folder: Run, *, again: bool) -> dict[str, State]:
    """Train the sources that are not there yet; return {name: state} of those that failed."""
    left = [task for task in sources if cells.state(task, again=again).word == "left"]
    if len(left) < len(sources):
        folder.say(
            f"{len(sources) - len(left):,} of {plural(len(sources), 'source')} trained already, or failed before."
        )
    cells.run(left)
    states = {task.folder.name: cells.state(task, again=False) for task in sources}
    lost = {name: state for name, state in states.items() if state.word != "done"}
    for name, state in lost.items():
        folder.say(f"Source {name} is not there, and its cells are left out: {state.message}")
    return lost


def _tell_time(
    axes: Axes, sources: Sequence[Task], asked: Sequence[Task], tasks: Sequence[Task], folder: Run, *, again: bool
) -> None:
    """Say how many cells are done, failed and left, and how long the rest takes."""
    states = [cells.state(task, again=again).word for task in asked]
    left = [task.cell.kind for task, word in zip(asked, states, strict=True) if task.cell and word == "left"]
    found = expected.of_cells(left, tasks, sources)
    done, failed = states.count("done"), states.count("failed")
    text = f"{wording.cells(done)} {'is' if done == 1 else 'are'} done, {failed:,} failed, {len(left):,} left"
    if left:
        how = f"{found.measured:,} by measured times of like cells"
        how += ", the others by those of other targets or by rates that ship" if found.measured < found.cells else ""
        text += f"; {'it takes' if len(left) == 1 else 'they take'} about {timing.told(found.seconds)} ({how})"
    folder.say(text + ".")
    if left and found.measured < found.cells:
        folder.say("That is rough; pilot=1 runs one cell of each kind, after which the times are measured.")
    waiting = [task for task in sources if cells.state(task, again=again).word == "left"]
    if waiting:
        folder.say(expected.said(waiting, [task for task in sources if task not in waiting]))


def _states(tasks: Sequence[Task], lost: Mapping[str, State]) -> dict[Path, State]:
    """Return the state of every cell, as its folder and the state of its source say."""
    found = {task.folder: cells.state(task, again=False) for task in tasks}
    for task in tasks:
        if (why := lost.get(_source(task))) and found[task.folder].word != "done":
            found[task.folder] = State("failed", f"its source failed: {why.message}")
    return found


def _finish(axes: Axes, tasks: Sequence[Task], asked: Sequence[Task], lost: Mapping[str, State], folder: Run) -> None:
    """Write the outputs, say where they are, and raise the first error of a cell."""
    states = _states(tasks, lost)
    found = outputs.write(axes, tasks, states, folder.folder)
    for text in (*wording.heads(found), *map(wording.claim, found.claims)):
        folder.say(text)
    folder.say(f"Page: {folder.folder / 'page.html'}. Table: {folder.folder / 'cells.csv'}")
    failed = [(task, states[task.folder]) for task in tasks if states[task.folder].word == "failed"]
    for message, some in grouped(failed, lambda pair: pair[1].message).items():
        more = len(some) - 1
        others = f" and {more:,} more {'cell' if more == 1 else 'cells'}" if more else ""
        folder.say(f"Failed: {some[0][0].name}{others}: {message}")
    if failed:
        error = TltoolError(
            f"{len(failed):,} of {len(tasks):,} cells failed; the table and the page have the others. When the cause "
            "is mended, failed=again runs them once more."
        )
        error.code = outputs.code_of(failed[0][0].folder)
        raise error


def _source(task: Task) -> str:
    return task.cell.kind.source if task.cell else ""


def _place(task: Task) -> tuple[str, str]:
    return (task.cell.kind.target, task.cell.kind.split) if task.cell else ("", "")
