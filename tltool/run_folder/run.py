"""A run's folder: who holds it, what happened, and what came out, in files that any other program can read."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tltool.errors import ConfigError, ResourceError
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


class Company(NamedTuple):
    """What a run of a sweep has of the others.

    ``label`` is its name among them, ``ask`` gets what is worked out for all at once (see ``turns``), and in ``shared``
    stands by name what several of them need.
    """

    label: str
    ask: Callable[[Any], Any]
    shared: dict[str, Any]


class Run:
    """An open run folder, until ``close``.

    ``status.json`` says running, then finished, failed or interrupted. ``log.jsonl`` gets a line per event; the
    ``screen`` and the loggers that were attached hear of it too.
    """

    def __init__(self, folder: Path, stage: str, company: Company | None = None) -> None:
        self.folder, self.stage, self.company = folder, stage, company
        self.screen = Screen(stage, company.label if company else None)
        self._loggers = Loggers(self.say)
        self._started = _now()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "run.lock").open("x") as lock:
                lock.write(f"{os.getpid()}\n")
        except FileExistsError as error:
            owner = (folder / "run.lock").read_text().strip()
            raise ConfigError(
                f"The run folder {folder} is taken (by process {owner}); name another with hydra.run.dir=."
            ) from error
        except OSError as error:
            raise ResourceError(
                f"Cannot write to the run folder {folder} ({error.strerror}); name another with runs=."
            ) from error
        self._log = (folder / "log.jsonl").open("a", encoding="utf-8")
        self._status("running", 0, "")

    def attach(self, loggers: Mapping[str, Logger]) -> None:
        """Tell ``loggers``, {name: logger}, of every event from now on, and of the end."""
        self._loggers.add(loggers)

    def log(self, event: Mapping[str, Any]) -> None:
        """Append ``event`` to the log, show it and tell the loggers."""
        self._log.write(json.dumps({"time": _now(), **event}, default=str) + "\n")
        self._log.flush()
        self.screen.log(event)
        self._loggers.log(event)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what ``make`` gives, made once for all runs of a sweep that call it ``name``."""
        shared = self.company.shared if self.company else {}
        if name not in shared:
            shared[name] = make()
        return shared[name]

    def say(self, text: str, command: str = "") -> None:
        """Log a sentence and print it on standard error, and below it a command line to copy."""
        self.log({"event": "say", "text": text} | ({"command": command} if command else {}))

    def close(self, state: str, code: int, message: str) -> None:
        """Write the last status; close the loggers, the screen and the log."""
        self._loggers.close(state)
        self.screen.close()
        self._status(state, code, message)
        self._log.close()

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write ``content`` to the file ``name``, whole or not at all; numbers that are not finite become null."""
        temporary = self.folder / f".{name}.tmp"
        temporary.write_text(json.dumps(_plain(content), indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.folder / name)

    def write_split(self, parts: Iterable[tuple[str, Iterable[int]]], ids: Sequence[str]) -> None:
        """Write ``split.csv``: the id and part of every row used."""
        with (self.folder / "split.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "split"])
            writer.writerows([ids[row], name] for name, rows in parts for row in rows)

    def write_predictions(self, rows: list[dict[str, Any]]) -> None:
        """Write ``predictions.csv`` and ``.parquet`` with ``PREDICTION_COLUMNS``."""
        import pandas as pd

        table = pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS))
        table.to_csv(self.folder / "predictions.csv", index=False)
        table.to_parquet(self.folder / "predictions.parquet", index=False)

    def _status(self, state: str, code: int, message: str) -> None:
        finished = None if state == "running" else _now()
        facts = {"stage": self.stage, "state": state, "code": code, "started": self._started, "finished": finished}
        self.write_json("status.json", facts | {"message": message})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else str(value) if isinstance(value, Path) else value
