"""A folder with a user's own table: what is taken as ids and labels, and what is refused, each in one sentence."""

from pathlib import Path

import pytest
from own_tables import CIF, labels, settled

from tltool.data import own_labels
from tltool.errors import ConfigError, DataError
from tltool.quantities import defined


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a folder of four structures."""
    for name in "abcd":
        (tmp_path / f"{name}.cif").write_text(CIF)
    return tmp_path


def test_the_table_of_a_new_user(root: Path) -> None:
    target, told = settled(root, "file;kappa (W/mK);class\na.cif;1.5;metal\nb.cif;;metal\nc.cif;NA;ox\nd.cif;250;ox\n")
    assert target["quantities"] == ["kappa"]
    assert target["data"]["define"] == {"kappa": {"unit": "W/mK", "scale": "auto"}}
    assert "kappa from column 'kappa (W/mK)' is a number in W/mK (as its header says), scale auto" in told
    left = "not learnt: class (2 classes: metal, ox; learn it with target.data.quantities=[class])."
    assert f"{left} Ids in column 'file'; semicolons separate its cells." in told
    assert labels(target) == {"a": {"kappa": 1.5}, "d": {"kappa": 250.0}}


FORMS = {
    "square brackets": ("id,kappa [W/mK]\na,1.5\nb,2\n", "W/mK"),
    "no unit": ("id,kappa\na,1.5\nb,2\n", ""),
    "nested brackets": ("material_id,kappa (W/(m K))\na,1.5\nb,2\n", "W/(m K)"),
    "tabs": ("name\tkappa (W/mK)\na.cif\t1.5\nb.cif\t2\n", "W/mK"),
    "decimal commas": ("File Name;kappa (W/mK)\na;1,5\nb;2\n", "W/mK"),
    "decimal commas, tabs": ("x\tkappa (W/mK)\na\t1,5\nb\t2,0\n", "W/mK"),
    "title": ("Thermal conductivities of 2020\nid,kappa (W/mK)\na,1.5\nb,2\n", "W/mK"),
    "title and empty cells": ("Mine,,\n\nid,kappa (W/mK),note\na,1.5,x\nb,2,\n", "W/mK"),
    "paths as ids": ("structure,kappa (W/mK)\n./a.cif,1.5\nsub\\b.cif,2\n".replace("sub\\", ""), "W/mK"),
    "ids not first": ("kappa (W/mK),formula,cif\n1.5,NaCl,a\n2,NaCl,b\n", "W/mK"),
    "numbers of another kind": ("id,space_group,kappa (W/mK),kappa_std\na,225,1.5,0.1\nb,225,2,0.2\n", "W/mK"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_in_any_unambiguous_form(root: Path, form: str) -> None:
    text, unit = FORMS[form]
    target, told = settled(root, text)
    assert target["data"]["define"] == {"kappa": {"unit": unit, "scale": "auto"}}
    assert labels(target) == {"a": {"kappa": 1.5}, "b": {"kappa": 2.0}}
    assert ("decimal commas in kappa (W/mK)" in told) is ("commas" in form)
    assert ("above the header" in told) is ("title" in form)
    assert ("its header states none" in told) is (not unit)


def test_several_labels_each_with_its_own_gaps(root: Path) -> None:
    target, _ = settled(root, "id,gap,tc (K)\na,1,\nb,,20\nc,2,nan\nd,3,10\n")
    assert target["quantities"] == ["gap", "tc"]
    assert set(target["data"]["define"]) == {"tc"}  # gap ships
    assert labels(target)["b"] == {"tc": 20.0}


def test_a_table_without_a_header(root: Path) -> None:
    target, told = settled(root, "a,1.5\nb,2\n", "id_prop.csv")
    assert labels(target) == {"a": {"label": 1.5}, "b": {"label": 2.0}}
    assert "No header: ids, then labels." in told
    named, _ = settled(root, "", quantities=["gap"])
    assert labels(named) == {"a": {"gap": 1.5}, "b": {"gap": 2.0}}


def test_definitions_of_the_user(root: Path) -> None:
    text = "id,kappa,K_VRH\na,1,10\nb,2,20\n"
    words = {"kappa": {"unit": "W/(m K)", "scale": "log", "least": 0}}
    target, told = settled(root, text, define=words)
    assert target["data"]["define"] == words
    assert target["data"]["adapter"]["define"] == words
    assert "kappa is a number in W/(m K) (as data.define says), scale log" in told
    own = {"kappa": defined("kappa", {"unit": "W/(m K)", "meaning": "thermal conductivity"})}
    target, _ = settled(root, text, own=own)
    assert target["data"]["define"]["kappa"]["meaning"] == "thermal conductivity"
    one, _ = settled(root, text, quantities=["my_kappa"], adapter={"columns": ["kappa"]})
    assert labels(one)["b"] == {"my_kappa": 2.0}


def test_a_shipped_data_set_may_get_another_scale() -> None:
    node = {"_target_": "tltool.data.adapters.bundled.read", "file": "elastic.h5"}
    data = {"name": "elastic", "root": "bundled", "quantities": ["K_VRH"], "adapter": node}
    config = {"data": data | {"define": {"K_VRH": {"scale": "log"}}}, "quantities": None}
    found = own_labels.settled(config, {}, print)
    assert found["data"]["define"]["K_VRH"]["unit"] == "GPa"
    assert found["quantities"] == ["K_VRH"]


WRONG = {
    "unit in the cells": ("id,K\na,1.5 GPa\nb,2 GPa\n", {}, "column 'K' has '1.5 GPa', a number with a unit; write"),
    "decimal or thousand": ("id;K\na;1,234\nb;2,345\n", {}, r"'1,234' in line 2, which may be 1.234 or 1234; write"),
    "comma and point": ("id;K\na;1,5\nb;2.5\n", {}, "'1,5' in line 2 and '2.5' in line 3: a comma and a point"),
    "text": ("id,K,c\na,hard,1\nb,soft,2\n", {"adapter": {"columns": ["K"]}}, "column 'K' has 'hard', which is no nu"),
    "empty": ("id,K,c\na,,1\nb,,2\n", {"adapter": {"columns": ["K"]}}, "column 'K' is empty"),
    "no numbers": ("id,note\na,x\nb,y\n", {}, r"no column holds numbers to learn \(note \(text\)\)|\(note\)"),
    "no ids": ("id,K\nx,1\ny,2\nz,3\n", {}, "'id' has x, y, z, and the files are a.cif, b.cif, c.cif"),
    "two of one name": ("id,gap (PBE),gap (HSE)\na,1,2\nb,1,2\n", {}, "would both be the quantity gap|says PBE"),
    "unit of another": ("id,gap (meV)\na,1\nb,2\n", {}, r"says meV, but the quantity gap is in eV; convert"),
    "define has another": ("id,k (K)\na,1\nb,2\n", {"define": {"k": {"unit": "J"}}}, "says K, but .* k is in J"),
    "define names nothing": ("id,k\na,1\nb,2\n", {"define": {"kk": {}}}, "data.define names 'kk', which is no label"),
    "no such column": ("id,k,l\na,1,1\nb,2,1\n", {"quantities": ["kappa"]}, "no column 'kappa'.*data.adapter.columns"),
    "no header, three": ("a,1,2\nb,1,2\n", {}, "has no header; write one above its 3 columns"),
    "rows differ": ("id,k\na,1,3\nb\n", {}, "is no table with at least two columns"),
    "empty file": ("\n\n", {}, "is no table"),
    "no such table": ("id,k\na,1\n", {"adapter": {"table": "x.csv"}}, "there is no such table"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_can_be_read_in_two_ways_is_refused(root: Path, kind: str) -> None:
    text, keys, words = WRONG[kind]
    with pytest.raises((DataError, ConfigError), match=words):
        settled(root, text, **keys)


def test_several_tables_and_none(root: Path) -> None:
    with pytest.raises(DataError, match="there is no table of labels; put a CSV"):
        settled(root, "")
    (root / "other.csv").write_text("id,k\na,1\n")
    with pytest.raises(DataError, match=r"has 2 tables \(other.csv, props.csv\); choose one with target\.data\.ada"):
        settled(root, "id,k\na,1\n")
    assert settled(root, "id,k\na,1\n", "id_prop.csv")[0]["data"]["adapter"]["table"] == "id_prop.csv"
    with pytest.raises(DataError, match="is a file; name the folder"):
        settled(root / "other.csv", "")
    with pytest.raises(DataError, match=r"target\.data\.root=.*does not exist"):
        settled(root / "nowhere", "")
