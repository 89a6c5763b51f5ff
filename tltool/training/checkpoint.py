"""A model on disk: a folder with weights, the plain text that rebuilds the model, and a manifest written last.

``model.safetensors`` holds the tensors, ``seen.safetensors`` the index of training crystals, ``model.yaml`` how to
rebuild the tensors into a model, ``head-<quantity>.skops`` an estimator where the head is one, ``manifest.json`` the
sha256 of each. There is no pickle anywhere. The folder is written under a temporary name and renamed into place, so
that it is whole or absent.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from tltool import plugs
from tltool.data.graphs import Recipe
from tltool.errors import CheckpointError, ConfigError, ResourceError
from tltool.model import functionals
from tltool.model.estimator import EstimatorHead
from tltool.model.heads import linear
from tltool.model.property_model import PropertyModel
from tltool.model.readout import encoder_facts
from tltool.model.scaler import Scaler

SCHEMA = 1
_WEIGHTS, _SPEC, _MANIFEST, _SEEN = "model.safetensors", "model.yaml", "manifest.json", "seen.safetensors"
_TRUSTED = ("sklearn.", "numpy.", "scipy.")


def build(spec: Mapping[str, Any], plugins: Iterable[str] = ()) -> PropertyModel:
    """Return a fresh model as ``spec`` describes it: YAML nodes ``encoder``, ``readout``, ``trunk``; ``quantities``.

    With ``functionals`` in it, the encoder gets a vector for each; without ``head``, heads are linear.
    """
    encoder = plugs.call(spec["encoder"], plugins=plugins, place="encoder")
    if spec.get("functionals"):
        functionals.give(encoder, len(spec["functionals"]))
    readout = plugs.call(spec["readout"], *encoder_facts(encoder), plugins=plugins, place="readout")
    trunk = plugs.call(spec["trunk"], readout.dim, plugins=plugins, place="trunk")
    fresh_head = plugs.bound(spec["head"], plugins, "head") if "head" in spec else linear
    heads = {name: fresh_head(trunk.dim) for name in spec["quantities"]}
    scalers = {name: Scaler(name in spec.get("logarithmic", ())) for name in heads}
    return PropertyModel(encoder, readout, trunk, heads, scalers, spec, fresh_head)


def recipe(spec: Mapping[str, Any]) -> Recipe:
    """Return the graph recipe that a model was trained with."""
    return Recipe(**spec["graph"])


def save(path: Path, model: PropertyModel) -> None:
    """Write ``model`` to the new folder ``path``; raise ResourceError if it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        save_file(tensors, temporary / _WEIGHTS)
        estimators = {k: h.estimator for k, h in model.heads.items() if isinstance(h, EstimatorHead)}
        for name, estimator in estimators.items():
            import skops.io

            skops.io.dump(estimator, temporary / f"head-{name}.skops")
        if model.seen:
            save_arrays(model.seen, temporary / _SEEN)
        spec = {**model.spec, "schema": SCHEMA, "estimators": sorted(estimators)}
        (temporary / _SPEC).write_text(OmegaConf.to_yaml(OmegaConf.create(spec)), encoding="utf-8")
        sums = {file.name: _sha256(file) for file in sorted(temporary.iterdir())}
        (temporary / _MANIFEST).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
        for file in temporary.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        temporary.rename(path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ResourceError(
            f"Cannot save the model to {path} ({error.strerror}); free space or name another folder."
        ) from error


def load(path: Path, device: torch.device | str = "cpu", plugins: Iterable[str] = ()) -> PropertyModel:
    """Return the model saved at ``path``, in evaluation mode on ``device``.

    Raises CheckpointError, naming the file, for a folder that is missing, unfinished, changed since it was saved,
    of a newer schema, or that asks for code which is not allowed.
    """
    spec = read_spec(path)
    try:
        model = build(spec, plugins)
        for name in spec["estimators"]:
            model.heads[name] = EstimatorHead(_estimator(path / f"head-{name}.skops"))
        model.load_state_dict(load_file(path / _WEIGHTS))
        if (path / _SEEN).is_file():
            model.seen = load_arrays(path / _SEEN)
    except ConfigError as error:
        raise CheckpointError(f"{path / _SPEC} cannot be used: {error}") from error
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        first = str(error).strip().splitlines()[-1].strip() if str(error).strip() else repr(error)
        raise CheckpointError(f"{path} does not hold the model that its {_SPEC} describes ({first}).") from error
    return model.to(device).eval()


def read_spec(path: Path) -> dict[str, Any]:
    """Return what ``model.yaml`` of the folder ``path`` says, after checking every file against the manifest."""
    if not path.is_dir():
        raise CheckpointError(f"There is no model folder at {path}; 'tltool pretrain' makes one.")
    manifest = path / _MANIFEST
    if not manifest.is_file():
        raise CheckpointError(f"{path} has no {_MANIFEST}: it is not a model folder, or was never finished.")
    try:
        sums = json.loads(manifest.read_text(encoding="utf-8"))
        for name in {_WEIGHTS, _SPEC, *sums}:
            file = path / Path(name).name
            if not file.is_file():
                raise CheckpointError(f"{file} is missing; copy the whole model folder.")
            if _sha256(file) != sums.get(name):
                raise CheckpointError(
                    f"{file} has changed since the model was saved (its sha256 differs); copy it again."
                )
        spec = OmegaConf.to_container(OmegaConf.load(path / _SPEC))
    except (ValueError, AttributeError, OSError, OmegaConfBaseException) as error:
        raise CheckpointError(f"{path} is not a readable model folder ({error}).") from error
    if not isinstance(spec, dict) or spec.get("schema") != SCHEMA:
        found = spec.get("schema") if isinstance(spec, dict) else None
        raise CheckpointError(
            f"{path / _SPEC} has schema {found}, this version reads {SCHEMA}; use the tltool that made it."
        )
    return {str(k): v for k, v in spec.items()}


def _estimator(file: Path) -> Any:
    import skops.io

    unknown = skops.io.get_untrusted_types(file=file)
    strange = [name for name in unknown if not name.startswith(_TRUSTED)]
    if strange:
        raise CheckpointError(f"{file} asks for {', '.join(strange)}, which is not allowed; do not use this model.")
    return skops.io.load(file, trusted=unknown)


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
