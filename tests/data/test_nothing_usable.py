"""Data of which nothing can be used end with exit code 3 and the counts by reason, each with its first example."""

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import ase
import ase.db
import mp_rows
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from support import QUOTIENT, config

from tltool.data import dataset, store
from tltool.data.dataset import Dataset
from tltool.errors import DataError

SALT = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def folder(place: Path) -> list[str]:
    for name in ("a", "b", "c"):
        SALT.to(str(place / f"{name}.cif"))
    (place / "id_prop.csv").write_text("id,label\na,-1.0 eV\nb,-1.1 eV\nghost,-1.2\n")
    keys = ["table=id_prop.csv", "id_column=id", "columns=[label]"]
    return ["data=folder", f"data.root={place}", "data.quantities=[e_form]", *(f"data.adapter.{key}" for key in keys)]


def table(place: Path) -> list[str]:
    rows = [{"id": "a", "structure": SALT.as_dict(), "e_form": "-1,5"}, {"id": "b", "e_form": "-1,6"}]
    (place / "t.json").write_text(json.dumps(rows))
    return ["data=table", f"data.root={place / 't.json'}", "data.quantities=[e_form]"]


def formulas(place: Path) -> list[str]:
    (place / "f.csv").write_text("id,formula,label\na,Fe2Xx3,1\nb,NaCl,\n")
    return ["data=formulas", f"data.root={place / 'f.csv'}", "data.quantities=[e_form]", "data.adapter.columns=[label]"]


def alexandria(place: Path) -> list[str]:
    for n in range(2):
        entries = [{"data": {"mat_id": f"agm{n}"}, "structure": None}]
        (place / f"alexandria_00{n}.json.bz2").write_bytes(bz2.compress(json.dumps(entries).encode()))
    return ["data=pbe", f"data.root={place}"]


def matbench(place: Path) -> list[str]:
    rows = [[SALT.as_dict(), "high"], [SALT.as_dict(), None]]
    whole = {"index": [0, 1], "columns": ["structure", "last phdos peak"], "data": rows}
    (place / "matbench_phonons.json.gz").write_bytes(gzip.compress(json.dumps(whole).encode()))
    return ["data=matbench_phonons", f"data.root={place}", "data.sha256=null"]


def ase_database(place: Path) -> list[str]:
    with ase.db.connect(place / "t.db") as db:
        db.write(ase.Atoms("H"), e_form=1.0)
        db.write(ase.Atoms("Cu", cell=[3, 3, 3], pbc=True), e_form=1e30)
    return ["data=ase", f"data.root={place / 't.db'}", "data.adapter.id_column=id", "data.quantities=[e_form]"]


def materials_project(place: Path) -> list[str]:
    mp_rows.freeze(place, mp_rows.rows(3))
    return ["data=mp", f"data.root={place}", "data.adapter.licences=[BY-NC]"]


ALONE = "e_form is not a number alone: more stands behind it"
COMMA = "e_form is not a number: it has a comma; write a point as the decimal separator"
# Equal counts go by the alphabet.
NONE: dict[str, tuple[Callable[[Path], list[str]], list[str]]] = {
    "folder": (folder, [f"2 left out: {ALONE} (first: a, id_prop.csv, line 2: '-1.0 eV')",
                        "1 left out: no row in the table (first: c)",
                        "1 left out: no structure file (first: ghost, id_prop.csv, line 4)"]),
    "table": (table, [f"2 left out: {COMMA} (first: a, t.json, row 1: '-1,5')"]),
    "formulas": (formulas, ["1 left out: 'Xx' in the formula is not an element (first: a, f.csv, line 2)",
                            "1 left out: no label (first: b)"]),
    "alexandria": (alexandria, ["2 left out: no structure (first: agm0)"]),
    "matbench": (matbench, ["1 left out: no label (first: mb-phonons-0002)",
                            "1 left out: phonon_peak is not a number (first: mb-phonons-0001, 'high')"]),
    "ase": (ase_database, ["1 left out: e_form is beyond -7 to 20 eV/atom (first: 2, 1e+30)",
                           "1 left out: is not periodic in three directions (first: 1, row 1)"]),
    "materials project": (materials_project, ["3 left out: licence BY-C (first: mp-1)"]),
}  # fmt: skip


