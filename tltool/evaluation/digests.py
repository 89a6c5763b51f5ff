"""Compute digests of the rows, labels, data and model shape behind the errors of a run, so that runs can be compared.

They are in ``metrics.json`` under ``identity``. Names do not matter: two tables with the name "table" have different
digests, and a moved or renamed table keeps its digest. Sizes: n records, q quantities.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tltool.data import store
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.formats.rows.further_columns import DEVIATION, WEIGHT
from tltool.data.record import Floats, Ints
from tltool.data.store import Store

SCHEMA = 1
_DIGITS = 16  # of a digest in hex, 64 bits
_BLOCK = 65_536
_SHAPE = ("encoder", "readout", "trunk", "head", "state")
_NOT_SHAPE = ("quotient",)  # graph settings that change the storage of a graph and no prediction


def of(
    data: Batches,
    dataset: Dataset,
    spec: Mapping[str, Any],
    config: Mapping[str, Any],
    content: Mapping[str, str],
    *,
    described: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
    left_out: int = 0,
) -> dict[str, Any]:
    """Return the digests of a run on ``data``.

    ``spec`` is that of the model whose shape a scratch run would take; ``config`` holds ``split`` and ``overlap``.
    ``content`` is that of ``content``; ``described`` and ``base`` are the YAML descriptions of the data and of what
    the labels are differences to. ``left_out`` is the number of test rows that ``overlap=drop_test`` removed.

    ``data`` and ``test`` have a digest for each quantity, ``test`` over the rows that have a label of it; ``train`` and
    ``val`` have one over all quantities, as the model learns them together.
    """
    records = dataset.store
    labels = labels_of(records, data)
    low = None if data.base is None else data.base.cpu().double().numpy()
    parts = {name: rows.cpu().numpy() for name, rows in data.split.items()}
    return {
        "schema": SCHEMA,
        "data": dict(content),
        "file": Path(str((described or {}).get("root") or "")).name,
        "quantities": {name: data.known[name].unit for name in data.quantities},
        "base": None if low is None else rows_digest(records, low, np.arange(len(records))),
        "base_name": str((base or {}).get("name") or ""),
        "train": rows_digest(records, labels, parts["train"]),
        "val": rows_digest(records, labels, parts["val"]),
        "test": {name: rows_digest(records, labels[:, [k]], parts["test"]) for k, name in enumerate(data.quantities)},
        "split": dict(config.get("split") or {}),
        "overlap": {"rule": config["overlap"]["action"], "left_out": left_out},
        "shape": shape(spec),
    }


def content(records: Store, quantities: Iterable[str]) -> dict[str, str]:
    """Return a digest of crystals, ids and labels for each quantity, independent of the order of the records.

    What says how much rows count in training is in it.
    """
    crystals = hashlib.sha256()
    order = np.argsort(np.array(list(records.ids)), kind="stable")
    for start in range(0, len(order), _BLOCK):
        some = store.taken(records, order[start : start + _BLOCK])
        crystals.update("\n".join(some.ids).encode())
        crystals.update(np.diff(some.first_site).astype("<i8").tobytes())
        crystals.update(some.numbers.astype("u1").tobytes())
        for values in (some.frac, some.lattice, *([] if some.amounts is None else [some.amounts])):
            crystals.update(_narrow(values).tobytes())
    for tag in (WEIGHT, DEVIATION):
        if tag in records.tags:
            crystals.update("\n".join(records.tags[tag][row] for row in order.tolist()).encode())
    found = {}
    for name in quantities:
        of_quantity = crystals.copy()
        of_quantity.update(_narrow(records.label(name)[order]).tobytes())
        found[name] = of_quantity.hexdigest()[:_DIGITS]
    return found


def shape(spec: Mapping[str, Any]) -> str:
    """Return a digest of the settings that fix the shape of a model: encoder, readout, trunk, graph, functionals."""
    graph = {key: value for key, value in dict(spec.get("graph") or {}).items() if key not in _NOT_SHAPE}
    parts = {key: spec.get(key) or None for key in _SHAPE}
    facts = parts | {"graph": graph, "functionals": len(spec.get("functionals") or ())}
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def labels_of(records: Store, data: Batches) -> Floats:
    """Return the labels (n, q) of the files in their units; NaN if a row has no label to learn."""
    given = np.stack([records.label(name) for name in data.quantities], axis=1)
    learnt = data.labels.cpu().numpy()[:, [at.start for at in data.columns.values()]]
    return np.where(np.isfinite(learnt), given, np.nan)


def rows_digest(records: Store, values: Floats, rows: Ints) -> str:
    """Return a digest of the ids in ``rows`` and their ``values`` (n, q), in any order; skip rows without value."""
    kept = rows[np.isfinite(values[rows]).any(axis=1)]
    # Six digits: stores contain float32, and a table of the same numbers may be in another unit.
    lines = sorted(f"{records.ids[row]}\t" + "\t".join(f"{v:.6g}" for v in values[row]) for row in kept.tolist())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:_DIGITS]


def _narrow(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return ``values`` as float32, like in the stores, with a single form of zero and of NaN."""
    found = values.astype("<f4") + np.float32(0)
    return np.where(np.isnan(found), np.float32(np.nan), found)
