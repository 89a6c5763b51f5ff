"""Record the training of a model in the model: elements, crystals, quantities, and data sets."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tltool import metrics
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.overlap import crystal_index
from tltool.evaluation import overlap_audit
from tltool.evaluation.overlap_audit import Auditor
from tltool.model.property_model import PropertyModel
from tltool.model.scaler import ClassScaler, Scaler
from tltool.quantities import described
from tltool.run_folder.run import Run
from tltool.training import row_functionals

_OF_STORE = ("name", "adapter", "address", "licence", "citation", "functional")


def remember(
    model: PropertyModel,
    data: Batches,
    dataset: Dataset,
    run: Run,
    stage: str,
    auditor: Auditor,
    mode: str | None = None,
) -> None:
    """Add this training to the model's record: elements, crystals, and source of the labels."""
    model.seen = _crystals(model, data, dataset, run, auditor)
    spec = model.spec
    spec["elements"] = sorted(int(z) for z in set(spec.get("elements", ())) | data.elements("train"))
    if spec.get("functionals"):
        spec["functional"] = row_functionals.last(data, spec["functionals"])
    name_quantities(model, data)
    spec["provenance"] = [*spec.get("provenance", ()), _step(spec, data, dataset, run, stage, mode)]


def name_quantities(model: PropertyModel, data: Batches) -> None:
    """Write into the model's record what it predicts, and how that was learnt."""
    spec = model.spec
    spec["quantities"] = {name: described(data.known[name]) for name in data.quantities}
    spec["logarithmic"] = [name for name, s in model.scalers.items() if isinstance(s, Scaler) and s.logarithmic]
    bounded = {name: list(s.bounds) for name, s in model.scalers.items() if isinstance(s, Scaler) and s.bounds}
    spec.pop("bounded", None)
    spec |= {"bounded": bounded} if bounded else {}
    spec["classified"] = [name for name, s in model.scalers.items() if isinstance(s, ClassScaler)]


def event(data: Batches) -> dict[str, Any]:
    """Return the event that says of each quantity its unit, and what the error of an epoch is."""
    units = {name: data.known[name].unit for name in data.quantities}
    return {
        "event": "quantities",
        "units": units,
        "errors": {name: metrics.of_epochs(data.known[name]) for name in data.quantities},
    }


def named(description: Mapping[str, Any]) -> dict[str, str]:
    """Return the record of the base data set, for a model that predicts differences."""
    return {key: str(description[key]) for key in ("name", "functional") if description.get(key)}


def _crystals(model: PropertyModel, data: Batches, dataset: Dataset, run: Run, auditor: Auditor) -> dict[str, Any]:
    """Return the index of all training crystals of the model; empty if those of an earlier step are unknown."""
    if auditor.action == "none" or (model.spec.get("provenance") and not model.seen):
        # With an index of the last step only, training crystals of the source would count as unseen.
        return {}
    rows = np.concatenate([data.split[part].cpu().numpy() for part in ("train", "val")])
    before = [crystal_index.from_arrays(model.seen, "the source model")] if model.seen else []
    now = overlap_audit.index(dataset, rows, auditor.workers, run.say)
    return crystal_index.arrays(crystal_index.merged([*before, now]))


def _step(
    spec: Mapping[str, Any], data: Batches, dataset: Dataset, run: Run, stage: str, mode: str | None
) -> dict[str, Any]:
    """Return the record of this training."""
    step: dict[str, Any] = {k: v for k, v in dataset.store.attributes.items() if k in _OF_STORE}
    step |= {
        "stage": stage,
        "quantities": list(data.quantities),
        "n_train": len(data.split["train"]),
        "run": run.folder.name,
    }
    step |= {"mode": mode} if mode else {}
    step |= {"chosen": spec["auto"]["chosen"]} if "auto" in spec else {}
    return step | ({"prepared": str(dataset.folder.resolve())} if dataset.folder else {})
