"""An ASE database gives its records from pairs, results and data, and a reason for every row that it leaves out."""

from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from tltool.data.adapters import ase_database
from tltool.data.record import Dropped, Record
from tltool.errors import DataError

KEYS: dict[str, Any] = {"selection": "", "id_column": "name", "labels": ["gap", "energy", "K_VRH"],
                        "columns": ["gap_ev", "energy", "data.elastic.K"], "per_cell": ["energy"], "largest": {},
                        "tags": {"mat_id": "source"}, "define": {}}  # fmt: skip


def salt(pbc: Any = True, energy: float | None = -6.8) -> ase.Atoms:
    cell = [[4.0, 0.0, 0.0], [0.5, 5.0, 0.0], [0.0, 1.0, 6.0]]
    atoms = ase.Atoms("NaCl", scaled_positions=[[0.0, 0.0, 0.0], [0.5, 0.25, 0.75]], cell=cell, pbc=pbc)
    atoms.calc = SinglePointCalculator(atoms, energy=energy) if energy is not None else None
    return atoms


@pytest.fixture(params=["t.db", "t.json"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    with connect(path) as db:
        db.write(salt(), name="a", gap_ev=5.0, source="mp-1", data={"elastic": {"K": 10.5}, "array": np.zeros(3)})
        db.write(salt(energy=None), name="b", gap_ev=4.0, data={"elastic": {"K": float("nan")}})
        db.write(salt(pbc=[True, True, False]), name="slab", gap_ev=3.0)
        db.write(salt(energy=None), name="bare")
        db.write(salt(energy=-99.0), name="low")
        db.write(salt())
        db.write(ase.Atoms("H", pbc=True), name="cellless", gap_ev=3.0)
    return path


def read(root: Path, **keys: Any) -> tuple[dict[str, Record], dict[str, str]]:
    items = list(ase_database.read(root, **KEYS | keys))
    records = {item.id: item for item in items if isinstance(item, Record)}
    return records, {item.id: item.reason for item in items if isinstance(item, Dropped)}


def test_records_and_reasons(path: Path) -> None:
    records, dropped = read(path, largest={"energy": 20.0})
    assert {name: record.labels for name, record in records.items()} == {
        "a": {"gap": 5.0, "energy": -3.4, "K_VRH": 10.5},
        "b": {"gap": 4.0},
    }
    assert [record.tags for record in records.values()] == [{"mat_id": "mp-1"}, {}]
    np.testing.assert_allclose(records["a"].crystal.lattice, salt().cell.array)
    np.testing.assert_allclose(records["a"].crystal.frac, [[0.0, 0.0, 0.0], [0.5, 0.25, 0.75]], atol=1e-12)
    assert dropped == {
        "slab": "is not periodic in three directions",
        "bare": "no label",
        "low": "energy beyond 20 eV/atom",
        "row 6": "no id",
        "cellless": "the volume of the cell is zero",
    }


def test_a_selection_and_the_number_of_the_row(path: Path) -> None:
    records, dropped = read(path, selection="gap_ev>4.5", id_column="id")
    assert list(records) == ["1"]
    assert not dropped


def test_unique_ids_are_those_of_the_database(path: Path) -> None:
    with connect(path) as db:
        wanted = {row.unique_id for row in db.select("gap_ev>3.5")}
    assert set(read(path, id_column="unique_id", selection="gap_ev>3.5")[0]) == wanted


def test_the_folder_is_left_as_it_was(path: Path) -> None:
    before = path.read_bytes()
    read(path.parent)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_two_rows_of_one_id_are_an_error_that_names_both(path: Path) -> None:
    with connect(path) as db:
        db.write(salt(), name="b")
    with pytest.raises(DataError, match="rows 2 and 8 have the same id 'b'"):
        read(path)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "key": ({"columns": ["gap", "energy", "data.elastic.K"]}, r"no row has the key 'gap'\. Did you mean 'gap_ev'"),
    "query": ({"selection": "gap_ev=>>3"}, r"selection='gap_ev=>>3'"),
    "nothing": ({"selection": "gap_ev>99"}, r"no row matches selection='gap_ev>99'"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_one_clear_error(path: Path, kind: str) -> None:
    keys, words = WRONG[kind]
    with pytest.raises(DataError, match=words):
        read(path, **keys)


@pytest.mark.parametrize("name", ["u.db", "u.json"])
def test_damaged_files_and_wrong_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"SQLite but not really" * 20)
    with pytest.raises(DataError, match=f"{name} cannot be read as an ASE database"):
        read(tmp_path / name)
    (tmp_path / "v.db").write_bytes(b"")
    with pytest.raises(DataError, match="is a folder with 2 databases"):
        read(tmp_path)
    (tmp_path / "w.xyz").write_text("")
    with pytest.raises(DataError, match=r"must end with \.db or \.json"):
        read(tmp_path / "w.xyz")
