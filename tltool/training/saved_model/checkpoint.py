"""Save and load a model: a folder with weights, a text file that describes the model, and a manifest.

``model.safetensors`` holds the tensors, ``seen.safetensors`` the index of training crystals,
``uncertainty.safetensors`` what its intervals are made of, ``model.yaml`` how to
rebuild the tensors into a model, ``head-<quantity>.skops`` an estimator where the head is one, ``manifest.json`` the
sha256 of each. There is no pickle anywhere. The folder is written under a temporary name and renamed into place, so
that it is whole or absent.
"""

import copy
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from tltool import instantiate
from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.errors import CheckpointError, ConfigError, ResourceError
from tltool.instantiate import MODEL
from tltool.model.heads import linear
from tltool.model.layers import functionals
from tltool.model.mean_of_models import MeanOfModels
from tltool.model.process_ensemble import PROCESSES, empty
from tltool.model.property_model import PropertyModel
from tltool.model.readouts.pool import encoder_facts
from tltool.model.scaler import ClassScaler, Scaler
from tltool.model.sklearn_head import EstimatorHead
from tltool.quantities import defined
from tltool.training.saved_model import estimator_file, plain_yaml, saved_parts, uncertainty_file, upgrades

_NEEDED = ("encoder", "readout", "trunk", "quantities", "graph", "estimators", "elements")
_SHARED = (
    "quantities",
    "elements",
    "logarithmic",
    "bounded",
    "classified",
    "provenance",
    "further_provenance",
    "functional",
    "functionals",
)
_SMALL = 2048
_WEIGHTS, _SPEC, _MANIFEST, _SEEN = "model.safetensors", "model.yaml", "manifest.json", "seen.safetensors"
_UNCERTAINTY = "uncertainty.safetensors"
_LARGEST = 16 << 20  # bytes of model.yaml and manifest.json


def build(spec: Mapping[str, Any], plugins: Iterable[str] = ()) -> PropertyModel:
    """Return a fresh model as ``spec`` describes it: YAML nodes ``encoder``, ``readout``, ``trunk``; ``quantities``.

    With ``functionals`` in it, the encoder gets a vector for each; without ``head``, heads are linear.
    """
    encoder = instantiate.call(spec["encoder"], plugins=plugins, place="encoder")
    if spec.get("functionals"):
        functionals.give(encoder, len(spec["functionals"]))
    readout = instantiate.call(spec["readout"], *encoder_facts(encoder), plugins=plugins, place="readout")
    trunk = instantiate.call(spec["trunk"], readout.dim, plugins=plugins, place="trunk")
    fresh_head = instantiate.bound(spec["head"], plugins, "head") if "head" in spec else linear
    scalers = {name: _scaler(name, spec) for name in spec["quantities"]}
    heads = {n: fresh_head(trunk.dim, *([s.width] if s.width > 1 else [])) for n, s in scalers.items()}
    return PropertyModel(encoder, readout, trunk, heads, scalers, spec, fresh_head)


def _scaler(name: str, spec: Mapping[str, Any]) -> Scaler | ClassScaler:
    """Return the scaler of a quantity; those of ``classified`` are classes, which older models learnt as numbers."""
    if name in (spec.get("classified") or ()):
        return ClassScaler(defined(name, spec["quantities"][name], f"quantities.{name}").class_names)
    bounds = (spec.get("bounded") or {}).get(name)
    return Scaler(name in (spec.get("logarithmic") or ()), None if bounds is None else _bounds(name, bounds))


def _bounds(name: str, given: Any) -> tuple[float, float]:
    low, high = map(float, given)
    if not -math.inf < low < high < math.inf:
        raise ConfigError(f"bounded.{name}={given!r} must be two numbers, the smaller first.")
    return low, high


def graph_settings(spec: Mapping[str, Any]) -> GraphSettings:
    """Return the graph settings that a model was trained with."""
    return GraphSettings(**spec["graph"])


