"""``tltool eval``: compute the errors of a trained model on its own test rows, or on other labelled data."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tltool.data import own_labels
from tltool.data.batches.batches import Batches, batches
from tltool.data.dataset import Dataset
from tltool.data.splits import Split, by_ids
from tltool.errors import CheckpointError, ConfigError, DataError
from tltool.evaluation import (
    class_labels,
    conditions,
    conformal,
    digests,
    overlap_audit,
    reference_predictions,
    results,
)
from tltool.evaluation.result_tables import show_errors
from tltool.potentials import placement
from tltool.quantities import require_same_units
from tltool.run_folder.bundled_models import called
from tltool.run_folder.find import model_folder
from tltool.run_folder.run import Run
from tltool.training import crystal_state, row_functionals, setup
from tltool.training.backend import Backend
from tltool.training.saved_model import checkpoint, plain_yaml


def run(config: Mapping[str, Any], folder: Run, backend: Backend) -> None:
    """Predict with the saved model ``config['model']``, and write and print its errors."""
    clock, coverage = results.Clock(), config["coverage"]
    coverage = None if coverage is None else conformal.checked(float(coverage))
    path = model_folder(config["model"], Path(config["runs"]), "transfer")
    model = reference_predictions.loaded(path, backend, config["plugins"])
    folder.say(f"Model: {called(path)}")
    if config.get("data"):
        dataset, data, name = _other(config, model.spec, model.quantities, folder)
    else:
        dataset, data, name = _own(config, path.parent, model.spec, folder)
    data = row_functionals.placed(data, dataset.store, model.spec, config["functional"])
    data = crystal_state.placed(data, dataset.store, model.spec)
    data = conditions.placed(data, dataset.store, model.spec.get("conditions") or {})
    if model.reads_potentials:
        data = placement.placed(data, dataset.store, model.spec, Path(config["cache"]).expanduser(), folder.say)
    watch = overlap_audit.auditor(config, "eval", setup.workers(config))
    facts = {
        "stage": "eval",
        "target": name,
        "data": dataset.store.attributes["name"],
        "model": str(path),
        "train_size": len(data.split["train"]) or None,
        "trainable_parameters": None,
        "seconds": clock.seconds(),
        "identity": digests.of(
            data,
            dataset,
            model.spec,
            config,
            digests.content(dataset.store, data.quantities),
            described=config.get("data"),
            base=model.spec.get("base"),
        ),
    }
    data = data.to(backend.device)
    summary = results.evaluate(folder, model, data, dataset, ["test"], facts, watch, coverage)
    show_errors(summary, "test")


def _own(config: Mapping[str, Any], home: Path, spec: Mapping[str, Any], folder: Run) -> tuple[Dataset, Batches, str]:
    """Return the data set and split of the run that made the model."""
    if not (home / "config.yaml").is_file() or not (home / "split.csv").is_file():
        raise CheckpointError(
            f"{home} is not a run folder (it has no config.yaml or split.csv); name the data with data=NAME."
        )
    if (home / "folds.csv").is_file():
        raise ConfigError(
            f"{home} is a cross-validation, whose model was trained on every row (its errors are in metrics.json); "
            "name other data with data=NAME."
        )
    try:
        made = dict(plain_yaml.parsed((home / "config.yaml").read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(f"{home / 'config.yaml'} is damaged: {error}; name the data with data=NAME.") from error
    try:
        made = own_labels.settled(made, {}, lambda text: None)  # a run of an older version had fewer keys
        description = made["target"]["data"] if "target" in made else made["data"]
        dataset = setup.data_set(config, description, checkpoint.graph_settings(spec), folder.say)
    except DataError as error:
        why = str(error).partition(";")[0]
        raise DataError(
            f"The data of {home} are not available ({why}); restore them, or name other data with data=NAME."
        ) from error
    quantities = list(spec["quantities"])
    low = made["target"].get("base") if "target" in made else None
    base = setup.base_labels(config, low, dataset, quantities, checkpoint.graph_settings(spec), folder.say)
    split = by_ids(dataset.store, setup.labelled(dataset, quantities, base), file=str(home / "split.csv"))
    name = made["target"]["name"] if "target" in made else description["name"]
    return dataset, batches(dataset, quantities, split, base), name


def _other(
    config: Mapping[str, Any], spec: Mapping[str, Any], quantities: list[str], folder: Run
) -> tuple[Dataset, Batches, str]:
    """Return the data set in ``config``, with every labelled row as a test row."""
    if spec.get("base") and not config.get("base"):
        raise ConfigError(
            f"The model predicts the difference to labels of {spec['base']['name']}; name data with these labels as "
            "data@base=NAME."
        )
    if config.get("base") and not spec.get("base"):
        raise ConfigError("The model predicts values, not differences to a base; leave data@base= out.")
    graph_settings = checkpoint.graph_settings(spec)
    dataset = setup.data_set(config, config["data"], graph_settings, folder.say)
    require_same_units(spec["quantities"], dataset.store.known, quantities)
    if any(dataset.store.known[name].is_class for name in quantities if name in dataset.store.known):
        dataset = replace(dataset, store=class_labels.as_the_model_has_them(dataset.store, spec["quantities"]))
    low = config.get("base") if spec.get("base") else None
    base = setup.base_labels(config, low, dataset, quantities, graph_settings, folder.say)
    rows = np.flatnonzero(np.isfinite(setup.labelled(dataset, quantities, base)))
    if not len(rows):
        raise DataError(
            f"{config['data']['name']} has no label for {', '.join(quantities)}; name data with such labels."
        )
    none = np.empty(0, dtype=np.int64)
    return dataset, batches(dataset, quantities, Split(none, none, rows), base), config["data"]["name"]