def opened(words: list[str], cache: Path, say: Callable[[str], None] = print) -> Dataset:
    return dataset.opened(config("prepare", *words)["data"], QUOTIENT, dataset.Means(cache, [], 1, say))


@pytest.mark.parametrize("kind", NONE)
def test_nothing_usable_is_told_by_reason_with_an_example(tmp_path: Path, kind: str) -> None:
    write, said = NONE[kind]
    (tmp_path / "data").mkdir()
    words = write(tmp_path / "data")
    for _ in range(2):  # the second time from the cache
        with pytest.raises(DataError) as caught:
            opened(words, tmp_path / "cache")
        assert caught.value.code == 3
        assert f"has no usable record in {tmp_path / 'data'}" in str(caught.value)
        assert f": {'; '.join(said)}. Correct the files" in str(caught.value)


def test_a_label_that_cannot_be_is_left_out_and_counted_whatever_the_adapter(tmp_path: Path) -> None:
    cells = [("a", -2.0, 5.0), ("b", 1e30, None), ("c", -443, 5.5), ("d", "1_0", 6.0)]
    rows = [{"id": name, "structure": SALT.as_dict(), "e_form": value, "gap": gap} for name, value, gap in cells]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    said: list[str] = []
    words = ["data=table", f"data.root={tmp_path / 't.json'}", "data.quantities=[e_form,gap]"]
    data = opened(words, tmp_path / "cache", said.append)
    assert said[:4] == [
        "Data set table: 3 records kept, 1 left out.",
        "  1 left out: e_form is beyond -7 to 20 eV/atom (first: b, 1e+30)",
        "  1 kept without e_form: beyond -7 to 20 eV/atom (first: c)",
        "  1 kept without e_form: not a number alone: more stands behind it (first: d)",
    ]
    assert {name: data.store.record(row).labels for row, name in enumerate(data.store.ids)} == {
        "a": {"e_form": -2.0, "gap": 5.0},
        "c": {"gap": 5.5},
        "d": {"gap": 6.0},
    }


def test_a_data_set_is_read_again_when_the_code_that_reads_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels that an earlier version took for numbers do not stay in the cache."""
    from tltool.data import prepare

    words = table(tmp_path)
    rows = json.loads((tmp_path / "t.json").read_text())
    rows[0]["e_form"] = -1.5
    (tmp_path / "t.json").write_text(json.dumps(rows))
    code = prepare.code_of("tltool.data.adapters.table")
    assert code != prepare.code_of("tltool.data.adapters.folder")
    first, again = opened(words, tmp_path / "cache").folder, opened(words, tmp_path / "cache").folder
    assert first == again
    source = Path(str(prepare.label_columns.__file__))
    changed = tmp_path / "label_columns.py"
    changed.write_bytes(source.read_bytes() + b"#")
    monkeypatch.setattr(prepare.label_columns, "__file__", str(changed))
    assert prepare.code_of("tltool.data.adapters.table") != code
    assert opened(words, tmp_path / "cache").folder != first


def test_a_bundled_store_is_held_to_the_limits_as_well(tmp_path: Path) -> None:
    demo = store.load(dataset.BUNDLED / "demo.h5")
    few = store.taken(demo, np.arange(3))
    few.labels["e_form"][1] = 1e30
    few.labels["e_above_hull"][1] = float("nan")
    store.save(tmp_path / "mine.h5", few)
    said: list[str] = []
    words = ["data=demo", f"data.root={tmp_path}", "data.adapter.file=mine.h5"]
    assert list(opened(words, tmp_path / "cache", said.append).store.ids) == [demo.ids[0], demo.ids[2]]
    assert said[1] == f"  1 left out: e_form is beyond -7 to 20 eV/atom (first: {demo.ids[1]}, 1e+30)"