def save(path: Path, model: PropertyModel) -> None:
    """Write ``model`` to the new folder ``path``; raise ResourceError if it cannot be written.

    Of a mean of models the first stands in ``path`` itself, the others in folders ``member-<name>`` in it.
    """
    others = model.others() if isinstance(model, MeanOfModels) else {}
    weights = model.weights if isinstance(model, MeanOfModels) else ()
    model = model.alone() if isinstance(model, MeanOfModels) else model
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        save_file(tensors, temporary / _WEIGHTS)
        estimators = {k: h.estimator for k, h in model.heads.items() if isinstance(h, EstimatorHead)}
        for name, estimator in estimators.items():
            estimator_file.save(temporary / f"head-{name}.skops", estimator)
        if model.seen:
            save_arrays(model.seen, temporary / _SEEN)
        if model.uncertainty:
            save_arrays(model.uncertainty, temporary / _UNCERTAINTY)
        spec = {**saved_parts.on_disk(model.spec), "schema": upgrades.SCHEMA, "estimators": sorted(estimators)}
        spec["members"], spec["member_weights"] = {}, list(weights)
        for name, member in others.items():
            twin = copy.copy(member)
            twin.spec = {**member.spec, **{key: model.spec[key] for key in _SHARED if key in model.spec}}
            save(temporary / f"member-{name}", twin)
            spec["members"][name] = digest(temporary / f"member-{name}")
        processes = {k: h for k, h in model.heads.items() if isinstance(h, PROCESSES)}
        spec["processes"] = {name: head.made_with() for name, head in processes.items()}
        (temporary / _SPEC).write_text(OmegaConf.to_yaml(OmegaConf.create(spec)), encoding="utf-8")
        files = [file for file in sorted(temporary.iterdir()) if file.is_file()]
        sums = {file.name: _sha256(file) for file in files}
        (temporary / _MANIFEST).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
        for file in (*files, temporary / _MANIFEST):
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        temporary.rename(path)
    except (OSError, SafetensorError) as error:  # the latter of a full disk too
        shutil.rmtree(temporary, ignore_errors=True)
        why = getattr(error, "strerror", None) or error
        raise ResourceError(
            f"Cannot save the model to {path} ({why}); free disk space or choose another folder."
        ) from error


def load(path: Path, device: torch.device | str = "cpu", plugins: Iterable[str] = ()) -> PropertyModel:
    """Return the model saved at ``path``, in evaluation mode on ``device``.

    Raises CheckpointError, naming the file, for a folder that is missing, unfinished, changed since it was saved,
    of a newer schema, or that asks for code which is not allowed.
    """
    spec = read_spec(path)
    try:
        spec = saved_parts.in_memory(spec, plugins)
        _bounded(spec, path / _WEIGHTS)
        model = build(spec, plugins)
        for name in spec["estimators"]:
            if name not in model.heads:
                raise ConfigError(f"estimators names {name!r}, which is not a quantity of the model.")
            model.heads[name] = estimator_file.head(path / f"head-{name}.skops", model.scalers[name])
        for name, made_with in spec.get("processes", {}).items():
            if name not in model.heads:
                raise ConfigError(f"processes names {name!r}, which the model does not predict.")
            model.heads[name] = empty(model.trunk.dim, made_with)  # type: ignore[arg-type]
        model.load_state_dict(load_file(path / _WEIGHTS))
        if (path / _SEEN).is_file():
            model.seen = load_arrays(path / _SEEN)
        if (path / _UNCERTAINTY).is_file():
            model.uncertainty = load_arrays(path / _UNCERTAINTY)
            if why := uncertainty_file.faults(model.uncertainty, model.quantities):
                raise CheckpointError(
                    f"{path / _UNCERTAINTY} cannot be used: {why}; copy the whole model folder again."
                )
    except ConfigError as error:
        raise CheckpointError(f"{path / _SPEC} cannot be used: {error}") from error
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError, AttributeError, MemoryError) as error:
        first = str(error).strip().splitlines()[-1].strip() if str(error).strip() else repr(error)
        raise CheckpointError(
            f"{path} does not contain the model that its {_SPEC} describes ({first}); copy the model folder again."
        ) from error
    model = _with_members(model, spec.get("members", {}), spec.get("member_weights"), path, plugins)
    return model.to(device).eval()


def digest(path: Path) -> str:
    """Return the sha256 of the manifest of the folder ``path``, which changes with every file of the model."""
    return _sha256(path / _MANIFEST)


