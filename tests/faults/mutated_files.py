"""Files that tltool reads, valid ones to begin with, and how each is read; the fuzzer changes their bytes.

A reader may raise an error of tltool and nothing else. Files that are protected by a checksum get a right one again, so
that what is behind the checksum is read too.
"""

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from support import a_fit, batches_of, config, dump, fresh_model, store_of

from tltool.data import splits, store
from tltool.data.adapters import alexandria, matbench, table
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.formats import structure_files
from tltool.data.graph import crystal_graphs
from tltool.model.property_model import PropertyModel
from tltool.reporting import finished_runs
from tltool.run_folder import find
from tltool.training.saved_model import checkpoint
from tltool.training.saved_state import resume
from tltool.training.settings import Training
from tltool.training.single_fit import SingleFit

CIF = """data_NaCl
_symmetry_space_group_name_H-M 'P 1'
_cell_length_a 3.9
_cell_length_b 3.9
_cell_length_c 3.9
_cell_angle_alpha 60
_cell_angle_beta 60
_cell_angle_gamma 60
loop_
_symmetry_equiv_pos_as_xyz
'x, y, z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_occupancy
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 Na 1 0 0 0
Cl1 Cl 1 0.5 0.5 0.5
"""
POSCAR = "NaCl\n1.0\n0 2.8 2.8\n2.8 0 2.8\n2.8 2.8 0\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"
XYZ = """2
Lattice="0 2.8 2.8 2.8 0 2.8 2.8 2.8 0" Properties=species:S:1:pos:R:3 pbc="T T T"
Na 0 0 0
Cl 2.8 2.8 2.8
"""
CSV = "id,formula,e_form\na,NaCl,-1.5\nb,KCl,-2\nc,Cu,0\n"


class Reader(NamedTuple):
    """The files that are ``made`` in a folder and may be changed, and ``read``, which gets that folder."""

    made: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]


def _text(name: str, content: str | bytes) -> Callable[[Path], list[Path]]:
    def made(folder: Path) -> list[Path]:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return [folder / name]

    return made


def _structure() -> str:
    sites = [
        {"species": [{"element": name, "occu": 1}], "abc": [x, x, x], "label": name}
        for name, x in (("Na", 0), ("Cl", 0.5))
    ]
    lattice = {"matrix": [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]]}
    return json.dumps({"@module": "pymatgen.core.structure", "@class": "Structure", "lattice": lattice, "sites": sites})


def _matbench() -> bytes:
    rows = {"index": [0, 1], "columns": ["structure", "n"]}
    rows |= {"data": [[json.loads(_structure()), 1.5], [json.loads(_structure()), 2.5]]}  # type: ignore[dict-item]
    return gzip.compress(json.dumps(rows).encode(), mtime=0)


def _structures(name: str) -> Callable[[Path], Any]:
    return lambda folder: list(structure_files.attempts(folder / name))


def _store(folder: Path) -> list[Path]:
    store.save(folder / "store.h5", store_of(["a", "b"]))
    return [folder / "store.h5"]


def _read_store(folder: Path) -> Any:
    records = store.load(folder / "store.h5")
    return [records.crystal(row) for row in range(len(records))]


def _graphs(folder: Path) -> list[Path]:
    records = store_of(["a", "b"])
    settings = crystal_graphs.GraphSettings(cutoff=4.0, max_neighbours=12, shells="shared", quotient=True)
    built = crystal_graphs.build([records.crystal(row) for row in range(2)], settings)
    store.write_arrays(folder / "graphs.h5", built.arrays(), {}, {})
    return [folder / "graphs.h5"]


def _read_graphs(folder: Path) -> Any:
    return crystal_graphs.from_arrays(store.read_arrays(folder / "graphs.h5")[0])


def _model(folder: Path) -> list[Path]:
    checkpoint.save(folder / "model", fresh_model(overrides=("encoder.dim=8", "trunk.width=8")))
    return [folder / "model" / name for name in ("model.yaml", "model.safetensors")]


def _read_model(folder: Path) -> Any:
    found = [file for file in (folder / "model").iterdir() if file.name != "manifest.json"]
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in found}
    (folder / "model" / "manifest.json").write_text(json.dumps(sums))
    return checkpoint.load(folder / "model")


CONFIG: dict[str, Any] = {"stage": "pretrain", "fit": {"batch_size": 2}, "resume_allow": [], "keep_every": 10}


