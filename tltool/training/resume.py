"""Save the state of a training from time to time, and continue an interrupted training with identical results.

At the end of an epoch, the state is saved in the run folder: the weights, their EMA, the best weights so far, the
optimiser, the schedule and the random number generators. First the file is written completely, then ``state.json``
names it with its checksum, then the previous file is deleted. So there is a complete file whenever a run is killed.
"""

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tltool import machine
from tltool.data.batches.batches import Batches
from tltool.errors import CheckpointError, ConfigError, ResourceError
from tltool.model.property_model import PropertyModel
from tltool.training.ema import Average, average_of

NAME = "state.json"
# These keys may change when a run continues: where it computes and what it writes.
_FREE = ("runs", "cache", "device", "threads", "workers", "kernels", "logger", "resume", "keep_every")


@dataclass
class Progress:
    """Progress of a fit: completed epochs, the lowest validation error, its epoch and the weights of that epoch.

    The weights of a single fit are a dict {name: tensor}; a stack has its own form.
    """

    epoch: int = 0
    best: float = float("inf")
    best_epoch: int = 0
    kept: Any = None


class Parts(Protocol):
    """The parts that training changes; ``order`` draws the batches, ``average`` is the EMA or None."""

    model: PropertyModel
    optimiser: Optimizer
    schedule: LRScheduler
    order: torch.Generator
    log_scales: Tensor
    average: Average[PropertyModel] | None


