"""Save the state of a training from time to time, and continue an interrupted training with identical results.

The state is saved in the run folder every ``keep_every`` minutes, when a signal arrives, and after the last epoch: the
weights, their EMA, the best weights so far, the optimiser, the schedule, the random number generators, and how much of
an epoch is done. ``saved_state/files.py`` writes it so that there is a complete file whenever a run is killed.
"""

import hashlib
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tltool import machine
from tltool.data.batches.batches import Batches
from tltool.errors import CheckpointError, ConfigError
from tltool.model import all_reduce
from tltool.model.property_model import PropertyModel
from tltool.run_folder import owner, status
from tltool.training.ema import Average, average_of
from tltool.training.saved_state import changes, files

NAME = files.NAME


@dataclass
class Progress:
    """Progress of a fit: completed epochs, the lowest validation error, its epoch and the weights of that epoch.

    ``steps`` of the next epoch are done too, and ``total`` is the sum of their losses over crystals. The weights of a
    single fit are a dict {name: tensor}; a stack has its own form.
    """

    epoch: int = 0
    best: float = float("inf")
    best_epoch: int = 0
    kept: Any = None
    steps: int = 0
    total: Tensor | None = None


class Parts(Protocol):
    """The parts that training changes; ``order`` draws the batches, ``average`` is the EMA or None.

    ``drawn`` is the state of ``order`` before it drew the batches of the current epoch.
    """

    model: PropertyModel
    optimiser: Optimizer
    schedule: LRScheduler
    order: torch.Generator
    drawn: Tensor
    log_scales: Tensor
    average: Average[PropertyModel] | None


