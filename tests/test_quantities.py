"""A quantity is a value: its definition is checked, written as plain data, and read back as the same value."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tltool import quantities
from tltool.errors import ConfigError
from tltool.quantities import (
    Quantities,
    Quantity,
    class_names_of,
    class_word,
    defined,
    described,
    quantity,
    shipped,
    table_of,
)

MASS = Quantity("effective_mass", "m_e", "effective mass of the electron", 0, 100)


def test_a_table_finds_its_quantities_and_names_the_nearest() -> None:
    own = Quantities([shipped()["gap"], MASS])
    assert list(own) == ["gap", "effective_mass"]
    assert own.named("effective_mass") == own["effective_mass"] == quantity("effective_mass", own) == MASS
    with pytest.raises(ConfigError, match=r"Unknown quantity 'efective_mass'.*Did you mean 'effective_mass'"):
        own.named("efective_mass")
    with pytest.raises(ConfigError, match="Unknown quantity 'effective_mass'"):
        quantity("effective_mass")
    assert own.get("volume") is None


def test_a_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        shipped()["effective_mass"] = MASS  # type: ignore[index]
    table = [MASS]
    own = Quantities(table)
    table.clear()
    assert len(own) == 1
    assert "effective_mass" not in shipped()


def test_two_quantities_of_one_name_are_an_error() -> None:
    with pytest.raises(ConfigError, match="two quantities called 'gap'"):
        Quantities([MASS, *shipped().values(), shipped()["gap"]])


def test_what_is_a_logarithm_names_a_quantity_of_the_table() -> None:
    assert all(about.log10_of in shipped() for about in shipped().values() if about.log10_of)


@given(
    unit=st.text(st.characters(categories=("L", "N", "S"), exclude_characters=" "), max_size=40),
    scale=st.sampled_from(("linear", "log", "auto")),
    least=st.floats(-1e6, 0) | st.just(-math.inf),
    kind=st.sampled_from(quantities.KINDS),
    classes=st.lists(
        st.text(st.characters(categories=("L", "P", "N")), min_size=1, max_size=9), unique_by=class_word, max_size=5
    ).filter(lambda words: len(words) != 1),
)
def test_a_definition_is_read_back_as_it_was(
    unit: str, scale: str, least: float, kind: str, classes: list[str]
) -> None:
    is_class = kind == "class"
    node = {"unit": unit, "scale": "linear" if is_class else scale, "least": least, "kind": kind}
    about = defined("kappa", node | {"classes": classes if is_class else []})
    assert about.class_names == ((*map(class_word, classes),) or ("0", "1") if is_class else ())
    assert about.width == (len(classes) if is_class and len(classes) > 2 else 1)
    assert defined("kappa", described(about)) == about
    assert quantities.from_text(quantities.as_text({"kappa": described(about)}))["kappa"] == about


def test_every_shipped_definition_is_read_back() -> None:
    assert len(shipped()) >= 28
    for about in shipped().values():
        assert defined(about.name, described(about)) == about


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"units": "K"}, r"no key 'units'\. Did you mean 'unit'"),
        ({"scale": "ln"}, r"scale='ln' is not known; use linear, log, logit, auto"),
        ({"kind": "number", "least": 2, "most": 1}, r"least=2 must be below most=1"),
        ({"unit": "x" * 41}, r"unit=.* must be a text of at most 40"),
        ({"unit": "a\nb"}, r"unit=.* must be a text"),
        ({"unit": ["K"]}, r"unit=.* must be a text"),
        ({"least": "0"}, r"least='0' must be a number"),
        ({"least": math.nan}, r"least=nan must be a number"),
        ({"classes": ["a", "a"]}, r"classes must be different words"),
        ({"classes": ["a"] * 101}, r"classes must be a list of 2 to 100"),
        ({"classes": ["a"]}, r"classes must be a list of 2 to 100"),
        ({"classes": ["1", 1.0]}, r"classes must be different words"),
        ({"classes": [False, True]}, r"YAML reads as no word; put it in quotes"),
        ({"classes": ["a", ["b"]]}, r"classes must be words or numbers"),
        ({"classes": ["a", ""]}, r"classes must be different words"),
        ({"kind": "number", "classes": ["a", "b"]}, r"a number has no classes; use kind: class"),
        ({"kind": "class", "scale": "log"}, r"a class has no scale"),
        ({"per": "site"}, r"per='site' is not known; use atom, cell"),
        ("K", r"='K' must hold keys"),
        ({"log10_of": "nothing"}, r"log10_of='nothing' is no quantity that ships"),
    ],
)  # fmt: skip
def test_a_wrong_definition_is_one_sentence(node: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        table_of({"kappa": node})


@pytest.mark.parametrize("name", ["1st", "a b", "a.b", "../x", "a/b", "", "x" * 65, "type", "keys", "None", "_a"])
def test_a_name_is_a_word_that_a_file_and_a_module_can_have(name: str) -> None:
    with pytest.raises(ConfigError, match="Give it another name"):
        defined(name, {})
    if own := quantities.name_of(name):
        torch.nn.ModuleDict({defined(own, {}).name: torch.nn.Identity()})


def test_names_that_torch_takes_are_all_known() -> None:
    taken = {name for name in dir(torch.nn.ModuleDict()) if name[0] != "_"}
    assert {name for name in taken if quantities.name_of(name) == name} == set()


def test_a_name_that_ships_keeps_its_unit() -> None:
    assert table_of({"gap": {"unit": "eV", "scale": "log"}})["gap"].scale == "log"
    with pytest.raises(ConfigError, match=r"gap is in eV, and here it would be in meV; convert"):
        table_of({"gap": {"unit": "meV"}})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("W/mK", "W/(m K)", True), ("Å3", "Å^3", True), ("Å³", "Å3", True), ("μB", "µB", True), ("eV", "meV", False),
     ("", "", True), ("", "eV", False), ("mW", "MW", False), ("1", "", False)],
)  # fmt: skip
def test_spellings_of_a_unit(one: str, other: str, same: bool) -> None:
    assert quantities.same_unit(one, other) is same
    assert quantities.same_unit(other, one) is same


def test_a_folder_of_definitions(tmp_path: Path) -> None:
    (tmp_path / "kappa.yaml").write_text("unit: W/(m K)\nscale: log\n")
    (tmp_path / "notes.txt").write_text("none")
    assert quantities.read_folder(tmp_path) == {"kappa": Quantity("kappa", "W/(m K)", scale="log")}
    (tmp_path / "bad.yaml").write_text("unit: [\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml is no YAML .*; correct it"):
        quantities.read_folder(tmp_path)


def test_classes_have_an_order_of_their_own_and_imply_the_kind() -> None:
    assert class_names_of(["b", "10", "2.0", "A", "2", " a "]) == ("2", "10", "A", "a", "b")
    about = defined("class", {"classes": ["wide, gap", 'so "called"']})
    assert (about.kind, about.most, about.width) == ("class", 1.0, 1)
    assert list(quantities.columns_of([about, defined("phase", {"classes": ["a", "b", "c"]}), MASS]).values()) == [
        slice(0, 1),
        slice(1, 4),
        slice(4, 5),
    ]
