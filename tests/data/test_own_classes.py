"""Columns of classes in a user's own table: which are learnt, under which names, and what is refused."""

import csv
import io
from pathlib import Path

import pytest
from own_tables import CIF, labels, settled

from tltool.data import own_labels
from tltool.data.adapters import table
from tltool.data.record import Record
from tltool.errors import ConfigError, DataError, standing_at

PROPS = "file;kappa (W/mK);class\na.cif;1.5;ox\nb.cif;2;metal\nc.cif;3;metal\nd.cif;4;ox\n"
DEFINE = {"define": {"class": {"kind": "class"}}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a folder of four structures."""
    for name in "abcd":
        (tmp_path / f"{name}.cif").write_text(CIF)
    return tmp_path


def written(column: str, *cells: str) -> str:
    """Return a table of the structures a, b, c, ... with one column, quoted where that is needed."""
    text = io.StringIO()
    csv.writer(text).writerows([["id", column], *([name, cell] for name, cell in zip("abcd", cells, strict=False))])
    return text.getvalue()


def test_a_column_of_words_is_a_class_when_it_is_named(root: Path) -> None:
    target, told = settled(root, PROPS, quantities=["class"])
    assert target["data"]["define"]["class"]["classes"] == ["metal", "ox"]
    assert "class is a class (2: metal, ox). Ids in column 'file'" in told
    assert labels(target) == {"a": {"class": 1.0}, "b": {"class": 0.0}, "c": {"class": 0.0}, "d": {"class": 1.0}}
    rest = {key: value for key, value in target["data"].items() if key not in ("name", "root")}
    again, _ = settled(root, "", **rest)
    assert labels(again) == labels(target)


def test_numbers_are_learnt_and_the_way_to_the_class_is_said(root: Path) -> None:
    target, told = settled(root, PROPS)
    assert target["quantities"] == ["kappa"]
    assert "not learnt: class (2 classes: metal, ox; learn it with target.data.quantities=[class])." in told


def test_a_class_that_is_the_only_label_is_learnt(root: Path) -> None:
    target, told = settled(root, written("phase", "x", "y", "y", "x"))
    assert target["quantities"] == ["phase"]
    assert "phase is a class (2: x, y)" in told
    assert "not learnt" not in told
    with pytest.raises(DataError, match=r"no column holds numbers to learn \(m \(2 classes: x, y; learn it with"):
        settled(root, "id,m,k\na,x,u\nb,y,v\nc,y,v\nd,x,u\n")


def test_zeros_and_ones_are_numbers_until_someone_says_class(root: Path) -> None:
    text = written("stable", "1", "0", "0.0", "1")
    target, told = settled(root, text)
    assert "kind" not in target["data"]["define"]["stable"]
    assert "(to learn 0 and 1 as classes, say target.data.define={stable: {kind: class}})" in told
    target, told = settled(root, text, quantities=["stable"], define={"stable": {"kind": "class"}})
    assert "stable is a class (2: 0, 1)" in told
    assert [one["stable"] for one in labels(target).values()] == [1.0, 0.0, 0.0, 1.0]


def test_numbers_are_classes_in_the_order_of_their_size(root: Path) -> None:
    target, _ = settled(root, written("class", "10", "9.0", "9", "-1"), quantities=["class"], **DEFINE)
    assert target["data"]["define"]["class"]["classes"] == ["-1", "9", "10"]
    assert [one["class"] for one in labels(target).values()] == [2.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("words", [["a, b", 'the "rest"'], ["2D", "3D"], ["true", "false"], ["Å²", "x;y"]])
def test_names_of_any_kind(root: Path, words: list[str]) -> None:
    target, _ = settled(root, written("class", *words, words[1]), quantities=["class"], **DEFINE)
    if words != ["true", "false"]:
        assert set(target["data"]["define"]["class"]["classes"]) == set(words)
    found = labels(target)
    assert found["a"] != found["b"] == found["c"]


def test_a_class_with_one_row_and_a_missing_one(root: Path) -> None:
    target, _ = settled(root, written("class", "x", "x", "y", "none"), quantities=["class"], **DEFINE)
    assert labels(target) == {"a": {"class": 0.0}, "b": {"class": 0.0}, "c": {"class": 1.0}}
    listed = {"define": {"class": {"classes": ["none", "y", "x"]}}}
    target, _ = settled(root, written("class", "x", "x", "y", "none"), quantities=["class"], **listed)
    assert labels(target)["d"] == {"class": 0.0}


def test_a_word_that_the_definition_lacks_is_left_out_and_counted(root: Path) -> None:
    listed = {"define": {"class": {"classes": ["x", "y"]}}}
    target, _ = settled(root, written("class", "x", "y", "z", "x"), quantities=["class"], **listed)
    assert set(labels(target)) == {"a", "b", "d"}


def test_is_metal_takes_words_of_the_user(root: Path) -> None:
    target, _ = settled(root, written("is_metal", "true", "false", "true", "false"), quantities=["is_metal"])
    assert [one["is_metal"] for one in labels(target).values()] == [1.0, 0.0, 1.0, 0.0]
    target, told = settled(root, written("is_metal", "metal", "no", "no", "metal"), quantities=["is_metal"])
    assert "is_metal is a class (2: metal, no)" in told
    assert [one["is_metal"] for one in labels(target).values()] == [0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("cells", "keys", "words"),
    [
        (["x", "x", "x", "x"], DEFINE, r"every row of column 'class' is 'x'; a class needs rows of two classes"),
        (["w", "x", "y", "z"], {}, r"'w', which is no number; .* or say .*define=\{class: \{kind: class\}\} if its"),
        (["1 eV", "2 eV", "2 eV", "1 eV"], {}, r"If it is a class, say .*define=\{class: \{kind: class\}\}"),
        (["", "", "", ""], DEFINE, r"column 'class' is empty; give it labels"),
    ],
)
def test_what_is_no_class_is_one_sentence(root: Path, cells: list[str], keys: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        settled(root, written("class", *cells), quantities=["class"], **keys)


def test_too_many_classes(tmp_path: Path) -> None:
    rows = "".join(f"{n},NaCl,word{n}\n" for n in range(150))
    (tmp_path / "own.csv").write_text(f"id,formula,class\n{rows}")
    with pytest.raises(DataError, match=r"column 'class' has more than 100 different words; a class has 2 to 100"):
        of_table(tmp_path, **DEFINE)
    with pytest.raises(ConfigError, match="classes must be a list of 2 to 100"):
        of_table(tmp_path, define={"class": {"classes": [str(n) for n in range(101)]}})


def test_classes_beyond_the_first_rows_of_a_long_table(tmp_path: Path) -> None:
    rows = "".join(f"{n},NaCl,{'late' if n > 2500 else 'ab'[n % 2]}\n" for n in range(2600))
    (tmp_path / "own.csv").write_text(f"id,formula,class\n{rows}")
    node = of_table(tmp_path, quantities=["class"])
    assert node["define"]["class"]["classes"] == ["a", "b", "late"]
    keys = {key: value for key, value in node["adapter"].items() if key != "_target_"}
    found = [item for item in table.read(tmp_path, **keys) if isinstance(item, Record)]
    assert [sum(item.labels["class"] == k for item in found) for k in range(3)] == [1251, 1250, 99]


def of_table(root: Path, **keys) -> dict:
    """Return the settled description of a table of formulas."""
    adapter = {
        "_target_": "tltool.data.adapters.table.read",
        "id_column": "id",
        "structure_column": "structure",
        "formula_column": "formula",
        "labels": ["class"],
        "columns": None,
        "per_cell": [],
        "largest": {},
        "tags": {},
        "header_line": None,
        "decimal_commas": [],
        "repeated": "error",
        "weight": None,
        "uncertainty": None,
        "conditions": [],
        "define": {},
    }
    data = {"name": "formulas", "root": str(root), "quantities": ["class"], "define": {}, "adapter": adapter} | keys
    return own_labels.settled({"data": data}, {}, lambda text: None)["data"]


REPEATS = "id,kappa,class\na,1,x\na,3,x\na.cif,,y\nb,5,x\nb,7,y\nc,oops,x\nc,oops,\nd,4,x\n"


def test_rows_of_one_crystal_are_averaged_on_request(root: Path) -> None:
    """Of numbers the mean, of classes the most frequent; what no row says is missing."""
    target, _ = settled(root, REPEATS, quantities=["kappa", "class"])
    with (
        pytest.raises(DataError, match=r"the id 'a' occurs twice; .* with target\.data\.adapter\.repeated=mean"),
        standing_at("target.data", "data"),
    ):
        labels(target)
    target, _ = settled(root, REPEATS, quantities=["kappa", "class"], adapter={"repeated": "mean"})
    assert labels(target) == {
        "a": {"kappa": 2.0, "class": 0.0},
        "b": {"kappa": 6.0},
        "c": {"class": 0.0},
        "d": {"kappa": 4.0, "class": 0.0},
    }
    target["data"]["adapter"]["repeated"] = "first"
    with pytest.raises(ConfigError, match="repeated='first' is not known; use error, mean, count, deviation"):
        labels(target)


def test_rows_of_one_formula_are_averaged_on_request(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("id,formula,class\na,NaCl,x\nb,KCl,y\na,NaCl,y\na,NaCl,y\nb,KCl,y\n")
    node = of_table(tmp_path)
    keys = {key: value for key, value in node["adapter"].items() if key != "_target_"}
    with pytest.raises(DataError, match=r"line 4 and line 2 have the same id 'a'.*repeated=mean"):
        list(table.read(tmp_path, **keys))
    found = list(table.read(tmp_path, **keys | {"repeated": "mean"}))
    assert [(item.id, dict(item.labels)) for item in found if isinstance(item, Record)] == [
        ("a", {"class": 1.0}),
        ("b", {"class": 1.0}),
    ]
