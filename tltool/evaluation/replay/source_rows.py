"""The rows of a source that a transfer may replay: its training rows without the target's held-out crystals.

They come from the source's prepared records, which are in the cache if the source was trained on this machine.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tltool.data import dataset
from tltool.data.batches import batches
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.record import Ints
from tltool.data.splits import Split
from tltool.errors import ConfigError, DataError
from tltool.evaluation import conditions, overlap_audit
from tltool.evaluation.replay import source_split
from tltool.model.property_model import PropertyModel
from tltool.model.surgery.conditions import KEY as CONDITIONS
from tltool.potentials import placement
from tltool.run_folder.bundled_models import called
from tltool.training import crystal_state, row_functionals
from tltool.training.saved_model import checkpoint

Say = Callable[[str], None]


class SourceRows(NamedTuple):
    """The rows as batches with the split of the source, and the number of its training rows that were left out."""

    data: Batches
    left_out: int


def wanted(config: Mapping[str, Any]) -> bool:
    """Say whether the mode of ``config``, or a candidate of it, replays rows of the source in a training."""
    mode = config["mode"]
    weights = [one.get("replay") for one in (mode, *(mode.get("candidates") or {}).values())]
    positive = [weight for weight in weights if isinstance(weight, (int, float)) and weight > 0]
    return bool(positive) and bool(config["fit"]["epochs"])


def held_out(split: Split, tested: Ints, mode: str) -> Ints:
    """Return the rows of a target whose crystals are not replayed: validation rows of ``split``, and the ``tested``.

    With ``mode`` auto they are all rows, since its candidates are compared on training rows.
    """
    return np.unique(np.concatenate([split.val, tested, *([split.train] if mode == "auto" else [])]))


def require_same_inputs(own: PropertyModel, source: PropertyModel) -> None:
    """Raise ConfigError if ``source``, made ready for the target, reads what the rows of the source ``own`` lack."""
    for key, words in ((CONDITIONS, "conditions"), ("functionals", "a functional of each row")):
        if source.spec.get(key) and not own.spec.get(key):
            raise ConfigError(
                f"mode.replay: the target adds {words} to the inputs of the network, which rows of the source do not "
                "have; use mode.replay=0."
            )


def of_source(
    source: PropertyModel, model: Path, target: Dataset, held_out: Ints, workers: int, say: Say
) -> SourceRows:
    """Return the rows of ``source``, the model in the folder ``model``, without crystals of ``held_out`` rows.

    A crystal that has the formula of one of these and cannot be compared is left out too. Raise DataError, with the
    next step, if the records of the source are not there or none is left; ConfigError if the source cannot be learnt
    from them, because it learnt differences or takes what they do not have.
    """
    _refuse(source)
    data = _records(source, model)
    split = source_split.of_run(model, data.store)
    shared = overlap_audit.shared_rows(data, split.train, target, held_out, workers, say)
    train = np.setdiff1d(split.train, np.concatenate(shared))
    left_out = len(split.train) - len(train)
    may = f" ({len(shared[1]):,} of them may be, and could not be compared)" if len(shared[1]) else ""
    without = f"{left_out:,} more are left out, because they are held-out crystals of the target{may}"
    say(
        f"Replaying {len(train):,} training rows of the source ({data.store.attributes.get('name', '')}); "
        f"{without if left_out else 'none is a held-out crystal of the target'}."
    )
    if not len(train):
        raise DataError(
            "mode.replay: every training row of the source is a held-out crystal of the target; use mode.replay=0."
        )
    found = batches.batches(data, source.quantities, split._replace(train=train))
    found = row_functionals.placed(found, data.store, source.spec)
    found = crystal_state.placed(found, data.store, source.spec)
    return SourceRows(conditions.placed(found, data.store, source.spec.get(CONDITIONS) or {}), left_out)


def _refuse(source: PropertyModel) -> None:
    """Raise ConfigError for a source whose rows alone do not say what it learnt."""
    why = {
        "base": "learnt differences to another level of theory",
        placement.KEY: "reads a frozen potential",
    }
    for key, words in why.items():
        if source.spec.get(key):
            raise ConfigError(f"mode.replay: the source {words}, which is not replayed; use mode.replay=0.")


def _records(source: PropertyModel, model: Path) -> Dataset:
    """Return the data set that ``source`` was last trained on; raise DataError if it is not in the cache."""
    steps = source.spec.get("provenance") or [{}]
    place, name = steps[-1].get("prepared"), steps[-1].get("name", "its data set")
    if not place:
        raise DataError(
            f"mode.replay needs the rows that {called(model)} was trained on, and they did not come with the model; "
            "train a source of your own with tltool pretrain, or use mode.replay=0."
        )
    found = dataset.at_hand(Path(place), checkpoint.graph_settings(source.spec))
    if found is None:
        raise DataError(
            f"mode.replay needs the records of {name} that the source was trained on, and they are not in {place} with "
            "the graphs of the source; prepare them again with tltool prepare and the keys of that run, or use "
            "mode.replay=0."
        )
    return found