def _with_members(model: PropertyModel, names: Any, weights: Any, path: Path, plugins: Iterable[str]) -> PropertyModel:
    """Return the mean of ``model`` and the models in the folders of ``names``, {name: sha256 of its manifest}.

    ``weights`` are those of all, ``model`` first; equal without any, as in folders of earlier versions.
    """
    if not names:
        return model
    if not isinstance(names, Mapping) or not all(re.fullmatch(r"\w[\w-]*", str(name)) for name in names):
        raise CheckpointError(
            f"{path / _SPEC} names no members of a mean of models; copy the whole model folder again."
        )
    others = {}
    for name, known in names.items():
        folder = path / f"member-{name}"
        if not (folder / _MANIFEST).is_file() or digest(folder) != known:
            raise CheckpointError(f"{folder} is missing or has changed since the model was saved; copy it again.")
        others[str(name)] = load(folder, "cpu", plugins)
        if others[str(name)].quantities != model.quantities or isinstance(others[str(name)], MeanOfModels):
            raise CheckpointError(f"{folder} predicts other quantities than {path}; copy the whole model folder again.")
    shares = [1.0 / (1 + len(others))] * (1 + len(others)) if weights is None else weights
    positive = isinstance(shares, list) and all(isinstance(share, float) and share > 0 for share in shares)
    if not positive or len(shares) != 1 + len(others) or abs(sum(shares) - 1.0) > 1e-6:
        raise CheckpointError(
            f"{path / _SPEC}: member_weights={weights} do not fit its members; copy the whole model folder again."
        )
    return MeanOfModels({"": model} | others, shares)


def read_spec(path: Path) -> dict[str, Any]:
    """Return what ``model.yaml`` of the folder ``path`` says, in today's form, whatever version saved it.

    Raise CheckpointError for a folder that is not whole, a file that the manifest does not fit, and a newer schema.
    """
    if not path.is_dir():
        raise CheckpointError(f"There is no model folder at {path}; 'tltool pretrain' makes one.")
    manifest = path / _MANIFEST
    if not manifest.is_file():
        raise CheckpointError(
            f"{path} has no {_MANIFEST}: it is not a model folder or is incomplete; name another folder."
        )
    try:
        sums = json.loads(_text(manifest))
        if not isinstance(sums, dict):
            raise ValueError("the manifest is not a table of files")
        for name in {_WEIGHTS, _SPEC, *sums}:
            file = path / Path(name).name
            if not file.is_file():
                raise CheckpointError(f"{file} is missing; copy the whole model folder.")
            if _sha256(file) != sums.get(name):
                raise CheckpointError(
                    f"{file} has changed since the model was saved (its sha256 differs); copy it again."
                )
        spec = plain_yaml.parsed(_text(path / _SPEC))
    except RecursionError as error:
        raise CheckpointError(
            f"{path} cannot be read as a model folder (it is nested too deeply); copy it again."
        ) from error
    except (ValueError, AttributeError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a model folder ({str(error).splitlines()[0]}); copy it again."
        ) from error
    if not isinstance(spec, dict):
        raise CheckpointError(f"{path / _SPEC} is no table of keys; copy the whole model folder again.")
    spec = upgrades.upgraded({str(k): v for k, v in spec.items()}, str(path / _SPEC))
    missing = [key for key in _NEEDED if key not in spec]
    if missing:
        raise CheckpointError(f"{path / _SPEC} lacks {', '.join(missing)}; copy the whole model folder again.")
    return spec


def _text(file: Path) -> str:
    if file.stat().st_size > _LARGEST:
        raise CheckpointError(
            f"{file} is larger than {_LARGEST >> 20} MB, so it is not from tltool; do not use this model."
        )
    return file.read_text(encoding="utf-8")


def _bounded(spec: Mapping[str, Any], weights: Path) -> None:
    """Raise ConfigError for a number larger than any tensor of the file ``weights``: it would only fill memory."""
    with safe_open(weights, framework="pt") as file:
        sizes = [size for name in file.keys() for size in file.get_slice(name).get_shape()]  # noqa: SIM118
    most = max([_SMALL, *sizes])

    def check(where: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                check(f"{where}.{key}", inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                check(where, inner)
        elif isinstance(value, int) and abs(value) > most:
            raise ConfigError(f"{where}={value} is larger than any tensor of the model.")

    for key in MODEL:
        check(key, spec.get(key))


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
