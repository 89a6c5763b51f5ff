"""The files of a saved training state: written completely or not at all, checked when they are read, and deleted.

``state.json`` names the last two states, each a file with its checksum, and the config of the run. A state that cannot
be read is passed over for the one before.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from tltool.errors import CheckpointError, ResourceError

NAME = "state.json"
_KEPT = 2  # states in a folder
_TEMPORARY = ".state.tmp"


def facts(folder: Path) -> dict[str, Any]:
    """Return ``states`` in ``folder``, the newest first, and the ``config``; raise CheckpointError without a state."""
    try:
        found = dict(json.loads((folder / NAME).read_text(encoding="utf-8")))
        states = found.get("states") or [found]  # an older version kept one state
        plain = [{"epoch": int(s["epoch"]), "file": str(s["file"]), "sha256": str(s["sha256"])} for s in states]
        return {"states": plain, "config": dict(found["config"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{folder} has no saved training state (it is saved every keep_every minutes, and deleted when the run has "
            "finished); leave resume= out to start from the beginning."
        ) from error


def is_whole(folder: Path) -> bool:
    """Say if at least one state in ``folder`` has its checksum."""
    return any(_sum(folder / state["file"]) == state["sha256"] for state in facts(folder)["states"])


def read(folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the newest state in ``folder`` that is whole; ``say`` names the damaged ones.

    Raise CheckpointError if none is.
    """
    states = facts(folder)["states"]
    for number, state in enumerate(states, 1):
        file = folder / state["file"]
        with suppress(Exception):  # PyTorch and its reader of pickles raise whatever they meet
            if _sum(file) == state["sha256"]:
                return dict(torch.load(file, map_location="cpu", weights_only=True))
        if number < len(states):
            say(f"{file} is damaged; the state before it is used, after epoch {states[number]['epoch']}.")
    raise CheckpointError(f"{file} is damaged; leave resume= out to start from the beginning.")


def write(folder: Path, state: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Add ``state`` to those in ``folder`` and delete all but the last two; raise ResourceError if that fails.

    Until the last moment the states from before are valid.
    """
    name = f"state-{state['epoch']:06d}-{state['steps']:07d}.pt"
    temporary = folder / _TEMPORARY
    try:
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        own = {"file": name, "sha256": _sum(temporary), "epoch": state["epoch"]}
        temporary.replace(folder / name)
        states = [own, *(s for s in _before(folder) if s["file"] != name)][:_KEPT]
        index = folder / f".{NAME}.tmp"
        with index.open("w", encoding="utf-8") as handle:
            json.dump({"states": states, "config": dict(config)}, handle, indent=1)
            handle.flush()
            os.fsync(handle.fileno())
        index.replace(folder / NAME)
    except (OSError, RuntimeError) as error:  # PyTorch's writer turns a full disk into a RuntimeError
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise ResourceError(
            f"The training state cannot be saved in {folder} ({getattr(error, 'strerror', None) or 'the disk is full'}"
            "); free disk space, or use keep_every=null."
        ) from error
    for other in {file.name for file in folder.glob("state-*.pt")} - {s["file"] for s in states}:
        with suppress(OSError):
            (folder / other).unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Delete the states in ``folder``."""
    with suppress(OSError):  # another's, perhaps
        for file in (folder / NAME, folder / _TEMPORARY, *folder.glob("state-*.pt")):
            file.unlink(missing_ok=True)


def _before(folder: Path) -> list[dict[str, Any]]:
    try:
        return list(facts(folder)["states"])
    except CheckpointError:
        return []


def _sum(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""
