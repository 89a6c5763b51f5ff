"""Load the sources of a transfer: one, or several whose features are taken together.

The first one has the graph settings and the backbone; the others stand in ``PropertyModel.more_sources``.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tltool.data.overlap import crystal_index
from tltool.errors import CheckpointError, ConfigError
from tltool.evaluation import reference_predictions
from tltool.model.mean_of_models import MeanOfModels
from tltool.model.property_model import PropertyModel
from tltool.run_folder import bundled_models
from tltool.run_folder.bundled_models import called
from tltool.run_folder.find import chain, source_folder
from tltool.training.backend import Backend
from tltool.training.saved_model import checkpoint

SEVERAL = ("features", "auto")
"""The modes that take features of several sources."""


def folders(source: str | Sequence[str], runs: Path, mode: str, say: Callable[[str], None]) -> list[Path]:
    """Return the model folder of each source of the key ``source``: one, or a list.

    Where ``bundled`` is named, or taken for ``latest``, the ``mode`` auto takes all models that ship. Raises
    CheckpointError as ``find.model_folder`` does, and ConfigError for no source and for one named twice.
    """
    names = [source] if isinstance(source, str) else list(source)
    found = [source_folder(str(name), runs, say) for name in names]
    if mode == "auto" and source in (bundled_models.WORD, "latest") and found == [bundled_models.folder("bundled")]:
        found += [
            path for name in bundled_models.names() if (path := bundled_models.folder(f"bundled/{name}")) not in found
        ]
    if not found:
        raise ConfigError("source=[] names no model; name at least one, such as source=bundled.")
    if twice := [str(path) for path in found if found.count(path) > 1]:
        raise ConfigError(f"source names {twice[0]} twice; name each model once.")
    return found


def word(paths: Sequence[Path]) -> str:
    """Return what the key ``source`` says for ``paths``: a name, or a list of names."""
    names = [called(path) for path in paths]
    return names[0] if len(names) == 1 else f"[{','.join(names)}]"


def digest(paths: Sequence[Path]) -> str:
    """Return what changes with every file of the models at ``paths``."""
    return "+".join(checkpoint.digest(path) for path in paths)


def loaded(paths: Sequence[Path], backend: Backend, plugins: Sequence[str]) -> PropertyModel:
    """Return the model at the first of ``paths`` with those at the others as ``more_sources``.

    Its index of training crystals has those of all. Raises CheckpointError for a model that cannot be loaded or has
    other graph settings, and ConfigError for a further one with several functionals or a state.
    """
    models = [reference_predictions.loaded(path, backend, plugins) for path in paths]
    if len(models) == 1:
        return models[0]
    first, *others = [model.alone() if isinstance(model, MeanOfModels) else model for model in models]
    for path, other in zip(paths[1:], others, strict=True):
        _check(paths[0], first, path, other)
    joined = copy.copy(first)
    joined.more_sources = dict(zip(_names(first, others), others, strict=True))
    joined.seen = {}
    if all(model.seen for model in models):
        indexes = [crystal_index.from_arrays(model.seen, called(p)) for p, model in zip(paths, models, strict=True)]
        joined.seen = crystal_index.arrays(crystal_index.merged(indexes))
    steps = [step for other in others for step in other.spec.get("provenance", ())]
    joined.spec = {**first.spec, "further_provenance": [*first.spec.get("further_provenance", ()), *steps]}
    return joined


def described(paths: Sequence[Path], source: PropertyModel) -> list[str]:
    """Return a sentence on each source."""
    specs = [source.spec, *(other.spec for other in source.more_sources.values())]
    told = [
        f"{called(p)}, trained on {', then '.join(chain(s)) or 'unknown data'}."
        for p, s in zip(paths, specs, strict=True)
    ]
    return [f"Source: {told[0]}", *(f"Further source: {text}" for text in told[1:])]


def _names(first: PropertyModel, others: Sequence[PropertyModel]) -> list[str]:
    """Return a name for each further source: that of its encoder, with a number if another one has it already."""
    found = [_encoder(first.spec)]
    for other in others:
        name = _encoder(other.spec)
        same = sum(known.partition("_")[0] == name for known in found)
        found.append(f"{name}_{same + 1}" if same else name)
    return found[1:]


def _encoder(spec: Mapping[str, Any]) -> str:
    return str(spec["encoder"]["_target_"]).rpartition(".")[2].lower()


def _check(path: Path, first: PropertyModel, place: Path, other: PropertyModel) -> None:
    ours, theirs = checkpoint.graph_settings(first.spec), checkpoint.graph_settings(other.spec)
    if differing := theirs.differences(ours):
        raise CheckpointError(
            f"The sources {called(path)} and {called(place)} differ in their graphs ({'; '.join(differing)}); name "
            "sources with the same graph settings."
        )
    for key, what in (("functionals", "tells functionals apart"), ("state", "reads a state")):
        if other.spec.get(key):
            raise ConfigError(
                f"The further source {called(place)} {what}, which only the first one may; name it first or leave it "
                "out."
            )
