"""A table of any kind gives its records, and every row that is left out gives its reason."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from tltool.data.adapters import table
from tltool.data.record import Dropped, Record
from tltool.errors import ConfigError, DataError

KEYS: dict[str, Any] = {"id_column": "id", "structure_column": "structure", "formula_column": None,
                        "labels": ["gap", "e_form"], "columns": ["gap_ev", "data.e_form"], "per_cell": [],
                        "largest": {}, "tags": {}, "header_line": None, "decimal_commas": [],
                        "repeated": "error", "define": {}, "weight": None, "uncertainty": None,
                        "conditions": {}}  # fmt: skip


def salt(metal: str = "Na", a: float = 4.0) -> Structure:
    return Structure(Lattice.cubic(a), [metal, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def row(name: Any, gap: Any = 1.5, e_form: Any = -2.0, structure: Any = None, **more: Any) -> dict[str, Any]:
    return {"id": name, "gap_ev": gap, "data": {"e_form": e_form}, "structure": structure or salt().as_dict()} | more


def lines(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(root: Path, **keys: Any) -> tuple[dict[str, Record], dict[str, str]]:
    items = list(table.read(root, **KEYS | keys))
    records = {item.id: item for item in items if isinstance(item, Record)}
    dropped = {item.id: item.reason for item in items if isinstance(item, Dropped)}
    assert len(records) + len(dropped) == len(items), "an id came twice"
    return records, dropped


def test_records_and_reasons(tmp_path: Path) -> None:
    alloy = Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    rows = [
        row("a", source="mp-1", n=7),
        row(2, gap=None, structure=salt("K").as_dict(), source=None),
        row("text", gap="0.25", e_form="nan", structure=json.dumps(salt().as_dict()), source=""),
        row("none", gap=float("nan"), e_form="na"),
        {"id": "absent", "structure": salt().as_dict()},
        row("yes", gap=True, e_form=float("inf")),
        row("alloy", structure=alloy.as_dict()),
        {"id": "bare", "gap_ev": 1.0, "structure": None},
        row("name", structure="NaCl.cif"),
        row(None),
        row("large", e_form=-4.7),
    ]
    records, dropped = read(lines(tmp_path, *rows), tags={"mat_id": "source", "n": "n"}, largest={"e_form": 4.6})
    assert {name: record.labels for name, record in records.items()} == {
        "a": {"gap": 1.5, "e_form": -2.0},
        "2": {"e_form": -2.0},
        "text": {"gap": 0.25},
    }
    assert records["2"].crystal.numbers.tolist() == [19, 17]
    assert [record.tags for record in records.values()] == [{"mat_id": "mp-1", "n": "7"}, {}, {}], "no word is no tag"
    assert dropped == {
        "none": "no label",
        "absent": "no label",
        "yes": "gap is not a number",
        "alloy": "has partly occupied sites",
        "bare": "no structure",
        "name": "is one line, but CIF and POSCAR texts have several",
        "line 10": "no id",
        "large": "e_form beyond 4.6 eV/atom",
    }


@pytest.mark.parametrize("kind", ["cif", "poscar", "json"])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.parquet"])
def test_text_in_a_cell(tmp_path: Path, name: str, kind: str) -> None:
    texts = [salt(metal).to(fmt=kind) for metal in ("Na", "K")]
    frame = pd.DataFrame({"id": ["a", "b"], "gap_ev": [1.5, None], "K": [10.0, 20.0], "structure": texts})
    if name.endswith("parquet"):
        frame.to_parquet(tmp_path / name)
    else:
        frame.to_csv(tmp_path / name, index=False, sep="\t" if name == "t.tsv" else ",")
    records, dropped = read(tmp_path / name, labels=["gap", "K_VRH"], columns=["gap_ev", "K"])
    assert {name: record.labels for name, record in records.items()} == {
        "a": {"gap": 1.5, "K_VRH": 10.0},
        "b": {"K_VRH": 20.0},
    }
    assert records["b"].crystal.numbers.tolist() == [19, 17]
    assert records["b"].tags == {"mat_id": "b"}
    assert not dropped


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.parquet", "t.json"])
def test_three_columns_of_plain_numbers(tmp_path: Path, name: str) -> None:
    plain = {"id": ["a"], "lattice": [(4 * np.eye(3)).tolist()], "species": [["Cs", "Cl"]],
             "frac": [[[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]], "gap_ev": [5.0]}  # fmt: skip
    frame = pd.DataFrame(plain)
    if name == "t.csv":
        frame.map(lambda cell: json.dumps(cell) if isinstance(cell, list) else cell).to_csv(
            tmp_path / name, index=False
        )
    elif name == "t.parquet":
        frame.to_parquet(tmp_path / name)
    else:
        frame.to_json(tmp_path / name, orient="records" if name == "t.jsonl" else "split", lines=name == "t.jsonl")
    keys = {"structure_column": ["lattice", "species", "frac"], "labels": ["gap"], "columns": ["gap_ev"]}
    records, _ = read(tmp_path / name, **keys)
    assert records["a"].crystal.numbers.tolist() == [55, 17]
    np.testing.assert_array_equal(records["a"].crystal.lattice, 4 * np.eye(3))


def test_labels_per_cell_become_per_atom_before_they_are_held_against_the_limit(tmp_path: Path) -> None:
    path = lines(tmp_path, row("a", e_form=-9.0), row("b", e_form=9.4))
    records, dropped = read(path, per_cell=["e_form"], largest={"e_form": 4.6})
    assert records["a"].labels == {"gap": 1.5, "e_form": -4.5}
    assert dropped == {"b": "e_form beyond 4.6 eV/atom"}


def test_rows_without_ids_are_named_by_their_number(tmp_path: Path) -> None:
    records, _ = read(lines(tmp_path, row(None), row(None, gap=2.0)), id_column=None)
    assert {name: record.labels["gap"] for name, record in records.items()} == {"t-1": 1.5, "t-2": 2.0}


def test_two_rows_of_one_id_are_an_error_that_names_both(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.jsonl: line 3 and line 1 have the same id 'a'"):
        read(lines(tmp_path, row("a"), row("b"), row("a")))


def test_a_folder_with_one_table_stands_for_it(tmp_path: Path) -> None:
    lines(tmp_path, row("a"))
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "listing.json").write_text("{}")  # what a download leaves
    assert set(read(tmp_path)[0]) == {"a"}
    (tmp_path / "u.csv").write_text("")
    with pytest.raises(DataError, match=r"is a folder with 2 tables \(t\.jsonl, u\.csv\); pass the file itself"):
        read(tmp_path)


WRONG = {
    "one column for each": {"columns": ["gap_ev"]},
    "one column for each quantity": {"labels": ["gap", "gap"]},
    "Did you mean 'gap'": {"labels": ["gapp", "e_form"]},
    "per_cell names 'volume', which is not one of the labels gap, e_form": {"per_cell": ["volume"]},
    "per_cell names 'gap', whose unit eV is not per atom": {"per_cell": ["gap"]},
    "largest names 'volume'": {"largest": {"volume": 1.0}},
    "largest: gap=-1 must be a number above zero": {"largest": {"gap": -1}},
    "largest: gap='x' must be a number": {"largest": {"gap": "x"}},
    "must be one column, or lattice, species and positions": {"structure_column": ["a", "b"]},
}


@pytest.mark.parametrize("words", WRONG)
def test_keys_that_do_not_go_together(tmp_path: Path, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read(lines(tmp_path, row("a")), **WRONG[words])


def test_the_layout_of_a_compressed_pandas_file(tmp_path: Path) -> None:
    whole = {"index": [4, 9], "columns": ["structure", "gap expt"], "data": [[salt().as_dict(), 1.0], [None, 2.0]]}
    path = tmp_path / "t.json.gz"
    path.write_bytes(gzip.compress(json.dumps(whole).encode()))
    records, dropped = read(path, id_column="index", labels=["gap"], columns=["gap expt"])
    assert records["4"].labels == {"gap": 1.0}
    assert dropped == {"9": "no structure"}


def test_formulas_in_place_of_structures(tmp_path: Path) -> None:
    cells = ["Fe0.7Ni0.3", "Ca(OH)2", "Fe2Xx3", "Ca(OH", "", None, "KCl", 5, "Rb2Yy"]
    rows = [{"id": n, "name": text, "gap_ev": 1.0 + n} for n, text in enumerate(cells)]
    rows[6]["gap_ev"] = None
    keys = {"formula_column": "name", "labels": ["gap"], "columns": ["gap_ev"]}
    records, dropped = read(lines(tmp_path, *rows), **keys)
    assert {name: record.crystal.numbers.tolist() for name, record in records.items()} == {
        "0": [26, 28],
        "1": [1, 8, 20],
    }
    assert records["1"].crystal.amounts is not None
    assert records["1"].crystal.amounts.tolist() == [2, 2, 1]
    assert records["1"].labels == {"gap": 2.0}
    assert dropped == {
        "2": "'Xx' in the formula is not an element",
        "3": "an opening bracket in the formula has no closing bracket",
        "4": "no formula",
        "5": "no formula",
        "6": "no label",
        "7": "no formula",
        "8": "'Yy' in the formula is not an element",
    }
    with pytest.raises(ConfigError, match="a formula has no cell"):
        read(lines(tmp_path, *rows), **keys | {"labels": ["e_form"], "per_cell": ["e_form"]})
    with pytest.raises(DataError, match="no column 'formula'"):
        read(lines(tmp_path, *rows), **keys | {"formula_column": "formula"})
