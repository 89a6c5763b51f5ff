"""``tltool transfer``: transfer a pretrained model to a small data set, often of another quantity."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tltool import instantiate, machine
from tltool.data import cheaper_level
from tltool.data.batches import batches
from tltool.data.dataset import Dataset
from tltool.data.overlap import crystal_index
from tltool.data.overlap.crystal_index import Matches
from tltool.data.record import Ints
from tltool.data.split_folds import GROUPS, Folds
from tltool.data.splits import checked
from tltool.errors import CheckpointError, ConfigError, DataError, standing_at
from tltool.evaluation import (
    conditions,
    conformal,
    cross_validated,
    digests,
    overlap_audit,
    provenance,
    results,
    source_crystals,
    sources,
    uncertainty,
)
from tltool.evaluation.cross_validated import Study
from tltool.evaluation.overlap_audit import Auditor
from tltool.evaluation.replay import source_rows
from tltool.evaluation.result_tables import show_errors
from tltool.model.property_model import PropertyModel
from tltool.potentials import physics, placement
from tltool.quantities import require_same_units
from tltool.reporting import finished_runs, next_runs, verdict
from tltool.reporting.finished_runs import command as command_of
from tltool.reporting.next_runs import Advice
from tltool.run_folder.find import chain
from tltool.run_folder.run import Run
from tltool.training import crystal_state, distributed, row_functionals, setup
from tltool.training.backend import Backend
from tltool.training.saved_model import checkpoint

_FEW_ROWS = 500


def run(config: Mapping[str, Any], folder: Run, backend: Backend) -> None:
    """Transfer ``config['source']`` to ``config['target']`` by ``config['mode']``; write the results to ``folder``."""
    clock, coverage = results.Clock(), config["coverage"]
    coverage = None if coverage is None else conformal.checked(float(coverage))
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
    config = _with_group(config)
    target = config["target"]
    dataset = folder.once(
        f"{target['data']} {graph_settings}", lambda: setup.data_set(config, target["data"], graph_settings, folder.say)
    )
    quantities = list(target["quantities"])
    with standing_at("target.data", "data"):
        require_same_units(source.spec["quantities"], dataset.store.known, quantities)
    base = setup.base_labels(config, target.get("base"), dataset, quantities, graph_settings, folder.say)
    parts = setup.parted(config, dataset, quantities, folder.say, base)
    split = parts.whole if isinstance(parts, Folds) else parts
    tested = np.concatenate([split.train, split.val]) if isinstance(parts, Folds) else split.test
    watch = overlap_audit.auditor(config, "transfer", setup.workers(config))
    with distributed.first():
        matches = _audited(source, dataset, tested, watch, folder, target["name"])
    dropped = tested[_known(matches)] if matches and watch.action == "drop_test" else tested[:0]
    if isinstance(parts, Folds):
        if machine.ranks() > 1:
            raise ConfigError("split=cv trains its folds in one process; start it without torchrun.")
        parts = parts.without(dropped)
        folder.write_folds(parts.parts, dataset.store.ids)
    elif len(dropped):
        left = split._replace(test=split.test[~np.isin(split.test, dropped)])
        split = checked(left, len(dataset.store), needs_val=False, remedy="use overlap=report")
    data = batches.batches(dataset, quantities, split, base)
    folder.write_split(split.items(), dataset.store.ids)
    folder.log(provenance.event(data))
    own, (source, data) = source, row_functionals.taken_up(source, data, dataset.store)
    with standing_at("target.data", "data"):
        data = crystal_state.placed(data, dataset.store, source.spec)
        source, data = conditions.taken_up(source, data, dataset.store, conditions.wanted(target["data"]))
    if name != "scratch" or source.reads_potentials:
        data = placement.placed(data, dataset.store, source.spec, Path(config["cache"]).expanduser(), folder.say)
    data = data.to(backend.device)
    fit = replace(setup.fit(config, folder, backend), ids=dataset.store.ids)
    mode = instantiate.bound(config["mode"], config["plugins"], "mode")
    replayed = None
    if source_rows.wanted(config):
        held_out = source_rows.held_out(split, tested, name)
        replayed = folder.once(
            f"rows of {sources.word(paths)} without {hash(held_out.tobytes())} of {target['data']}",
            lambda: source_rows.of_source(own, paths[0], dataset, held_out, watch.workers, folder.say),
        )
        source_rows.require_same_inputs(own, source)
        fit = replace(fit, source_rows=replayed.data.to(backend.device))
    content = folder.once(
        f"content of {target['data']}, {quantities}", lambda: digests.content(dataset.store, quantities)
    )
    study, outcomes = None, []
    if isinstance(parts, Folds):
        study = _study(config, Study(source, data, dataset, fit, {name: mode}, {}), paths, content, parts.compare)
        folder.say(
            f"{' and '.join(study.modes)} to {target['name']}: {len(tested):,} rows in {len(parts.parts):,} folds of "
            f"about {len(parts.parts[0].split.train):,} training rows ({backend.device})."
        )
        outcomes = cross_validated.run_folds(folder, study, parts)
        folder.say(f"{name} on all {len(split.train):,} rows, for the model that is kept.")
    else:
        folder.say(
            f"{name} to {target['name']}: {len(split.train):,} training, {len(split.val):,} validation, "
            f"{len(split.test):,} test rows ({backend.device})."
        )
    torch.manual_seed(fit.seed)
    model = mode(source, data, fit)
    backend.prepare(model)
    if machine.rank():
        return
    provenance.remember(model, data, dataset, folder, "transfer", watch, name)
    if coverage is not None:
        whole = cross_validated.remembered(model, study, outcomes) if study else None
        model.uncertainty = uncertainty.of_validation(model, data) if whole is None else whole
        _tell_few(model, coverage, folder, config)
    model.spec["base"] = provenance.named(target["base"]) if target.get("base") else None
    facts = {
        "stage": "transfer",
        "mode": name,
        "target": target["name"],
        "data": target["data"]["name"],
        "seed": config["seed"],
        "split_seed": config["split"].get("seed"),
        "draw": config["split"].get("draw"),
        "fold": config["split"].get("fold"),
        "train_size": len(split.train),
        "source": sources.word(paths),
        "chain": chain(model.spec),
        "model": str(folder.folder / "model"),
        "trainable_parameters": model.spec.get("trainable_parameters", _trainable(model)),
        "seconds": clock.seconds(),
        "settings": {key: config[key] for key in ("mode", "fit", "optimiser")},
        "identity": digests.of(
            data,
            dataset,
            source.spec,
            _comparable(config),
            content,
            described=target["data"],
            base=target.get("base"),
            left_out=len(dropped),
        ),
    }
    facts |= {"auto": model.spec["auto"]} if "auto" in model.spec else {}
    if replayed and "replay" in model.spec:
        facts |= {"replay": model.spec["replay"] | {"left_out": replayed.left_out}}
    if isinstance(parts, Folds) and study:
        seen = dict(zip(tested.tolist(), overlap_audit.words(matches, ""), strict=True)) if matches else {}
        summary = cross_validated.summary_of(folder, study, parts, outcomes, facts, model, seen, coverage)
    else:
        summary = results.evaluate(folder, model, data, dataset, results.parts_of(data), facts, watch, coverage)
    results.keep(folder, model)
    if folder.company is None:  # a sweep shows one table of all its runs
        show_errors(summary, "test")
    if study:
        return
    hints = verdict.so_far(folder.folder, Path(config["runs"]) / "transfer")
    for text, command, _ in [*hints, *_difference(folder, target, quantities)]:
        folder.say(text, command)
    if name not in ("auto", "scratch") and facts["train_size"] < _FEW_ROWS:
        folder.say(f"With fewer than {_FEW_ROWS} training rows, mode=auto often has a smaller error than mode={name}.")


def _difference(folder: Run, target: Mapping[str, Any], quantities: Sequence[str]) -> list[Advice]:
    """Return the proposal to learn the difference to a cheaper level of theory that the table of ``target`` has."""
    data = target["data"]
    adapter = data.get("adapter") or {}
    if target.get("base") or len(quantities) != 1 or not data.get("root"):
        return []
    columns = cheaper_level.columns_of(Path(str(data["root"])), adapter)
    found = cheaper_level.cheaper_columns(columns, cheaper_level.column_of(adapter, quantities[0]))
    if not found:
        return []
    words = command_of(finished_runs.read(folder.folder.resolve(), str(folder.folder), "transfer"))
    advice = next_runs.difference(words, str(data["name"]), quantities[0], found[0])
    return [advice] if advice else []


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


def _with_group(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``config`` with the column that ``split.group`` names among the tags that the adapter keeps.

    Groups that every data set has, and a tag that is named already, need no column.
    """
    group, target = config["split"].get("group"), config["target"]
    adapter = target["data"].get("adapter") or {}
    if "compare" not in config["split"] or group is None or group in GROUPS or "tags" not in adapter:
        return config
    tags = {group: group} | dict(adapter["tags"] or {})
    data = {**target["data"], "adapter": {**adapter, "tags": tags}}
    return {**config, "target": {**target, "data": data}}


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that tell which runs may be compared: what else is trained on the same folds does not matter."""
    split = {key: value for key, value in config["split"].items() if key != "compare"}
    return {"split": split, "overlap": config["overlap"]}


def _trainable(model: PropertyModel) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _audited(
    source: PropertyModel, dataset: Dataset, tested: Ints, watch: Auditor, folder: Run, target: str
) -> Matches | None:
    """Print how many of the ``tested`` crystals the source was trained on, and return them; None without an audit.

    The source's index decides for every mode, so that scratch is tested on the same crystals as the others. Raise
    DataError for one that was seen with ``overlap=error``.
    """
    if watch.action == "none":
        return None
    for line in placement.not_audited(source.spec):
        folder.say(line)
    if not source.seen and source.spec.get(placement.KEY) and not source.spec.get("provenance"):
        return None
    if not source.seen:
        folder.say(
            "The source model has no index of its training crystals (overlap=none), so there is no overlap audit."
        )
        return None
    seen = crystal_index.from_arrays(source.seen, "the source model")
    found = overlap_audit.audit(seen, dataset, tested, watch.workers, source_crystals.at_hand(source.spec), folder.say)
    folder.say(overlap_audit.told(found, target))
    known = _known(found)
    if watch.action == "error" and known.any():
        first = dataset.store.ids[int(tested[known][0])]
        raise DataError(
            f"{overlap_audit.told(found, target)} The first is {first!r}; use overlap=drop_test, or pretrain with "
            "overlap=drop_source."
        )
    if watch.action == "drop_test" and known.any():
        folder.say(f"{int(known.sum()):,} test crystals are removed; {int((~known).sum()):,} remain.")
    return found


def _known(matches: Matches) -> npt.NDArray[np.bool_]:
    """Return which crystals (t,) the source was trained on."""
    return np.array([bool(how) for how in matches.how], dtype=bool)
