"""Which runs of a sweep are finished already, so that the same sweep, started again in its folder, leaves them out.

A finished run notes a digest of its config, the files of its data and its source model in ``status.json``. Only a run
with the same digest is left out.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tltool.config_tree import data_nodes
from tltool.errors import TltoolError
from tltool.run_folder import bundled_models, status
from tltool.run_folder.find import model_folder, newest
from tltool.training.saved_state.changes import fixed

_LARGE = 64_000_000  # bytes; of a larger file size and time count
_MODEL = {"transfer": ("source", "pretrain"), "eval": ("model", "transfer"), "predict": ("model", "transfer")}
"""Stage -> the key of the model that it takes, and the stage that makes one."""


def digest(config: Mapping[str, Any]) -> str:
    """Return a digest of what decides the numbers of a run: config, files of the data, source model."""
    facts = [fixed(config), [[place, list(_of_root(node.get("root")))] for place, node in data_nodes(config)]]
    facts.append(_of_model(config))
    facts.append(list(_of_root(config.get("input"))))
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def is_done(folder: Path, config: Mapping[str, Any]) -> bool:
    """Say if ``folder`` has a finished run of the same ``config`` and data."""
    about = status.read(folder)
    return about.get("state") == "finished" and about.get("inputs") == digest(config)


def _of_model(config: Mapping[str, Any]) -> list[str]:
    """Return a digest of each model that the run begins with; none for a stage that takes no model."""
    if config["stage"] not in _MODEL:
        return []
    key, stage = _MODEL[str(config["stage"])]
    given = config.get(key)
    return [
        _of_one(str(name), Path(str(config["runs"])), stage) for name in (given if isinstance(given, list) else [given])
    ]


def _of_one(name: str, runs: Path, stage: str) -> str:
    with suppress(TltoolError, OSError):
        path = newest(runs, stage) / "model" if name == "latest" else model_folder(name, runs, stage)
        return _sum(path / "manifest.json")
    return _sum(bundled_models.folder(bundled_models.WORD) / "manifest.json") if name == "latest" else ""


def _of_root(root: Any) -> Iterator[tuple[str, str]]:
    """Yield the name and content of each file of a data set; nothing for data that ship or are downloaded."""
    if root in (None, "bundled"):
        return
    place = Path(str(root)).expanduser()
    if place.is_file():
        yield "", _sum(place)
    for folder, _, names in sorted(os.walk(place)):
        for name in sorted(names):
            path = Path(folder) / name
            yield str(path.relative_to(place)), _sum(path)


def _sum(path: Path) -> str:
    with suppress(OSError):
        about = path.stat()
        if about.st_size > _LARGE:
            return f"{about.st_size} {about.st_mtime_ns}"
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return ""