class Keeper:
    """Save the state of a run in ``folder`` every ``minutes``, and load the state of the run in ``begun``, if given.

    ``config`` is the config of the run, of which ``changed`` keys differ from the run in ``begun``; ``say`` prints a
    sentence.
    """

    def __init__(
        self,
        folder: Path,
        minutes: float | None,
        begun: Path | None,
        config: Mapping[str, Any],
        say: Callable[[str], None],
        changed: Sequence[str] = (),
    ) -> None:
        if minutes is not None and minutes < 0:
            raise ConfigError(f"keep_every={minutes} must be null or a number of minutes, 0 or more.")
        self.folder, self.minutes, self.begun, self.say, self.changed = folder, minutes, begun, say, changed
        self.config = changes.fixed(config)
        self._last, self._written = time.monotonic(), 0

    def take_up(self, parts: Parts, data: Batches) -> Progress:
        """Load the saved state into ``parts`` and return its progress; without a saved run, return the beginning.

        Raise CheckpointError if the state is damaged or belongs to other data.
        """
        self._data = _print(data)
        if self.begun is None:
            return Progress()
        found = files.read(self.begun, self.say)
        others = changes.of_data(self.changed)
        if found.get("data") != self._data and not others:
            raise CheckpointError(
                f"{self.begun} was trained on other rows or labels; leave resume= out to start from the beginning."
            )
        try:
            now = self._loaded(parts, found, len(data.split["train"]))
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.begun} was saved by another version of tltool or PyTorch; leave resume= out to start from the "
                "beginning."
            ) from error
        if others:
            now.steps, now.total, now.best, now.best_epoch, now.kept = 0, None, float("inf"), 0, None
        part = f" and {now.steps:,} steps of the next" if now.steps else ""
        self.say(f"Continuing {self.begun} after epoch {now.epoch}{part}.")
        return now

    def _loaded(self, parts: Parts, found: Mapping[str, Any], rows: int) -> Progress:
        device = next(parts.model.parameters()).device
        fresh = changes.settings(parts.optimiser)
        parts.model.load_state_dict(found["model"])
        parts.optimiser.load_state_dict(found["optimiser"])
        epoch, steps, size = found["epoch"], found.get("steps", 0), (self.config.get("fit") or {}).get("batch_size", 1)
        if not isinstance(epoch, int) or not isinstance(steps, int):
            raise TypeError("the epoch of the state is no number")
        if changes.of_steps(self.changed):
            # Of another batch size, so many steps as have seen as many rows.
            steps = steps * found.get("batch_size", size) // size
            changes.taken_up(parts.optimiser, fresh, parts.schedule, epoch * -(-rows // size) + steps)
        else:
            parts.schedule.load_state_dict(found["schedule"])
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
        total = found.get("total")
        if total is not None:
            # Rank 0 has the sum of all ranks.
            total = total.to(device) if machine.rank() == 0 else torch.zeros_like(total, device=device)
        return Progress(epoch, found["best"], found["best_epoch"], kept, steps, total)

    def keep(self, parts: Parts, now: Progress, *, last: bool = False, at_once: bool = False) -> None:
        """Save the state if the last save was long enough ago; raise ResourceError if it cannot be written.

        It is saved always after the ``last`` epoch, because evaluation takes time as well, and when the run ends
        ``at_once``. Within an epoch several ranks do not save, since each knows only a part of the sum of losses.
        """
        if self.minutes is None or machine.rank() or not (last or at_once or self._is_due(now)):
            return
        device = next(parts.model.parameters()).device
        state = {
            "data": self._data,
            "epoch": now.epoch,
            "best": now.best,
            "best_epoch": now.best_epoch,
            "kept": now.kept,
            "steps": now.steps,
            "total": now.total,
            "batch_size": (self.config.get("fit") or {}).get("batch_size", 1),
            "average": None if parts.average is None else parts.average.model.state_dict(),
            "model": parts.model.state_dict(),
            "optimiser": parts.optimiser.state_dict(),
            "schedule": {k: v for k, v in parts.schedule.state_dict().items() if not callable(v)},
            "order": parts.drawn if now.steps else parts.order.get_state(),
            "log_scales": parts.log_scales.detach(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }
        files.write(self.folder, state, self.config)
        self._last, self._written = time.monotonic(), self._written + 1
        if self._written > 1:  # so that two states are there at any time
            self._forget_begun()

    def _is_due(self, now: Progress) -> bool:
        if now.steps and (not self.minutes or all_reduce.active()):
            return False
        return time.monotonic() - self._last >= 60 * (self.minutes or 0.0)

    def done(self) -> None:
        """Delete the saved state of a finished run, and of the run that it continued."""
        if not machine.rank():
            files.forget(self.folder)
            self._forget_begun()

    def _forget_begun(self) -> None:
        """Delete the state of the run in ``begun``, so that ``latest`` never means a run that another one continued."""
        if self.begun is not None and self.begun.resolve() != self.folder.resolve():
            files.forget(self.begun)


def told(folder: Path, message: str, stage: str, words: Sequence[str]) -> str:
    """Return the ``message`` about an interruption with the command that continues the run in ``folder``.

    ``words`` are those of the command line. Without a saved state the command starts from the beginning.
    """
    begin = message.partition(";")[0]
    again = shlex.join(["tltool", stage, *words])
    if machine.ranks() > 1:
        again = f"the same command of torchrun with resume={folder}"
    try:
        newest = files.facts(folder)["states"][0]
    except CheckpointError:
        return f"{begin}; no state is saved, and this starts again: {again}"
    others = [word for word in words if not word.lstrip("+").startswith(("resume=", "hydra.run.dir="))]
    if machine.ranks() == 1:
        again = shlex.join(["tltool", stage, *others, f"resume={quoted(str(folder))}"])
    return f"{begin} after epoch {newest['epoch']}, and the state is saved; this continues: {again}"


def quoted(path: str) -> str:
    """Return ``path`` as a value in the grammar of Hydra."""
    plain = all(letter.isalnum() or letter in "/._-+%@" for letter in path)
    return path if plain else "'" + path.replace("\\", "\\\\").replace("'", "\\'") + "'"


def keeper(config: Mapping[str, Any], folder: Path, say: Callable[[str], None]) -> Keeper:
    """Return the keeper of the run in ``folder``, with ``keep_every`` and ``resume`` of ``config``.

    ``resume`` is a run folder, or ``latest``: the newest interrupted run of the stage with the same config; without
    one, the run starts from the beginning. Raise CheckpointError for a folder without a state, and ConfigError, naming
    the keys, if its config differs, or if its run still works.
    """
    named, allowed = config["resume"], [str(word) for word in config.get("resume_allow") or ()]
    changes.refuse_unknown(allowed, config)
    begun = None
    if named == "latest":
        begun = _latest(Path(config["runs"]) / str(config["stage"]), folder, changes.fixed(config), allowed, say)
        if begun is None:
            say("There is no interrupted run to continue; this run starts from the beginning.")
    elif named is not None:
        begun = Path(named).expanduser()
        old, new = files.facts(begun)["config"], changes.fixed(config)
        if differing := changes.harmful(old, new, allowed):
            raise ConfigError(
                f"{begun} was started with other values of {', '.join(differing)}; use the same values, allow it with "
                f"resume_allow=[{','.join(differing)}], or leave resume= out."
            )
        if begun.resolve() != folder.resolve() and owner.is_alive(begun):
            raise ConfigError(
                f"The run in {begun} still works ({owner.told(begun)}); wait for its end, or remove "
                f"{begun / owner.NAME} if that process is gone."
            )
    if begun is None:
        files.forget(folder)
        return Keeper(folder, config["keep_every"], None, config, say)
    changed = changes.differences(files.facts(begun)["config"], changes.fixed(config))
    return Keeper(folder, config["keep_every"], begun, config, say, changed)


def _latest(
    runs: Path, own: Path, config: Mapping[str, Any], allowed: Sequence[str], say: Callable[[str], None]
) -> Path | None:
    """Return the folder of the newest run in ``runs`` that can be continued and is not damaged."""
    found: list[tuple[str, Path]] = []
    for file in runs.rglob(NAME):
        about = status.read(file.parent)
        try:
            before = files.facts(file.parent)["config"]
        except CheckpointError:
            continue
        mine = file.parent.resolve() == own.resolve()
        if about.get("state") == "finished" or (not mine and owner.is_alive(file.parent)):
            continue
        if about and not changes.harmful(before, config, allowed):
            found.append(("~" if mine else str(about.get("started")), file.parent))
    for _, folder in sorted(found, reverse=True):
        if files.is_whole(folder):
            return folder
        say(f"The state in {folder} is damaged; an earlier run is continued, if there is one.")
    return None


def _print(data: Batches) -> str:
    """Return a checksum of the labels and of the rows of all parts of the split."""
    found = hashlib.sha256()
    for table in (data.labels, *(data.split[part] for part in sorted(data.split))):
        found.update(table.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
