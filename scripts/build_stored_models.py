"""Make the stored models of today's form of saved models: python scripts/build_stored_models.py [ARCHIVE].

ARCHIVE is ``tests/stored/schema_N.tar.xz`` unless it is given, N being the schema that this version writes. It holds a
folder for each of ``RECIPES``, and ``predictions.json``: what each predicts, in float64, for three bundled crystals.
Every later version has to load these models and predict the same
(``tests/training/saved_model/test_stored_models.py``). Run it once, when the schema has changed and before the change
is merged. Models are as small as they can be, since the
repository keeps those of every schema.
"""

import contextlib
import json
import math
import sys
import tarfile
import tempfile
from pathlib import Path

import torch
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from tltool.command_line.launch import launch
from tltool.data import store
from tltool.data.record import Crystal
from tltool.data.store import Store
from tltool.elements import symbol
from tltool.evaluation.predictor import Predictor
from tltool.model.property_model import PropertyModel
from tltool.training.saved_model import checkpoint, upgrades

HOME = Path(__file__).parents[1]
DEMO = HOME / "tltool" / "data" / "bundled" / "demo.h5"
STORED = HOME / "tests" / "stored"
ROWS = (5, 500, 2500)
"""The rows of the bundled formation energies that the stored predictions are for."""
BASE = 0.25
"""What a model of differences adds to: the value of the cheaper level for each of the crystals."""

PREDICTIONS = "predictions.json"

_TRAIN = range(0, 3938, 329)
_FILE = "crystals.jsonl"
_ALL = "cache=cache kernels=torch device=cpu split.test=2 split.val=0.2"
_TABLE = f"data=table data.root={_FILE} data.adapter.id_column=material_id data.quantities=[e_form,K_VRH]"
_TARGET = (
    f"target=table target.data.root={_FILE} target.data.adapter.id_column=material_id target.data.quantities=[gap] "
    "target.data.adapter.columns=[gap_hse] source=cgcnn mode=features"
)
_FEW_STEPS = "fit.epochs=20 optimiser.lr=0.01"
_CGCNN = "encoder=cgcnn encoder.dim=4 encoder.blocks=1 encoder.n_basis=4 trunk.width=4"
_ALIGNN = (
    "encoder.dim=4 encoder.n_basis=4 encoder.n_angles=4 encoder.width=4 encoder.blocks=1 encoder.line_blocks=1 "
    "encoder.elements=matscholar"
)

RECIPES = {
    "cgcnn": f"pretrain {_TABLE} {_FEW_STEPS} {_CGCNN}",
    "megnet": f"pretrain {_TABLE} {_FEW_STEPS} encoder=megnet encoder.dim=2 encoder.hidden=2 encoder.blocks=1 "
    "encoder.n_basis=4 encoder.element_dim=2 readout=set2set readout.width=2 trunk=dense trunk.widths=[4] "
    "state=[charge] +data.adapter.tags.charge=charge overlap=none",
    "cgat": f"pretrain {_TABLE} {_FEW_STEPS} encoder=cgat encoder.dim=4 encoder.heads=1 encoder.blocks=1 "
    "encoder.shells=4 encoder.composition_blocks=1 encoder.elements=learned readout=attention readout.heads=1 "
    "trunk=residual trunk.widths=[4] head=mlp head.widths=[4] overlap=none",
    "alignn": f"pretrain {_TABLE} {_FEW_STEPS} encoder=alignn {_ALIGNN} trunk=none overlap=none",
    "alignn_small": f"pretrain {_TABLE} {_FEW_STEPS} encoder=alignn_small {_ALIGNN} readout=atom_set "
    "readout.widths=[4] trunk.width=4 overlap=none",
    "functionals": f"pretrain data=gaps_all data.root={_FILE} {_CGCNN} fit.epochs=100 optimiser.lr=0.05 fit.scale=log "
    "overlap=none",
    "ridge": f"transfer {_TARGET}",
    "gaussian_process": f"transfer {_TARGET} mode/regressor=gaussian_process +mode.regressor.optimizer=null "
    "mode.level=1 mode.extra_features=[labels] split.train_size=6 overlap=none",
    "set_model": f"transfer {_TARGET} {_FEW_STEPS} mode/regressor=atom_set mode.regressor.widths=[4] "
    "mode.regressor.rho=[4] mode.level=1 overlap=none",
    "difference": f"transfer {_TARGET} +data@target.base=gaps_pbe target.base.root={_FILE} overlap=none",
}
"""The name of each model and the words of its command; those of ``transfer`` take ``cgcnn`` as their source."""


def predictions(model: PropertyModel, demo: Store) -> dict[str, dict[str, list[float]]]:
    """Return what ``model`` predicts for ``ROWS``: by functional ("" for a model of one), by quantity.

    Turns ``model`` into float64, where neither the processor nor the number of threads changes the tenth digit.
    """
    kind = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return {name or "": _predicted(model.double(), demo, name) for name in model.spec.get("functionals") or [None]}
    finally:
        torch.set_default_dtype(kind)


def _predicted(model: PropertyModel, demo: Store, functional: str | None) -> dict[str, list[float]]:
    structures = [_structure(demo.crystal(row)) for row in ROWS]
    base = {(str(n), name): BASE for n in range(len(ROWS)) for name in model.quantities}
    state = dict.fromkeys(model.spec.get("state") or (), 1.0)
    table = Predictor(model, functional, state).predict(structures, base=base if model.spec.get("base") else None)
    return {name: table[table["quantity"] == name]["prediction"].tolist() for name in model.quantities}


def _structure(crystal: Crystal) -> Structure:
    return Structure(Lattice(crystal.lattice), [symbol(int(number)) for number in crystal.numbers], crystal.frac)


def _write_data(file: Path, demo: Store) -> None:
    """Write a dozen bundled crystals with made-up labels to ``file``, one a line."""
    lines = []
    for n, row in enumerate(_TRAIN):
        structure = _structure(demo.crystal(row)).as_dict()
        gap = 1.5 + math.sin(n)
        labels = {"e_form": math.cos(n), "K_VRH": 10.0 ** (n % 4), "charge": n % 3}
        gaps = {"gap_pbe": gap, "gap_hse": 1.3 * gap, "gap_gllbsc": 1.5 * gap if n % 2 else None}
        lines.append(json.dumps({"material_id": demo.ids[row], "structure": structure} | labels | gaps))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _make(name: str, folder: Path) -> None:
    stage, *words = f"{RECIPES[name]} {_ALL} hydra.run.dir={name}".split()
    with contextlib.chdir(folder):
        code = launch(stage, words)
    if code:
        sys.exit(code)


def main(target: Path) -> None:
    """Make the models and their predictions; ``target`` is the archive, which may not exist yet."""
    if target.exists():
        sys.exit(f"{target} exists; models of a schema that is merged stay as they are. Name another file.")
    demo = store.load(DEMO)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_data(folder / _FILE, demo)
        for model in RECIPES:
            _make(model, folder)
            found[model] = predictions(checkpoint.load(folder / model / "model"), demo)
        (folder / PREDICTIONS).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        with tarfile.open(target, "x:xz") as archive:
            archive.add(folder / PREDICTIONS, PREDICTIONS, filter=_anonymous)
            for model in RECIPES:
                archive.add(folder / model / "model", model, filter=_anonymous)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else STORED / f"schema_{upgrades.SCHEMA}.tar.xz")
