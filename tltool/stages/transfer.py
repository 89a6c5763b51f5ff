"""``tltool transfer``: transfer a pretrained model to a small data set, often of another quantity."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tltool import instantiate, machine
from tltool.data.batches import batches
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.data.overlap.crystal_index import Matches
from tltool.data.record import Floats, Ints
from tltool.data.split_folds import Folds
from tltool.data.splits import Split, checked
from tltool.errors import CheckpointError, ConfigError, standing_at
from tltool.evaluation import (
    audited_rows,
    conditions,
    conformal,
    digests,
    overlap_audit,
    provenance,
    results,
    sources,
    uncertainty,
)
from tltool.evaluation.cross_validation import fits
from tltool.evaluation.cross_validation.fits import Study
from tltool.evaluation.cross_validation.outcome import Outcome
from tltool.evaluation.cross_validation.summary import remembered, summary_of
from tltool.evaluation.overlap_audit import Auditor
from tltool.evaluation.replay import source_rows
from tltool.evaluation.result_tables import show_errors
from tltool.model.property_model import PropertyModel
from tltool.potentials import physics, placement
from tltool.quantities import require_same_units
from tltool.reporting import advice
from tltool.run_folder.find import chain
from tltool.run_folder.run import Run
from tltool.training import crystal_state, distributed, row_functionals, setup
from tltool.training.backend import Backend
from tltool.training.saved_model import checkpoint


class _Start(NamedTuple):
    """What a transfer by ``mode`` starts from: the folders of the source, and its model as it was saved."""

    mode: str
    paths: list[Path]
    source: PropertyModel
    graph_settings: GraphSettings


class _Target(NamedTuple):
    """The labelled rows to learn, the ``split`` of all of them, and the ``parts`` to train on: that split, or folds.

    ``tested`` are the test rows of the split or of all folds, before the ``dropped`` ones were left out; ``matches``
    says which of them the source was trained on. ``base`` (n, q) is subtracted from the labels.
    """

    name: str
    dataset: Dataset
    quantities: list[str]
    base: Floats | None
    split: Split
    parts: Split | Folds
    tested: Ints
    dropped: Ints
    matches: Matches | None


def run(config: Mapping[str, Any], folder: Run, backend: Backend) -> None:
    """Transfer ``config['source']`` to ``config['target']`` by ``config['mode']``; write the results to ``folder``."""
    clock, coverage = results.Clock(), config["coverage"]
    coverage = None if coverage is None else conformal.checked(float(coverage))
    start = _start(config, folder, backend)
    config = setup.with_group_column(config)
    watch = overlap_audit.auditor(config, "transfer", setup.workers(config))
    target = _target(config, folder, start, watch)
    source, data = _inputs(config, folder, start, target)
    data = data.to(backend.device)
    fit = replace(setup.fit(config, folder, backend), ids=target.dataset.store.ids)
    mode = instantiate.bound(config["mode"], config["plugins"], "mode")
    replayed = None
    if source_rows.wanted(config):
        replayed = _replayed(config, folder, start, target, watch)
        source_rows.require_same_inputs(start.source, source)
        fit = replace(fit, source_rows=replayed.data.to(backend.device))
    content = folder.once(
        f"content of {config['target']['data']}, {target.quantities}",
        lambda: digests.content(target.dataset.store, target.quantities),
    )
    study = None
    if isinstance(target.parts, Folds):
        study = Study(source, data, target.dataset, fit, {start.mode: mode}, {})
        study = _study(config, study, start.paths, content, target.parts.compare)
    outcomes = _trained_folds(folder, start.mode, target, study, backend)
    torch.manual_seed(fit.seed)
    model = mode(source, data, fit)
    backend.prepare(model)
    if machine.rank():
        return
    provenance.remember(model, data, target.dataset, folder, "transfer", watch, start.mode)
    if coverage is not None:
        whole = remembered(model, study, outcomes) if study else None
        model.uncertainty = uncertainty.of_validation(model, data) if whole is None else whole
        _tell_few(model, coverage, folder, config)
    base = config["target"].get("base")
    model.spec["base"] = provenance.named(base) if base else None
    facts = _facts(config, folder, start, target, model) | {
        "seconds": clock.seconds(),
        "identity": digests.of(
            data, target.dataset, source.spec, _comparable(config), content,
            described=config["target"]["data"], base=base, left_out=len(target.dropped),
        ),
    }  # fmt: skip
    if replayed and "replay" in model.spec:
        facts["replay"] = model.spec["replay"] | {"left_out": replayed.left_out}
    if isinstance(target.parts, Folds) and study:
        matches, tested = target.matches, target.tested.tolist()
        seen = dict(zip(tested, overlap_audit.words(matches, ""), strict=True)) if matches else {}
        summary = summary_of(folder, study, target.parts, outcomes, facts, model, seen, coverage)
    else:
        parts = results.parts_of(data)
        summary = results.evaluate(folder, model, data, target.dataset, parts, facts, watch, coverage)
    results.keep(folder, model)
    if folder.company is None:  # a sweep shows one table of all its runs
        show_errors(summary, "test")
    if not study:
        rows = len(target.split.train)
        advice.after_transfer(config, folder.folder, start.mode, target.quantities, rows, folder.say)


def _start(config: Mapping[str, Any], folder: Run, backend: Backend) -> _Start:
    """Load the source that ``config`` names, and say what it is.

    Raise CheckpointError if ``graph=`` differs from the graph settings of the source, and ConfigError if there are more
    sources than the mode takes.
    """
    name = str(config["mode"]["_target_"]).rpartition(".")[2]
    paths = folder.once(
        f"source {config['source']} of {config['runs']} for {name}",
        lambda: sources.folders(config["source"], Path(config["runs"]), name, folder.say),
    )
    recipes = physics.recipes(config["mode"])
    source = folder.once(
        f"{sources.word(paths)} on {backend.device} with {recipes}",
        lambda: sources.loaded(paths, backend, config["plugins"], Path(config["cache"]).expanduser(), recipes),
    )
    graph_settings = checkpoint.graph_settings(source.spec)
    wanted = replace(graph_settings, **{k: v for k, v in config["graph"].items() if v is not None})
    if differing := wanted.differences(graph_settings):
        raise CheckpointError(f"{'; '.join(differing)}; leave graph= out, or pretrain a source with this graph.")
    if source.more_sources and name not in (*sources.SEVERAL, "scratch"):
        use = " or ".join(f"mode={one}" for one in sources.SEVERAL)
        raise ConfigError(f"source={sources.word(paths)}: mode={name} starts from one source; name one, or use {use}.")
    for text in sources.described(paths, source):
        folder.say(text)
    return _Start(name, paths, source, graph_settings)


def _target(config: Mapping[str, Any], folder: Run, start: _Start, watch: Auditor) -> _Target:
    """Read the target, divide its rows, and audit the test rows; write the split or the folds to ``folder``."""
    about, source = config["target"], start.source
    dataset = folder.once(
        f"{about['data']} {start.graph_settings}",
        lambda: setup.data_set(config, about["data"], start.graph_settings, folder.say),
    )
    quantities = list(about["quantities"])
    with standing_at("target.data", "data"):
        require_same_units(source.spec["quantities"], dataset.store.known, quantities)
    base = setup.base_labels(config, about.get("base"), dataset, quantities, start.graph_settings, folder.say)
    parts = setup.parted(config, dataset, quantities, folder.say, base)
    split = parts.whole if isinstance(parts, Folds) else parts
    tested = np.concatenate([split.train, split.val]) if isinstance(parts, Folds) else split.test
    with distributed.first():
        matches = audited_rows.audited(source, dataset, tested, watch, folder, about["name"])
    dropped = tested[audited_rows.known(matches)] if matches and watch.action == "drop_test" else tested[:0]
    if isinstance(parts, Folds):
        if machine.ranks() > 1:
            raise ConfigError("split=cv trains its folds in one process; start it without torchrun.")
        parts = parts.without(dropped)
        folder.write_folds(parts.parts, dataset.store.ids)
    elif len(dropped):
        left = split._replace(test=split.test[~np.isin(split.test, dropped)])
        parts = split = checked(left, len(dataset.store), needs_val=False, remedy="use overlap=report")
    return _Target(about["name"], dataset, quantities, base, split, parts, tested, dropped, matches)


def _inputs(config: Mapping[str, Any], folder: Run, start: _Start, target: _Target) -> tuple[PropertyModel, Batches]:
    """Return the source made ready for the inputs of the target, and the rows of the target with these inputs."""
    records = target.dataset.store
    data = batches.batches(target.dataset, target.quantities, target.split, target.base)
    folder.write_split(target.split.items(), records.ids)
    folder.log(provenance.event(data))
    source, data = row_functionals.taken_up(start.source, data, records)
    with standing_at("target.data", "data"):
        data = crystal_state.placed(data, records, source.spec)
        source, data = conditions.taken_up(source, data, records, conditions.wanted(config["target"]["data"]))
    if start.mode != "scratch" or source.reads_potentials:
        data = placement.placed(data, records, source.spec, Path(config["cache"]).expanduser(), folder.say)
    return source, data


def _replayed(
    config: Mapping[str, Any], folder: Run, start: _Start, target: _Target, watch: Auditor
) -> source_rows.SourceRows:
    """Return the rows of the source that the mode replays: none that the target holds out."""
    held_out = source_rows.held_out(target.split, target.tested, start.mode)
    found: source_rows.SourceRows = folder.once(
        f"rows of {sources.word(start.paths)} without {hash(held_out.tobytes())} of {config['target']['data']}",
        lambda: source_rows.of_source(
            start.source, start.paths[0], target.dataset, held_out, watch.workers, folder.say
        ),
    )
    return found


def _trained_folds(folder: Run, mode: str, target: _Target, study: Study | None, backend: Backend) -> list[Outcome]:
    """Say what is trained on how many rows; return what the models of the folds predict, nothing without folds."""
    name, split, parts = target.name, target.split, target.parts
    if study is None or not isinstance(parts, Folds):
        folder.say(
            f"{mode} to {name}: {len(split.train):,} training, {len(split.val):,} validation, {len(split.test):,} test "
            f"rows ({backend.device})."
        )
        return []
    folder.say(
        f"{' and '.join(study.modes)} to {name}: {len(target.tested):,} rows in {len(parts.parts):,} folds of about "
        f"{len(parts.parts[0].split.train):,} training rows ({backend.device})."
    )
    outcomes = fits.run_folds(folder, study, parts)
    folder.say(f"{mode} on all {len(split.train):,} rows, for the model that is kept.")
    return outcomes


def _facts(
    config: Mapping[str, Any], folder: Run, start: _Start, target: _Target, model: PropertyModel
) -> dict[str, Any]:
    """Return what ``metrics.json`` says of the run besides errors."""
    split = config["split"]
    return {
        "stage": "transfer",
        "mode": start.mode,
        "target": target.name,
        "data": config["target"]["data"]["name"],
        "seed": config["seed"],
        "split_seed": split.get("seed"),
        "draw": split.get("draw"),
        "fold": split.get("fold"),
        "train_size": len(target.split.train),
        "source": sources.word(start.paths),
        "chain": chain(model.spec),
        "model": str(folder.folder / "model"),
        "trainable_parameters": model.spec.get("trainable_parameters", _trainable(model)),
        "settings": {key: config[key] for key in ("mode", "fit", "optimiser")},
        **({"auto": model.spec["auto"]} if "auto" in model.spec else {}),
    }


def _tell_few(model: PropertyModel, coverage: float, folder: Run, config: Mapping[str, Any]) -> None:
    """Say of each quantity without an interval why it has none, and what validation rows were used for besides."""
    fit, few = config["fit"], uncertainty.without(model, coverage)
    for line in few:
        folder.say(line)
    of_validation = int(model.uncertainty["of"][0]) == uncertainty.VALIDATION
    if of_validation and len(few) < len(model.quantities) and (fit["select"] == "best" or fit["patience"] is not None):
        folder.say("The validation rows of the intervals also chose the weights, so the intervals may be too narrow.")


def _study(
    config: Mapping[str, Any], study: Study, paths: Sequence[Path], content: Mapping[str, str], compare: str
) -> Study:
    """Return ``study`` with the mode to compare with, and with all that decides the numbers of a fold besides rows."""
    modes, facts = dict(study.modes), {key: config[key] for key in ("mode", "fit", "optimiser", "seed")}
    if compare == "scratch" and "scratch" not in modes:
        modes["scratch"] = instantiate.bound({"_target_": "tltool.transfer.scratch.scratch"}, (), "mode")
    facts |= {"source": sources.digest(paths), "content": dict(content)}
    return study._replace(modes=modes, facts=facts)


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that tell which runs may be compared: what else is trained on the same folds does not matter."""
    split = {key: value for key, value in config["split"].items() if key != "compare"}
    return {"split": split, "overlap": config["overlap"]}


def _trainable(model: PropertyModel) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
