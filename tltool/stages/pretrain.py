"""``tltool pretrain``: learn a backbone on a large, cheap data set."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tltool import instantiate, machine
from tltool.data.dataset import Dataset
from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.data.record import Ints
from tltool.errors import ConfigError
from tltool.evaluation import conditions, digests, overlap_audit, provenance, results
from tltool.evaluation.overlap_audit import Auditor
from tltool.evaluation.result_tables import show_errors
from tltool.model.surgery.edit import new_heads
from tltool.quantities import described
from tltool.run_folder.run import Run
from tltool.training import crystal_state, distributed, row_functionals, setup
from tltool.training.backend import Backend
from tltool.training.fit import train
from tltool.training.saved_model import checkpoint
from tltool.training.saved_state import resume
from tltool.training.scaled_labels import scalers


def run(config: Mapping[str, Any], folder: Run, backend: Backend) -> None:
    """Train a fresh model on ``config['data']``; write the model and its errors to the run folder."""
    clock = results.Clock()
    graph_settings = GraphSettings(**config["graph"])
    conditions.refuse(config["data"])
    dataset = setup.data_set(config, config["data"], graph_settings, folder.say)
    watch = overlap_audit.auditor(config, "pretrain", setup.workers(config))
    drop = _to_drop(config, dataset, graph_settings, watch, folder) if watch.action == "drop_source" else None
    data, split = setup.split_batches(config, dataset, list(config["quantities"]), folder.say, without=drop)
    folder.write_split(split.items(), dataset.store.ids)
    folder.log(provenance.event(data))
    spec: dict[str, Any] = {"functionals": _told_apart(config, dataset, folder), "state": list(config["state"])}
    data = row_functionals.placed(data, dataset.store, spec)
    data = crystal_state.placed(data, dataset.store, spec).to(backend.device)
    keeper = resume.keeper(config, folder.folder, folder.say)
    fit = replace(setup.fit(config, folder, backend), keeper=keeper, ids=dataset.store.ids)
    torch.manual_seed(fit.seed)
    spec = {k: v for k, v in spec.items() if v} | {
        "encoder": crystal_state.encoder_with(config["encoder"], spec["state"]),
        "readout": config["readout"],
        "trunk": config["trunk"],
        "head": config["head"],
        "graph": config["graph"],
        "quantities": {name: described(data.known[name]) for name in data.quantities},
    }
    model = backend.prepare(checkpoint.build(spec, config["plugins"]))
    new_heads(model, scalers(data, fit.settings.reference, fit.settings.scale))
    count = sum(p.numel() for p in model.parameters())
    folder.say(
        f"Pretraining on {len(split.train):,} crystals of {config['data']['name']} on {backend.device}; "
        f"the model has {count:,} parameters."
    )
    train(model, data, fit)
    if machine.rank():
        return
    provenance.remember(model, data, dataset, folder, "pretrain", watch)
    facts = {
        "stage": "pretrain",
        "target": config["data"]["name"],
        "data": config["data"]["name"],
        "seed": config["seed"],
        "split_seed": config["split"].get("seed"),
        "train_size": len(split.train),
        "model": str(folder.folder / "model"),
        "trainable_parameters": count,
        "seconds": clock.seconds(),
        "settings": {key: config[key] for key in ("fit", "optimiser")},
        "identity": digests.of(
            data,
            dataset,
            model.spec,
            config,
            digests.content(dataset.store, data.quantities),
            described=config["data"],
        ),
    }
    summary = results.evaluate(folder, model, data, dataset, results.parts_of(data), facts, watch)
    results.keep(folder, model)
    keeper.done()
    show_errors(summary, "test")


def _told_apart(config: Mapping[str, Any], dataset: Dataset, folder: Run) -> list[str]:
    """Return the functionals that get a learnt vector; none for data of one functional or ``functionals=alike``."""
    if config["functionals"] not in ("apart", "alike"):
        raise ConfigError(f"functionals={config['functionals']!r} is not known; use apart or alike.")
    found = row_functionals.names(dataset.store) if config["functionals"] == "apart" else []
    if found:
        folder.say(f"The model has a vector for each functional: {', '.join(found)}.")
    return found


def _to_drop(
    config: Mapping[str, Any], dataset: Dataset, graph_settings: GraphSettings, watch: Auditor, folder: Run
) -> Ints:
    """Return the rows that ``overlap=drop_source`` removes: the rows of a list of ids, and the crystals of a target."""
    file, target = config["overlap"].get("ids"), config["overlap"].get("target")
    if not file and not target:
        raise ConfigError("overlap=drop_source needs overlap.ids=FILE or target@overlap.target=NAME.")
    rows = overlap_audit.rows_of_ids(dataset.store, Path(file).expanduser()) if file else np.empty(0, dtype=np.int64)
    if target:
        other = setup.data_set(config, target["data"], graph_settings, folder.say)
        asked = _asked(config, other, list(target["quantities"]))
        with distributed.first():
            rows = np.union1d(rows, overlap_audit.rows_to_drop(dataset, other, asked, watch.workers, folder.say))
    folder.say(f"{len(rows):,} of {len(dataset.store):,} crystals are not used for pretraining (overlap=drop_source).")
    return rows


def _asked(config: Mapping[str, Any], target: Dataset, quantities: list[str]) -> Ints:
    """Return the rows of ``target`` whose crystals are removed from the source: all, or the held-out rows."""
    labels = setup.labelled(target, quantities, None)
    if config["overlap"]["rows"] == "all":
        return np.flatnonzero(np.isfinite(labels))
    if config["overlap"]["rows"] != "held_out":
        raise ConfigError(f"overlap.rows={config['overlap']['rows']!r} is not known; use all or held_out.")
    # The held-out rows do not depend on the size of the training set, which transfer may vary.
    node = {k: None if k == "train_size" else value for k, value in config["split"].items()}
    parts = instantiate.call(node, target.store, labels, plugins=config["plugins"], place="split")
    return np.concatenate([parts.val, parts.test])
