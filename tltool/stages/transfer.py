"""``tltool transfer``: take a pretrained model to a small data set of another quantity."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tltool import plugs
from tltool.errors import CheckpointError
from tltool.training import checkpoint, inputs, outcome
from tltool.training.fit import device
from tltool.training.run import Run, show_errors
from tltool.training.sources import model_folder


def run(config: Mapping[str, Any], folder: Run) -> None:
    """Take ``config['source']`` to ``config['target']`` by ``config['mode']``; model and errors go to ``folder``."""
    clock = outcome.Clock()
    where = device(config["device"])
    path = model_folder(config["source"], Path(config["runs"]), "pretrain")
    source = checkpoint.load(path, where, config["plugins"])
    recipe = checkpoint.recipe(source.spec)
    wanted = replace(recipe, **{k: v for k, v in config["graph"].items() if v is not None})
    if differing := wanted.differences(recipe):
        raise CheckpointError(f"{'; '.join(differing)}; leave graph= out, or pretrain a source with these settings.")
    folder.say(f"Source: {path}")
    target = config["target"]
    dataset = inputs.data_set(config, target["data"], recipe, folder.say)
    quantities = list(target["quantities"])
    base = inputs.base_labels(config, target.get("base"), dataset, quantities, recipe, folder.say)
    data, split = inputs.split_batches(config, dataset, quantities, folder.say, base)
    folder.write_split(split.items(), dataset.store.ids)
    data = data.to(where)
    fit = inputs.fit(config, folder)
    name = str(config["mode"]["_target_"]).rpartition(".")[2]
    folder.say(
        f"{name} to {target['name']}: {len(split.train):,} training, {len(split.val):,} validation, "
        f"{len(split.test):,} test rows ({where})."
    )
    torch.manual_seed(fit.seed)
    model = plugs.call(config["mode"], source, data, fit, plugins=config["plugins"])
    outcome.remember(model, data, dataset, folder, "transfer")
    model.spec["base"] = outcome.named(target["base"]) if target.get("base") else None
    facts = {
        "stage": "transfer",
        "mode": name,
        "target": target["name"],
        "data": target["data"]["name"],
        "seed": config["seed"],
        "split_seed": config["split"].get("seed"),
        "fold": config["split"].get("fold"),
        "train_size": len(split.train),
        "source": str(path),
        "model": str(folder.folder / "model"),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "seconds": clock.seconds(),
    }
    summary = outcome.evaluate(folder, model, data, dataset, outcome.parts_of(data), facts)
    outcome.keep(folder, model)
    show_errors(summary, "test")
