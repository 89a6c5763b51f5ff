"""``tltool pretrain``: learn a backbone on a large, cheap data set."""

from collections.abc import Mapping
from typing import Any

import torch

from tltool.data.graphs import Recipe
from tltool.model.surgery import new_heads
from tltool.quantities import quantity
from tltool.training import checkpoint, inputs, outcome
from tltool.training.fit import device, scalers, train
from tltool.training.run import Run, show_errors


def run(config: Mapping[str, Any], folder: Run) -> None:
    """Train a fresh model on ``config['data']`` and leave it, with its errors, in the run folder."""
    clock = outcome.Clock()
    recipe = Recipe(**config["graph"])
    where = device(config["device"])
    dataset = inputs.data_set(config, config["data"], recipe, folder.say)
    data, split = inputs.split_batches(config, dataset, list(config["quantities"]), folder.say)
    folder.write_split(split.items(), dataset.store.ids)
    data = data.to(where)
    fit = inputs.fit(config, folder)
    torch.manual_seed(fit.seed)
    spec = {
        "encoder": config["encoder"],
        "readout": config["readout"],
        "trunk": config["trunk"],
        "graph": config["graph"],
        "quantities": {name: quantity(name).unit for name in data.quantities},
    }
    model = checkpoint.build(spec, config["plugins"]).to(where)
    new_heads(model, scalers(data, fit.settings.reference))
    count = sum(p.numel() for p in model.parameters())
    folder.say(
        f"Pretraining on {len(split.train):,} crystals of {config['data']['name']} ({where}); {count:,} parameters."
    )
    train(model, data, fit)
    outcome.remember(model, data, dataset, folder, "pretrain")
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
    }
    summary = outcome.evaluate(folder, model, data, dataset, outcome.parts_of(data), facts)
    outcome.keep(folder, model)
    show_errors(summary, "test")