class Keeper:
    """Save the state of a run in ``folder`` every ``minutes``, and load the state of the run in ``begun``, if given.

    ``config`` is the config of the run; ``say`` prints a sentence.
    """

    def __init__(
        self,
        folder: Path,
        minutes: float | None,
        begun: Path | None,
        config: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        if minutes is not None and minutes < 0:
            raise ConfigError(f"keep_every={minutes} must be null or a number of minutes, 0 or more.")
        self.folder, self.minutes, self.begun, self.say = folder, minutes, begun, say
        self.config = _fixed(config)
        self._began = self._last = time.monotonic()

    def take_up(self, parts: Parts, data: Batches) -> Progress:
        """Load the saved state into ``parts`` and return its progress; without a saved run, return the beginning.

        Raise CheckpointError if the state is damaged or belongs to other data.
        """
        self._data = _print(data)
        if self.begun is None:
            return Progress()
        found = _read(self.begun)
        if found["data"] != self._data:
            raise CheckpointError(
                f"{self.begun} was trained on other rows or labels; leave resume= out to start from the beginning."
            )
        device = next(parts.model.parameters()).device
        try:
            parts.model.load_state_dict(found["model"])
            parts.optimiser.load_state_dict(found["optimiser"])
            parts.schedule.load_state_dict(found["schedule"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{self.begun} was saved by another version of tltool or PyTorch; leave resume= out to start from the "
                "beginning."
            ) from error
        parts.order.set_state(found["order"])
        with torch.no_grad():
            parts.log_scales.copy_(found["log_scales"])
        torch.set_rng_state(found["random"])
        if device.type == "cuda" and found["random_cuda"] is not None:
            torch.cuda.set_rng_state(found["random_cuda"], device)
        if found["average"] is not None:
            parts.average = average_of(parts.model)
            parts.average.model.load_state_dict(found["average"])
        kept = None if found["kept"] is None else {k: v.to(device) for k, v in found["kept"].items()}
        self.say(f"Continuing {self.begun} after epoch {found['epoch']}.")
        return Progress(found["epoch"], found["best"], found["best_epoch"], kept)

    def keep(self, parts: Parts, now: Progress, *, last: bool) -> None:
        """Save the state if the last save was long enough ago; raise ResourceError if it cannot be written.

        After the ``last`` epoch, the time since the start of the run counts, because evaluation takes time as well.
        """
        since = self._began if last else self._last
        if self.minutes is None or time.monotonic() - since < 60 * self.minutes or machine.rank():
            return
        device = next(parts.model.parameters()).device
        state = {
            "data": self._data,
            "epoch": now.epoch,
            "best": now.best,
            "best_epoch": now.best_epoch,
            "kept": now.kept,
            "average": None if parts.average is None else parts.average.model.state_dict(),
            "model": parts.model.state_dict(),
            "optimiser": parts.optimiser.state_dict(),
            "schedule": {k: v for k, v in parts.schedule.state_dict().items() if not callable(v)},
            "order": parts.order.get_state(),
            "log_scales": parts.log_scales.detach(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }
        try:
            with _undisturbed():
                self._write(state)
        except OSError as error:
            raise ResourceError(
                f"The training state cannot be saved in {self.folder} ({error.strerror}); free disk space, or use "
                "keep_every=null."
            ) from error
        self._last = time.monotonic()
        self._forget(self.begun)

    def done(self) -> None:
        """Delete the saved state of a finished run, and of the run that it continued."""
        if not machine.rank():
            self._forget(self.folder)
            self._forget(self.begun)

    def _forget(self, folder: Path | None) -> None:
        """Delete the state in ``folder``, so that ``latest`` never means a run that a later run has continued."""
        if folder is not None:
            with suppress(OSError):  # another's, perhaps
                for file in (folder / NAME, *folder.glob("state-*.pt")):
                    file.unlink(missing_ok=True)

    def _write(self, state: dict[str, Any]) -> None:
        place = self.folder / f"state-{state['epoch']:06d}.pt"
        with place.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        facts = {"file": place.name, "sha256": _sum(place), "epoch": state["epoch"], "config": self.config}
        temporary = self.folder / f".{NAME}.tmp"
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.folder / NAME)
        for other in self.folder.glob("state-*.pt"):
            if other != place:
                other.unlink(missing_ok=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Delay SIGINT and SIGTERM, because PyTorch raises an unrelated error if its writer is interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if came:
            signal.raise_signal(came[0])


def told(folder: Path, message: str) -> str:
    """Return the ``message`` about an interruption; if a state was saved, its advice is how to continue the run."""
    try:
        epoch = _facts(folder)["epoch"]
    except CheckpointError:
        return message
    return f"{message.partition(';')[0]}; to continue after epoch {epoch}, run the same command with resume={folder}."


def keeper(config: Mapping[str, Any], folder: Path, say: Callable[[str], None]) -> Keeper:
    """Return the keeper of the run in ``folder``, with ``keep_every`` and ``resume`` of ``config``.

    ``resume`` is a run folder, or ``latest``: the newest interrupted run of the stage with the same config; without
    one, the run starts from the beginning. Raise CheckpointError for a folder without a state, and ConfigError, naming
    the keys, if its config differs.
    """
    named = config["resume"]
    begun = None
    if named == "latest":
        begun = _latest(Path(config["runs"]) / str(config["stage"]), _fixed(config))
        if begun is None:
            say("There is no interrupted run to continue; this run starts from the beginning.")
    elif named is not None:
        begun = Path(named).expanduser()
        if differing := _differences(_facts(begun)["config"], _fixed(config)):
            raise ConfigError(
                f"{begun} was started with other values of {', '.join(differing)}; use the same values, or leave "
                "resume= out."
            )
    return Keeper(folder, config["keep_every"], begun, config, say)


def _latest(runs: Path, config: Mapping[str, Any]) -> Path | None:
    found: list[tuple[str, Path]] = []
    for file in runs.rglob(NAME):
        try:
            status = json.loads((file.parent / "status.json").read_text(encoding="utf-8"))
            facts = _facts(file.parent)
        except (OSError, ValueError, CheckpointError):
            continue
        if status.get("state") != "finished" and not _works(file.parent) and facts["config"] == config:
            found.append((str(status.get("started")), file.parent))
    return max(found)[1] if found else None


def _works(folder: Path) -> bool:
    """Return whether the process of the run in ``folder`` still exists."""
    try:
        began = psutil.Process(int((folder / "run.lock").read_text().strip())).create_time()
        # After a restart of the machine, another process may have the same number; it started after the run.
        return bool(began <= (folder / "run.lock").stat().st_mtime + 1)
    except (OSError, ValueError, psutil.Error):
        return False


def _fixed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of ``config`` that must stay the same when a run continues, as plain JSON values."""
    return dict(json.loads(json.dumps({k: v for k, v in config.items() if k not in _FREE}, default=str)))


def _differences(one: Any, other: Any, name: str = "") -> list[str]:
    """Return the dotted names of the keys that differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() | other.keys())
        return [d for k in keys for d in _differences(one.get(k), other.get(k), f"{name}.{k}".lstrip("."))]
    return [] if one == other else [name]


def _facts(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder} has no saved training state (it is saved every keep_every minutes, and deleted when the run has "
            "finished); leave resume= out to start from the beginning."
        ) from error


def _read(folder: Path) -> dict[str, Any]:
    facts = _facts(folder)
    file = folder / str(facts["file"])
    if not file.is_file() or _sum(file) != facts["sha256"]:
        raise CheckpointError(f"{file} is damaged; leave resume= out to start from the beginning.")
    return dict(torch.load(file, map_location="cpu", weights_only=True))


def _sum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _print(data: Batches) -> str:
    """Return a checksum of the labels and of the rows of all parts of the split."""
    found = hashlib.sha256()
    for table in (data.labels, *(data.split[part] for part in sorted(data.split))):
        found.update(table.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
