"""Find a model: by its path, among those that ship with tltool, or in the newest finished run of a stage."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tltool.errors import CheckpointError
from tltool.run_folder import bundled_models, status

_MAKES = {"pretrain": "tltool pretrain", "transfer": "tltool transfer target=bulk_modulus"}


def model_folder(name: str, runs: Path, stage: str) -> Path:
    """Return the model folder that ``name`` means.

    It is itself, the one in a run folder, one that ships (``bundled``, ``bundled/NAME``), or ``latest`` of ``stage``.
    Raises CheckpointError, naming the command that makes a model, if there is none.
    """
    if bundled_models.is_one(name):
        return bundled_models.folder(name)
    if name == "latest":
        return newest(runs, stage) / "model"
    path = Path(name).expanduser()
    if (path / "model" / "manifest.json").is_file():
        return path / "model"
    if path.is_dir():
        return path
    raise CheckpointError(
        f"There is no model at {path}; make one with '{_MAKES[stage]}', or use latest for the newest model."
    )


def source_folder(name: str, runs: Path, say: Callable[[str], None]) -> Path:
    """Return the model folder of a source; ``latest`` takes the bundled one where no pretraining finished, and says so.

    Raises CheckpointError as ``model_folder`` does.
    """
    if name == "latest" and not _finished(runs, "pretrain"):
        path = bundled_models.folder(bundled_models.WORD)
        say(
            f"There is no finished pretraining under {runs}; the source is the pretrained model "
            f"{bundled_models.called(path)}, which ships with tltool."
        )
        return path
    return model_folder(name, runs, "pretrain")


def newest(runs: Path, stage: str) -> Path:
    """Return the run folder of the finished run of ``stage`` under ``runs`` that ended last.

    Raises CheckpointError, naming the command that makes one, if there is none.
    """
    found = _finished(runs, stage)
    if not found:
        raise CheckpointError(f"There is no finished {stage} run under {runs}; make one with '{_MAKES[stage]}'.")
    return max(found)[1]


def _finished(runs: Path, stage: str) -> list[tuple[str, Path]]:
    """Return when each finished run of ``stage`` under ``runs`` ended, and its folder."""
    found: list[tuple[str, Path]] = []
    for file in (runs / stage).rglob("status.json"):
        about = status.read(file.parent)
        if about.get("state") == "finished" and (file.parent / "model" / "manifest.json").is_file():
            found.append((str(about.get("finished")), file.parent))
    return found


def chain(spec: Mapping[str, Any]) -> list[str]:
    """Return the training steps of a model, such as ``["e_form (demo)", "gap (gaps_hse, finetune)"]``."""
    return [_step(origin) for origin in spec.get("provenance", ())]


def _step(origin: Mapping[str, Any]) -> str:
    mode = origin.get("mode")
    way = f"{mode}: {origin['chosen']}" if "chosen" in origin else mode
    named = ", ".join(str(word) for word in (origin.get("name"), way) if word)
    return f"{', '.join(origin.get('quantities', ())) or 'unknown'} ({named})"