def _small() -> tuple[PropertyModel, Batches]:
    ids = [f"id-{n}" for n in range(8)]
    records = store_of(ids)
    records.labels["e_form"] = np.linspace(-1, 0, 8)
    settings = crystal_graphs.GraphSettings(cutoff=6.0, max_neighbours=12, shells="shared", quotient=True)
    built = crystal_graphs.build([records.crystal(row) for row in range(8)], settings)
    data = batches_of(Dataset(records, built), val=0.25, test=0.25)
    return fresh_model(overrides=("encoder.dim=8", "trunk.width=8")), data


def _parts() -> tuple[SingleFit, Batches]:
    model, data = _small()
    return SingleFit(Training(model, data, a_fit(), None, lambda name: 1.0, None, None)), data


def _state(folder: Path) -> list[Path]:
    parts, data = _parts()
    keeper = resume.Keeper(folder, 0, None, CONFIG, lambda text: None)
    keeper.take_up(parts, data)
    keeper.keep(parts, resume.Progress(epoch=1), at_once=True)
    return [*folder.glob("state-*.pt"), folder / "state.json"]


def _read_state(folder: Path) -> Any:
    parts, data = _parts()
    (file,) = folder.glob("state-*.pt")
    about = folder / "state.json"
    try:
        facts = json.loads(about.read_text())
        facts["states"][0]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        about.write_text(json.dumps(facts))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    keeper = resume.keeper(CONFIG | {"resume": str(folder)}, folder / "new", lambda text: None)
    return keeper.take_up(parts, data)


def _run(folder: Path) -> list[Path]:
    place = folder / "runs" / "transfer" / "one"
    (place / "model").mkdir(parents=True)
    (place / "model" / "manifest.json").write_text("{}")
    (place / "status.json").write_text(json.dumps({"stage": "transfer", "state": "finished", "finished": "2026-01-01"}))
    errors = {"unit": "eV/atom", "test": {"n": 3, "MAE": 0.1, "RMSE": 0.2, "R2": 0.5, "MAD": 0.3}}
    metrics = {"mode": "freeze", "target": "demo", "data": "demo", "seed": 0, "quantities": {"e_form": errors}}
    (place / "metrics.json").write_text(json.dumps(metrics))
    (place / "log.jsonl").write_text('{"event": "kept", "epoch": 3}\n')
    header = "id,split,quantity,label,prediction,elements,unseen_elements"
    (place / "predictions.csv").write_text(f"{header}\na,test,e_form,1,2,Na,\n")
    (place / "run.lock").write_text("1\n")
    return [file for file in place.iterdir() if file.is_file()]


def _read_run(folder: Path) -> Any:
    runs = folder / "runs"
    found = finished_runs.collect([runs])
    finished_runs.predictions(found.results, "e_form")
    for run in found.results:
        finished_runs.kept_epoch(run)
    return find.newest(runs, "transfer")


_OF_TABLE = config("pretrain", "data=table", "data.root=x")["data"]["adapter"] | {
    "formula_column": "formula",
    "labels": ["e_form"],
}
del _OF_TABLE["_target_"]
READERS = {
    "cif": Reader(_text("a.cif", CIF), _structures("a.cif")),
    "poscar": Reader(_text("POSCAR", POSCAR), _structures("POSCAR")),
    "xyz": Reader(_text("a.extxyz", XYZ), _structures("a.extxyz")),
    "json": Reader(_text("a.json", _structure()), _structures("a.json")),
    "csv": Reader(
        _text("a.csv", CSV),
        lambda folder: list(
            table.read(
                folder / "a.csv",
                **_OF_TABLE,
            )
        ),
    ),
    "split": Reader(
        _text("split.csv", "id,split\na,train\nb,test\n"),
        lambda folder: splits.by_ids(store_of(["a", "b"]), np.ones(2), file=str(folder / "split.csv")),
    ),
    "alexandria": Reader(
        _text("alexandria_000.json.bz2", dump("agm1", "agm2")),
        lambda folder: list(alexandria.read(folder, pattern="*.json.bz2", min_elements=1)),
    ),
    "matbench": Reader(
        _text("matbench_jdft2d.json.gz", _matbench()),
        lambda folder: list(
            matbench.read(
                folder, file="matbench_jdft2d.json.gz", task="matbench_jdft2d", column="n", quantity="refractive_index"
            )
        ),
    ),
    "store": Reader(_store, _read_store),
    "graphs": Reader(_graphs, _read_graphs),
    "model": Reader(_model, _read_model),
    "state": Reader(_state, _read_state),
    "run": Reader(_run, _read_run),
}


def fresh(name: str, folder: Path) -> list[Path]:
    """Make the valid files of a reader in the empty ``folder``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    return READERS[name].made(folder)
