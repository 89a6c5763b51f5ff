"""Load the sources of a transfer: one, or several whose features are taken together.

The first network has the graph settings and the backbone; the others stand in ``PropertyModel.more_sources``. Frozen
potentials (``tltool.potentials``) stand in ``PropertyModel.potentials``; the place of one is its YAML, and where there
is no network, ``NoNetwork`` takes its place.
"""

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tltool.data.overlap import crystal_index
from tltool.errors import CheckpointError, ConfigError
from tltool.evaluation import reference_predictions
from tltool.model.encoders.no_network import NoNetwork
from tltool.model.mean_of_models import MeanOfModels
from tltool.model.property_model import PropertyModel
from tltool.potentials import catalogue, crystal_features, placement
from tltool.run_folder import bundled_models
from tltool.run_folder.bundled_models import called
from tltool.run_folder.find import chain, source_folder
from tltool.training.backend import Backend
from tltool.training.saved_model import checkpoint

SEVERAL = ("features", "auto")
"""The modes that take features of several sources."""


def folders(source: str | Sequence[str], runs: Path, mode: str, say: Callable[[str], None]) -> list[Path]:
    """Return the model folder of each source of the key ``source``, one or a list; of a potential its YAML, last.

    Where ``bundled`` is named, or taken for ``latest``, the ``mode`` auto takes all models that ship. Raises
    CheckpointError as ``find.model_folder`` does, and ConfigError for no source, for one named twice, for a potential
    whose package is missing, and for a ``mode`` that cannot use a potential.
    """
    names = [source] if isinstance(source, str) else [str(name) for name in source]
    potentials = [name for name in names if catalogue.is_one(name)]
    found = [source_folder(name, runs, say) for name in names if name not in potentials]
    if mode == "auto" and source in (bundled_models.WORD, "latest") and found == [bundled_models.folder("bundled")]:
        found += [
            path for name in bundled_models.names() if (path := bundled_models.folder(f"bundled/{name}")) not in found
        ]
    found += [catalogue.file(name) for name in potentials]
    if potentials and mode not in (*SEVERAL, *(["scratch"] if len(found) > len(potentials) else [])):
        raise ConfigError(
            f"source={potentials[0]}: mode={mode} trains the network of its source, and a potential stays frozen; use "
            f"{' or '.join(f'mode={one}' for one in SEVERAL)}."
        )
    for name in potentials:
        catalogue.require(name)
    if not found:
        raise ConfigError("source=[] names no model; name at least one, such as source=bundled.")
    if twice := [str(path) for path in found if found.count(path) > 1]:
        raise ConfigError(f"source names {twice[0]} twice; name each model once.")
    return found


def word(paths: Sequence[Path]) -> str:
    """Return what the key ``source`` says for ``paths``: a name, or a list of names."""
    names = [_called(path) for path in paths]
    return names[0] if len(names) == 1 else f"[{','.join(names)}]"


def digest(paths: Sequence[Path]) -> str:
    """Return what changes with every file of the models at ``paths``."""
    return "+".join(
        hashlib.sha256(path.read_bytes()).hexdigest() if catalogue.is_file(path) else checkpoint.digest(path)
        for path in paths
    )


def loaded(
    paths: Sequence[Path],
    backend: Backend,
    plugins: Sequence[str],
    cache: Path | None = None,
    recipes: Sequence[str] = (),
) -> PropertyModel:
    """Return the model at the first of ``paths`` with those at the others as ``more_sources`` and ``potentials``.

    Its index of training crystals has those of all, except of potentials, for which there is none. Raises
    CheckpointError for a model that cannot be loaded or has other graph settings, and ConfigError for a further one
    with several functionals or a state. Weights of potentials are converted into the folder ``cache``, the
    usual one without any; ``recipes`` of ``potentials.physics`` are asked of them.
    """
    networks = [path for path in paths if not catalogue.is_file(path)]
    model = _networks(networks, backend, plugins) if networks else _no_network(backend)
    names = [path.stem for path in paths if catalogue.is_file(path)]
    if not names:
        return model
    cache = placement.usual_cache() if cache is None else cache
    model = copy.copy(model.alone() if isinstance(model, MeanOfModels) else model)
    entries = {str(one["name"]): one for one in model.spec.get(placement.KEY) or ()}
    found = {name: catalogue.opened(name, cache) for name in {**entries, **dict.fromkeys(names)}}
    for name in names:
        # What an earlier step took of the same potential keeps its columns.
        asked = list(dict.fromkeys([*entries.get(name, {"recipes": []})["recipes"], *recipes]))
        entries[name] = placement.entry(name, found[name], asked)
    model.spec = {**model.spec, placement.KEY: list(entries.values())}
    first, model.potentials = 0, {}
    for name, one in entries.items():
        blocks = crystal_features.blocks(found[name].widths, one["recipes"])
        if name in names:
            model.potentials[name] = {block: [first + at for at in ends] for block, ends in blocks.items()}
        first += max(end for _, end in blocks.values())
    return model


def _no_network(backend: Backend) -> PropertyModel:
    """Return what stands in the place of a network where there are potentials alone, with the graphs of ``bundled``."""
    graph = checkpoint.read_spec(bundled_models.folder(bundled_models.WORD))["graph"]
    node = {"_target_": f"{NoNetwork.__module__}.{NoNetwork.__name__}"}
    pool = {"_target_": "tltool.model.readouts.pool.Pool", "levels": [0], "statistics": ["mean"]}
    dense = {"_target_": "tltool.model.layers.mlp.Dense", "widths": []}
    spec = {"encoder": node, "readout": pool, "trunk": dense, "quantities": {}, "graph": graph, "elements": []}
    return backend.prepare(checkpoint.build(spec).to(backend.device).eval())


def _networks(paths: Sequence[Path], backend: Backend, plugins: Sequence[str]) -> PropertyModel:
    """Return the model at the first of ``paths`` with those at the others as ``more_sources``, as in ``loaded``."""
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
    networks = [path for path in paths if not catalogue.is_file(path)]
    specs = [source.spec, *(other.spec for other in source.more_sources.values())][: len(networks)]
    told = [
        f"{called(p)}, trained on {', then '.join(chain(s)) or 'unknown data'}."
        for p, s in zip(networks, specs, strict=True)
    ]
    told += [
        f"{path.stem}, a frozen potential, trained on {catalogue.about(path.stem)['trained_on']}."
        for path in paths
        if catalogue.is_file(path)
    ]
    return [f"Source: {told[0]}", *(f"Further source: {text}" for text in told[1:])]


def _called(path: Path) -> str:
    return path.stem if catalogue.is_file(path) else called(path)


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
