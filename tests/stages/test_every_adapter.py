"""From files in every known format to a trained model: the same thirty crystals, the same numbers."""

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import ase.db
import mp_rows
import numpy as np
import pytest
from ase import Atoms
from commands import run
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from scripted_server import autoindex, serving, whole

from tltool.data.store import Store

pytestmark = pytest.mark.usefixtures("no_pictures")

CONFIGS = Path(__file__).parents[2] / "configs" / "data"
ROWS = range(0, 300, 10)


def structures(demo: Store) -> list[tuple[str, Structure, float]]:
    return [
        (demo.ids[row], Structure(Lattice(c.lattice), c.numbers, c.frac), demo.record(row).labels["e_form"])
        for row in ROWS
        for c in [demo.crystal(row)]
    ]


def folder(place: Path, demo: Store) -> list[str]:
    for name, structure, _ in structures(demo):
        CifWriter(structure).write_file(place / f"{name}.cif")
    (place / "id_prop.csv").write_text("\n".join(f"{name},{value}" for name, _, value in structures(demo)))
    return ["data=folder", f"data.root={place}", "data.quantities=[e_form]"]


def dump(place: Path, demo: Store) -> list[str]:
    entries = [
        {"data": {"mat_id": name, "e_form": value}, "structure": structure.as_dict()}
        for name, structure, value in structures(demo)
    ]
    for n in range(2):
        text = json.dumps({"entries": entries[n::2]} if n else entries[n::2])
        (place / f"alexandria_{n:03d}.json.bz2").write_bytes(bz2.compress(text.encode()))
    return ["data=pbe", f"data.root={place}"]


def matbench(place: Path, demo: Store) -> list[str]:
    rows = [[structure.as_dict(), value] for _, structure, value in structures(demo)]
    split = {"index": list(range(len(rows))), "columns": ["structure", "e_form"], "data": rows}
    (place / "matbench_mp_e_form.json.gz").write_bytes(gzip.compress(json.dumps(split).encode()))
    return ["data=matbench_mp_e_form", f"data.root={place}", "data.sha256=null"]


def table(place: Path, demo: Store) -> list[str]:
    lines = [
        json.dumps({"id": name, "structure": structure.as_dict(), "enthalpy": value})
        for name, structure, value in structures(demo)
    ]
    (place / "rows.jsonl").write_text("\n".join(lines))
    return [
        "data=table",
        f"data.root={place}/rows.jsonl",
        "data.quantities=[e_form]",
        "data.adapter.columns=[enthalpy]",
    ]


def ase_database(place: Path, demo: Store) -> list[str]:
    with ase.db.connect(place / "rows.db") as database:
        for _, s, value in structures(demo):
            atoms = Atoms(s.atomic_numbers, scaled_positions=s.frac_coords, cell=s.lattice.matrix, pbc=True)
            database.write(atoms, e_form=value)
    return ["data=ase", f"data.root={place}/rows.db"]


def materials_project(place: Path, demo: Store) -> list[str]:
    documents = [
        mp_rows.document(name, demo.crystal(row), k) | {"formation_energy_per_atom": value}
        for k, (row, (name, _, value)) in enumerate(zip(ROWS, structures(demo), strict=True))
    ]
    mp_rows.freeze(place, documents)
    return ["data=mp", f"data.root={place}"]


FORMATS: dict[str, Callable[[Path, Store], list[str]]] = {
    "folder": folder,
    "alexandria": dump,
    "matbench": matbench,
    "table": table,
    "ase_database": ase_database,
    "materials_project": materials_project,
}


def trained(home: Path, *words: str) -> dict[str, float]:
    """Pretrain for one epoch; return what the run says of its test rows."""
    run(home, "pretrain", *words, "fit.epochs=1", "split.test=0.3", "overlap=none", "hydra.run.dir=run")
    return json.loads((home / "run" / "metrics.json").read_text())["quantities"]["e_form"]["test"]


def test_every_adapter_is_here() -> None:
    shipped = {path.stem for path in (CONFIGS.parents[1] / "tltool" / "data" / "adapters").glob("*.py")}
    assert shipped - {"__init__", "bundled"} == FORMATS.keys()


@pytest.fixture(scope="module")
def expected(demo: Store) -> np.ndarray:
    """The labels of all crystals, in eV/atom."""
    return np.array([value for _, _, value in structures(demo)])


@pytest.mark.parametrize("name", FORMATS)
def test_files_of_this_format_train(name: str, tmp_path: Path, demo: Store, expected: np.ndarray) -> None:
    place = tmp_path / "files"
    place.mkdir()
    test = trained(tmp_path, *FORMATS[name](place, demo))
    assert test["n"] == 9
    assert np.isfinite(test["MAE"])
    rows = (tmp_path / "run" / "predictions.csv").read_text().splitlines()
    labels = sorted(float(row.split(",")[3]) for row in rows[1:])
    np.testing.assert_allclose(labels, sorted(expected), atol=1e-5)


def test_dumps_from_a_server_train(tmp_path: Path, demo: Store) -> None:
    place = tmp_path / "files"
    place.mkdir()
    dump(place, demo)
    with serving() as server:
        address = server.at("/pbe/", autoindex(*(path.name for path in place.iterdir())))
        for path in place.iterdir():
            server.at(f"/pbe/{path.name}", whole(path.read_bytes()))
        assert trained(tmp_path, "data=pbe", f"data.address={address}")["n"] == 9
