"""Manage a run's folder: its lock, its log and status, and its results, in files that other programs can read."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from tltool.errors import ConfigError, ResourceError
from tltool.run_folder import owner, prediction_table, status
from tltool.run_folder.console import Screen
from tltool.run_folder.loggers import Logger, Loggers

PREDICTION_COLUMNS = (
    "id",
    "split",
    "quantity",
    "label",
    "prediction",
    "unit",
    "formula",
    "elements",
    "unseen_elements",
    "seen",
)
OWN_COLUMNS = ("lower", "upper", "coverage", "far", "repeat", "fold", "scratch")
"""Further columns of ``predictions.csv``, which are there where a run has values for them."""

Continues = Literal["on", "anew", "after"] | None
Task = Callable[[Callable[[Any], Any] | None], Any]
"""Work of a run; gets what it may ask for a result that is computed for several tasks at once (``Fit.together``)."""
Several = Callable[[Sequence[Task]], Iterator[tuple[int, Any]]]
"""Does tasks; yields the number of each, from 0, with what it returned, in the order in which they end."""


class Company(NamedTuple):
    """What a run of a sweep shares with the other runs.

    ``label`` says in which keys it differs from the others, ``ask`` gets results that are computed for all runs at once
    (see ``turns``), and ``shared`` contains by name what several runs need. ``ended`` is called once when the run ends;
    it says how many runs have ended and how long the rest takes.
    """

    label: str
    ask: Callable[[Any], Any]
    shared: dict[str, Any]
    ended: Callable[[], str]


class Run:
    """An open run folder, until ``close``.

    ``status.json`` says running, then finished, failed or interrupted. ``log.jsonl`` has one line per event; the
    ``screen`` and the attached loggers get each event too.
    """

    def __init__(
        self, folder: Path, stage: str, company: Company | None = None, *, continues: Continues = None
    ) -> None:
        """Open ``folder``; ``continues`` also takes one whose run ended unfinished, to go on in it or begin anew.

        ``"after"`` goes on after a finished run too.
        """
        self.folder, self.stage, self.company = folder, stage, company
        self.several: Several = self._one_by_one
        self.screen = Screen(stage, company.label if company else None)
        self._loggers = Loggers(self.say)
        self._started = _now()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            is_over = continues != "after" and status.read(folder).get("state") == "finished"
            self._lock = owner.take(folder, again=bool(continues) and not is_over)
        except OSError as error:
            raise ResourceError(
                f"Cannot write to the run folder {folder} ({error.strerror}); choose another folder with runs=FOLDER."
            ) from error
        if self._lock is None:
            raise ConfigError(
                f"The run folder {folder} is used by {owner.told(folder)}; choose another with hydra.run.dir=FOLDER."
            )
        self._log = (folder / "log.jsonl").open("w" if continues == "anew" else "a", encoding="utf-8")
        self._status("running", 0, "")

    def attach(self, loggers: Mapping[str, Logger]) -> None:
        """Add ``loggers``, {name: logger}, which get every event from now on, and the end of the run."""
        self._loggers.add(loggers)

    def log(self, event: Mapping[str, Any]) -> None:
        """Append ``event`` to the log, show it, and send it to the loggers."""
        self._log.write(json.dumps({"time": _now(), **event}, default=str) + "\n")
        self._log.flush()
        self.screen.log(event)
        self._loggers.log(event)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the result of ``make``, computed once for all runs of a sweep that use the same ``name``."""
        shared = self.company.shared if self.company else {}
        if name not in shared:
            with self.screen.for_all():
                shared[name] = make()
        return shared[name]

    def _one_by_one(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        for number, task in enumerate(tasks):
            yield number, task(self.company.ask if self.company else None)

    def say(self, text: str, command: str = "") -> None:
        """Log a sentence and print it on standard error, with a command line to copy below it."""
        self.log({"event": "say", "text": text} | ({"command": command} if command else {}))

    def close(self, state: str, code: int, message: str, inputs: str | None = None) -> None:
        """Write the last status; close the loggers, the screen and the log.

        ``inputs`` is a digest of the config and data of a finished run of a sweep.
        """
        with suppress(OSError):  # of a full disk; there is a sentence about it already
            self._loggers.close(state)
        self.screen.close()
        self._last_status(state, code, message, inputs)
        with suppress(OSError):
            self._log.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write ``content`` to the file ``name``, completely or not at all; numbers that are not finite become null."""
        temporary = self.folder / f".{name}.tmp"
        try:
            temporary.write_text(json.dumps(_plain(content), indent=1) + "\n", encoding="utf-8")
            temporary.replace(self.folder / name)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise

    def write_split(self, parts: Iterable[tuple[str, Iterable[int]]], ids: Sequence[str]) -> None:
        """Write ``split.csv``: the id and part of every row used."""
        with (self.folder / "split.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "split"])
            writer.writerows([ids[row], name] for name, rows in parts for row in rows)

    def write_folds(self, folds: Iterable[tuple[int, int, Any]], ids: Sequence[str]) -> None:
        """Write ``folds.csv``: for each row the fold that tests it in each repeat, both from 0."""
        with (self.folder / "folds.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "repeat", "fold"])
            writer.writerows([ids[row], repeat, fold] for repeat, fold, split in folds for row in split.test)

    def write_predictions(self, rows: list[dict[str, Any]]) -> None:
        """Write ``predictions.csv`` and ``.parquet`` with ``PREDICTION_COLUMNS``, and ``OWN_COLUMNS`` that have values.

        A row has no value for a column if it lacks the key. Columns that begin with p_ are probabilities of classes.
        """
        import pandas as pd

        own = [name for name in OWN_COLUMNS if any(name in row for row in rows)]
        own += dict.fromkeys(name for row in rows for name in row if name.startswith("p_"))
        table = pd.DataFrame(rows, columns=[*PREDICTION_COLUMNS, *own])
        for suffix in (".csv", ".parquet"):
            prediction_table.write(table, self.folder / f"predictions{suffix}")

    def _last_status(self, state: str, code: int, message: str, inputs: str | None) -> None:
        """Write the status; of a failed run also where no space is left, over the one that is there."""
        try:
            self._status(state, code, message, inputs)
        except OSError:
            if state == "finished":
                raise
            facts = {"stage": self.stage, "state": state, "code": code, "started": self._started, "finished": _now()}
            with suppress(OSError), (self.folder / status.NAME).open("r+", encoding="utf-8") as file:
                text = json.dumps(facts | {"message": message})
                file.write(text)
                file.truncate(len(text.encode()))

    def _status(self, state: str, code: int, message: str, inputs: str | None = None) -> None:
        finished = None if state == "running" else _now()
        facts = {"stage": self.stage, "state": state, "code": code, "started": self._started, "finished": finished}
        facts |= {"message": message} | ({"inputs": inputs} if inputs else {})
        self.write_json(status.NAME, facts)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _plain(value: Any) -> Any:
    """Return ``value`` in a form that JSON can contain."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else str(value) if isinstance(value, Path) else value
