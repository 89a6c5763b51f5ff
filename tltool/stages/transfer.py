"""``tltool transfer``: take a pretrained model to a small data set of another quantity."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tltool import instantiate, machine
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.overlap import crystal_index
from tltool.data.splits import Split, checked
from tltool.errors import CheckpointError, DataError, standing_at
from tltool.evaluation import digests, overlap_audit, provenance, results, source_crystals
from tltool.evaluation.overlap_audit import Auditor
from tltool.evaluation.results import show_errors
from tltool.model.property_model import PropertyModel
from tltool.reporting import verdict
from tltool.run_folder.find import chain, model_folder
from tltool.run_folder.run import Run
from tltool.training import crystal_state, distributed, row_functionals, setup
from tltool.training.backend import Backend
from tltool.training.saved_model import checkpoint


def run(config: Mapping[str, Any], folder: Run, backend: Backend) -> None:
    """Take ``config['source']`` to ``config['target']`` by ``config['mode']``; model and errors go to ``folder``."""
    clock = results.Clock()
    path = model_folder(config["source"], Path(config["runs"]), "pretrain")
    source = folder.once(
        f"{path} on {backend.device}",
        lambda: backend.prepare(checkpoint.load(path, backend.device, config["plugins"])),
    )
    graph_settings = checkpoint.graph_settings(source.spec)
    wanted = replace(graph_settings, **{k: v for k, v in config["graph"].items() if v is not None})
    if differing := wanted.differences(graph_settings):
        raise CheckpointError(f"{'; '.join(differing)}; leave graph= out, or pretrain a source with these settings.")
    folder.say(f"Source: {path}, trained on {', then '.join(chain(source.spec)) or 'nothing it tells of'}.")
    target = config["target"]
    dataset = folder.once(
        f"{target['data']} {graph_settings}", lambda: setup.data_set(config, target["data"], graph_settings, folder.say)
    )
    quantities = list(target["quantities"])
    base = setup.base_labels(config, target.get("base"), dataset, quantities, graph_settings, folder.say)
    data, split = setup.split_batches(config, dataset, quantities, folder.say, base)
    watch = overlap_audit.auditor(config, "transfer", setup.workers(config))
    tested = len(split.test)
    with distributed.first():
        data, split = _audited(source, data, split, dataset, watch, folder, target["name"])
    folder.write_split(split.items(), dataset.store.ids)
    source, data = row_functionals.taken_up(source, data, dataset.store)
    with standing_at("target.data", "data"):
        data = crystal_state.placed(data, dataset.store, source.spec).to(backend.device)
    fit = setup.fit(config, folder, backend)
    name = str(config["mode"]["_target_"]).rpartition(".")[2]
    folder.say(
        f"{name} to {target['name']}: {len(split.train):,} training, {len(split.val):,} validation, "
        f"{len(split.test):,} test rows ({backend.device})."
    )
    torch.manual_seed(fit.seed)
    model = instantiate.call(config["mode"], source, data, fit, plugins=config["plugins"], place="mode")
    backend.prepare(model)
    if machine.rank():
        return
    provenance.remember(model, data, dataset, folder, "transfer", watch, name)
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
        "source": str(path),
        "chain": chain(model.spec),
        "model": str(folder.folder / "model"),
        "trainable_parameters": model.spec.get("trainable_parameters", _trainable(model)),
        "seconds": clock.seconds(),
        "settings": {key: config[key] for key in ("mode", "fit", "optimiser")},
        "identity": digests.of(
            data,
            dataset,
            source.spec,
            config,
            folder.once(
                f"content of {target['data']}, {quantities}", lambda: digests.content(dataset.store, quantities)
            ),
            described=target["data"],
            base=target.get("base"),
            left_out=tested - len(split.test),
        ),
    }
    facts |= {"auto": model.spec["auto"]} if "auto" in model.spec else {}
    summary = results.evaluate(folder, model, data, dataset, results.parts_of(data), facts, watch)
    results.keep(folder, model)
    show_errors(summary, "test")
    for text, command, _ in verdict.so_far(folder.folder, Path(config["runs"]) / "transfer"):
        folder.say(text, command)


def _trainable(model: PropertyModel) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _audited(
    source: PropertyModel, data: Batches, split: Split, dataset: Dataset, watch: Auditor, folder: Run, target: str
) -> tuple[Batches, Split]:
    """Say how many test crystals the source was trained on, and do what ``overlap=`` asks for.

    The source's index decides for every mode, so that scratch is tested on the same crystals as the others.
    """
    if watch.action == "none":
        return data, split
    if not source.seen:
        folder.say("The source model has no index of its training crystals (overlap=none); nothing can be audited.")
        return data, split
    seen = crystal_index.from_arrays(source.seen, "the source model")
    found = overlap_audit.audit(
        seen, dataset, split.test, watch.workers, source_crystals.at_hand(source.spec), folder.say
    )
    folder.say(overlap_audit.told(found, target))
    known = np.array([bool(how) for how in found.how], dtype=bool)
    if watch.action == "error" and known.any():
        first = dataset.store.ids[int(split.test[known][0])]
        raise DataError(
            f"{overlap_audit.told(found, target)} The first is {first!r}; use overlap=drop_test, or pretrain with "
            "overlap=drop_source."
        )
    if watch.action == "drop_test" and known.any():
        split = checked(
            split._replace(test=split.test[~known]), len(dataset.store), needs_val=False, remedy="use overlap=report"
        )
        folder.say(f"{int(known.sum()):,} test crystals are left out, {len(split.test):,} remain.")
        data = replace(data, split={**data.split, "test": torch.from_numpy(split.test)})
    return data, split
