"""Where a model comes from: a path, or the newest finished run of a stage."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tltool.errors import CheckpointError

_MAKES = {"pretrain": "tltool pretrain", "transfer": "tltool transfer target=bulk_modulus"}


def model_folder(name: str, runs: Path, stage: str) -> Path:
    """Return the model folder that ``name`` means: itself, the one in a run folder, or ``latest`` of ``stage``.

    Raises CheckpointError, naming the command that makes a model, if there is none.
    """
    if name == "latest":
        return newest(runs, stage) / "model"
    path = Path(name).expanduser()
    if (path / "model" / "manifest.json").is_file():
        return path / "model"
    if path.is_dir():
        return path
    raise CheckpointError(f"There is no model at {path}; '{_MAKES[stage]}' makes one, and latest means the newest.")


def newest(runs: Path, stage: str) -> Path:
    """Return the run folder of the finished run of ``stage`` under ``runs`` that ended last."""
    found: list[tuple[str, Path]] = []
    for file in (runs / stage).rglob("status.json"):
        try:
            status = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if status.get("state") == "finished" and (file.parent / "model" / "manifest.json").is_file():
            found.append((str(status.get("finished")), file.parent))
    if not found:
        raise CheckpointError(f"There is no finished {stage} run under {runs}; make one with '{_MAKES[stage]}'.")
    return max(found)[1]


def chain(spec: Mapping[str, Any]) -> list[str]:
    """Return what a model was trained on, step by step, such as ``["e_form (demo)", "gap (gaps_hse, finetune)"]``."""
    return [_step(origin) for origin in spec.get("provenance", ())]


def _step(origin: Mapping[str, Any]) -> str:
    mode = origin.get("mode")
    way = f"{mode}: {origin['chosen']}" if "chosen" in origin else mode
    named = ", ".join(str(word) for word in (origin.get("name"), way) if word)
    return f"{', '.join(origin.get('quantities', ())) or 'unknown'} ({named})"
