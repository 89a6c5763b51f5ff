"""Predictions that a model folder carries for a few crystals, compared whenever the model is loaded.

``reference.json`` holds the crystals and what the model predicted for them where it was trained. Checksums show that
the files are whole; these predictions show that this installation computes with them what it should. Models that ship
with tltool carry them; other folders need none. Sizes: c crystals, q quantities.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal, Floats, checked
from tltool.errors import CheckpointError, DataError
from tltool.model.property_model import PropertyModel
from tltool.training.backend import Backend
from tltool.training.saved_model import checkpoint

NAME = "reference.json"
TOLERANCE = 2e-3
"""Largest difference, in the quantity's unit, and as a share of the prediction where that is larger than one unit."""

_LARGEST = 1 << 20  # bytes
_MOST_SITES = 1_000


def loaded(path: Path, backend: Backend, plugins: Iterable[str] = ()) -> PropertyModel:
    """Return the model saved at ``path`` as ``backend`` computes it, after its reference predictions were compared.

    Raises CheckpointError as ``checkpoint.load`` does, and for a prediction that differs.
    """
    model = backend.prepare(checkpoint.load(path, backend.device, plugins))
    if (path / NAME).is_file():
        _compare(path, model)
    return model


def content(model: PropertyModel, crystals: Sequence[tuple[str, Crystal]]) -> dict[str, Any]:
    """Return what ``reference.json`` of ``model`` says for ``crystals``, each with its name."""
    values = _predicted(model, [crystal for _, crystal in crystals])
    rows = [
        {
            "id": name,
            "lattice": crystal.lattice.tolist(),
            "frac_coords": crystal.frac.tolist(),
            "numbers": crystal.numbers.tolist(),
            "predictions": {name: float(row[at.start]) for name, at in model.columns.items()},
        }
        for (name, crystal), row in zip(crystals, values, strict=True)
    ]
    return {"units": {name: model.known[name].unit for name in model.quantities}, "crystals": rows}


def _compare(path: Path, model: PropertyModel) -> None:
    names, crystals, expected = _read(path / NAME, model.quantities)
    found = _predicted(model, crystals)
    found = found[:, [at.start for at in model.columns.values()]]
    for column, name in enumerate(model.quantities):
        off = np.abs(found[:, column] - expected[:, column]) / np.maximum(1.0, np.abs(expected[:, column]))
        worst = int(np.argmax(np.where(np.isfinite(off), off, np.inf)))
        if not off[worst] <= TOLERANCE:
            raise CheckpointError(
                f"{path} predicts {name} = {found[worst, column]:.5f}{model.known[name].in_unit} for {names[worst]}, "
                f"where {NAME} says {expected[worst, column]:.5f}: this installation computes differently; try "
                "kernels=torch, or install the versions in constraints.txt."
            )


def _read(file: Path, quantities: Sequence[str]) -> tuple[list[str], list[Crystal], Floats]:
    """Return names and crystals of ``file``, and their predictions (c, q)."""
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError(f"it is larger than {_LARGEST >> 20} MB")
        rows = json.loads(file.read_text(encoding="utf-8"))["crystals"]
        names = [str(row["id"]) for row in rows]
        crystals = [
            checked(Crystal(np.array(row["lattice"]), np.array(row["frac_coords"]), np.array(row["numbers"])), name)
            for name, row in zip(names, rows, strict=True)
        ]
        expected = np.array([[float(row["predictions"][name]) for name in quantities] for row in rows])
        if not rows or sum(len(crystal.numbers) for crystal in crystals) > _MOST_SITES:
            raise ValueError(f"it must hold crystals, of at most {_MOST_SITES:,} sites together")
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError, DataError) as error:
        raise CheckpointError(
            f"{file} holds no reference predictions ({error}); copy the model folder again."
        ) from error
    return names, crystals, expected


@torch.no_grad()
def _predicted(model: PropertyModel, crystals: list[Crystal]) -> Floats:
    """Return the predictions (c, q) of ``model``."""
    device = next(model.encoder.parameters()).device
    graphs = crystal_graphs.build(crystals, checkpoint.graph_settings(model.spec))
    table = tensor_table.table(graphs).to(device)
    found = model(table.select(torch.arange(len(crystals), device=device)))
    return np.asarray(found.cpu().numpy(), dtype=np.float64)
