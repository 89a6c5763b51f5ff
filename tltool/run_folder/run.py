"""A run's folder: who holds it, what happened, and what came out, in files that any other program can read."""

import csv
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tltool import machine
from tltool.errors import ConfigError, ResourceError
from tltool.run_folder.console import console

_LINES_PER_FIT = 8
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
    """An open run folder; use it as a context manager.

    ``status.json`` says running, then finished, failed or interrupted. ``log.jsonl`` gets a line per event, and the
    screen (standard error) a progress bar, or a few plain lines where it is no terminal or the run is in company.
    """

    def __init__(self, folder: Path, stage: str, company: Company | None = None) -> None:
        self.folder, self.stage, self.company = folder, stage, company
        self.console = console(stderr=True, labelled=company is not None)
        self._progress: Progress | None = None
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

    def log(self, event: Mapping[str, Any]) -> None:
        """Append ``event`` to the log and show what of it a person wants to see."""
        self._log.write(json.dumps({"time": _now(), **event}, default=str) + "\n")
        self._log.flush()
        kind = event.get("event")
        if kind == "epoch":
            self._show_epoch(event)
        elif kind == "load_report":
            self._show_report(event)
        elif kind == "say":
            self._print(event["text"])
            if event.get("command"):
                # Nothing before it and no break within it, so that it can be copied into a shell.
                self.console.print(event["command"], markup=False, highlight=False, soft_wrap=True)

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
        """Write the last status and close the log."""
        self._end_progress()
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

    def write_environment(self, device: torch.device, kernels: str, command: str) -> None:
        """Write ``environment.json``: versions, commit, device."""
        from importlib.metadata import version

        names = (
            "tltool",
            "torch",
            "numpy",
            "pymatgen",
            "hydra-core",
            "omegaconf",
            "scikit-learn",
            "h5py",
            "safetensors",
        )
        facts = {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": {name: version(name) for name in names},
            "commit": _commit(),
            "command": command,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
            "processes": machine.ranks(),
            "threads": torch.get_num_threads(),
            "kernels": kernels,
        }
        self.write_json("environment.json", facts)

    def _status(self, state: str, code: int, message: str) -> None:
        finished = None if state == "running" else _now()
        facts = {"stage": self.stage, "state": state, "code": code, "started": self._started, "finished": finished}
        self.write_json("status.json", facts | {"message": message})

    def _show_epoch(self, event: Mapping[str, Any]) -> None:
        epoch, epochs = event["epoch"], event["epochs"]
        errors = ", ".join(f"{name} {value:.4g}" for name, value in event["val_MAE"].items())
        text = f"loss {event['train_loss']:.4f}" + (f", val MAE {errors}" if errors else "")
        if self.console.is_terminal and self.company is None:
            if self._progress is None:
                bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
                self._progress = Progress(*bar, console=self.console, transient=True)
                self._progress.add_task(self.stage, total=epochs)
                self._progress.start()
            self._progress.update(self._progress.task_ids[0], completed=epoch, total=epochs, description=text)
            if epoch == epochs:
                self._end_progress()
        elif epoch in (1, epochs) or epoch % -(-epochs // _LINES_PER_FIT) == 0:
            self._print(f"epoch {epoch:>4}/{epochs}  {text}")

    def _print(self, text: str) -> None:
        label = f"[{self.company.label}] " if self.company else ""
        self.console.print(f"{label}{text}", markup=False, highlight=False)

    def _show_report(self, event: Mapping[str, Any]) -> None:
        self._print(
            f"{len(event['loaded'])} tensors as in the source ({len(event['frozen'])} frozen), {len(event['new'])} "
            f"new, {len(event['dropped'])} dropped; {event['trainable_parameters']:,} parameters train."
        )
        if event["unseen_elements"]:
            self._print(f"Elements that the source never saw: {event['unseen_elements']}.")
        for name, start in event["new_functionals"].items():
            self._print(f"The functional {name} is new to the source; its vector starts as {start}.")
        errors = ", ".join(f"{name} {value:.4g}" for name, value in event["step_0_val_MAE"].items())
        if errors:
            self._print(f"Before the first update: val MAE {errors}")

    def _end_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _commit() -> str | None:
    """Return the commit of the code that runs, where it runs from a checkout."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else str(value) if isinstance(value, Path) else value
