"""A cell gives the number that a person reads in it, nothing, or why it is no label; never another number."""

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tltool.data import store
from tltool.data.formats import label_columns
from tltool.data.formats.label_columns import Labels
from tltool.data.record import Crystal, Dropped, Record
from tltool.quantities import shipped

BUNDLED = Path(store.__file__).parent / "bundled"
CUBE = Crystal(3 * np.eye(3), np.zeros((1, 3)), np.array([29]))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_itself_however_it_is_written(value: float) -> None:
    for text in (repr(value), f"{value:.17e}", f" {value!r}\t", f"{value:+.17E}", str(value).replace("-", "−")):
        assert label_columns.labels({"gap": text}) == Labels({"gap": value}, {})
    for cell in (value, np.float64(value)):
        assert label_columns.labels({"gap": cell}) == Labels({"gap": value}, {})


@given(st.text(alphabet="0123456789.,_-+eE ()±", max_size=8))
def test_no_text_is_another_number_than_that_of_python(text: str) -> None:
    said = label_columns.labels({"gap": text})
    if said.good:
        assert "_" not in text
        assert said.good["gap"] == float(text)
    else:
        assert bool(said.bad) is (text.strip() not in ("", "-", "--"))


@pytest.mark.parametrize("cell", [None, "", "  ", "nan", "NaN", "-nan", "NA", "n/a", "#N/A", "null", "None", "-", "?",
                                  float("nan"), np.float32("nan"), Decimal("nan")])  # fmt: skip
def test_what_is_missing(cell: Any) -> None:
    assert label_columns.labels({"gap": cell}) == Labels({}, {})


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("1_0", "not a number alone: more stands behind it"),
        ("1.5 eV", "not a number alone: more stands behind it"),
        ("1.5(2)", "not a number alone: more stands behind it"),
        ("1.5±0.1", "not a number alone: more stands behind it"),
        ("50%", "not a number alone: more stands behind it"),
        ("0x10", "not a number alone: more stands behind it"),
        ("1.0D+02", "not a number alone: more stands behind it"),
        ("1.5\n1.6", "not a number alone: more stands behind it"),
        ("-1,5", "not a number: it has a comma; write a point as the decimal separator"),
        ("1,234.5", "not a number alone: more stands behind it"),
        ("1,234", "not a number: it has a comma; write a point as the decimal separator"),
        ("<0.1", "not a number"),
        ("~1.5", "not a number"),
        ("–1.5", "not a number"),
        ("١٢", "not a number"),
        ("１２", "not a number"),
        ("metal", "not a number"),
        ("TRUE", "not a number"),
        ("#DIV/0!", "not a number"),
        ("inf", "infinite"),
        ("-Infinity", "infinite"),
        ("1e999", "infinite"),
        (float("inf"), "infinite"),
        (10**400, "infinite"),
        (True, "not a number"),
        (np.True_, "not a number"),
        ([1.0], "not a number"),
        ({"vrh": 3.0}, "not a number"),
        (np.array(1.0), "not a number"),
        (datetime.date(2026, 5, 1), "not a number"),
    ],
)
def test_what_is_there_and_no_number(cell: Any, why: str) -> None:
    said = label_columns.labels({"gap": cell, "e_form": 1})
    assert said.good == {"e_form": 1.0}
    assert said.bad["gap"][0] == why
    lost = label_columns.unlabelled("a", label_columns.labels({"gap": cell}), "t.csv, line 3")
    assert lost is not None
    assert lost.reason == f"gap is {why}"
    assert lost.detail.startswith("t.csv, line 3: ")


def test_a_record_says_which_labels_it_lost() -> None:
    item = label_columns.record(
        "a", CUBE, label_columns.labels({"gap": "1_0", "e_form": -1}), {"without": "elastic labels: x"}
    )
    assert isinstance(item, Record)
    assert item.labels == {"e_form": -1.0}
    assert item.tags["without"] == "elastic labels: x, gap: not a number alone: more stands behind it"
    assert label_columns.unlabelled("a", Labels({}, {})) == Dropped("a", "no label")


@pytest.mark.parametrize(("cell", "value"), [(True, 1.0), ("false", 0.0), ("True", 1.0), (1, 1.0), ("0", 0.0)])
def test_a_class_may_be_a_word(cell: Any, value: float) -> None:
    assert label_columns.labels({"is_metal": cell}).good == {"is_metal": value}


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("e_form", 1e30, "e_form is beyond -7 to 20 eV/atom"),
        ("e_form", -443.0, "e_form is beyond -7 to 20 eV/atom"),
        ("K_VRH", 1.6e11, "K_VRH is beyond -1000 to 10000 GPa"),
        ("refractive_index", -1.0, "refractive_index is beyond 0 to 1000 1"),
        ("is_metal", 0.5, "is_metal is neither 0 nor 1"),
        ("gap", float("inf"), "gap is infinite"),
        ("gap", float("nan"), "gap is not a number"),
    ],
)
def test_what_a_quantity_cannot_be_is_no_label(name: str, value: float, why: str) -> None:
    assert label_columns.within(Record("a", CUBE, {name: value})) == Dropped("a", why, f"{value:g}")
    kept = label_columns.within(Record("a", CUBE, {name: value, "volume": 27.0}))
    assert isinstance(kept, Record)
    assert kept.labels == {"volume": 27.0}
    assert kept.tags == {"without": why.replace(" is ", ": ", 1)}


@pytest.mark.parametrize("name", shipped())
def test_limits_hold_at_both_ends(name: str) -> None:
    about = shipped()[name]
    assert about.least < about.most
    for value in (about.least, about.most):
        item = Record("a", CUBE, {name: value})
        assert label_columns.within(item) is item
    step = 1e-6 * (about.most - about.least)
    for value in (about.least - step, about.most + step):
        assert isinstance(label_columns.within(Record("a", CUBE, {name: value})), Dropped)


@pytest.mark.parametrize("path", sorted(BUNDLED.glob("*.h5")), ids=lambda path: path.stem)
def test_no_genuine_label_is_beyond_the_limits(path: Path) -> None:
    for name, values in store.load(path).labels.items():
        known = values[np.isfinite(values)]
        assert shipped()[name].least <= known.min()
        assert known.max() <= shipped()[name].most


@pytest.mark.parametrize(
    ("cell", "word"),
    [(None, ""), (float("nan"), ""), (12, "12"), (12.0, "12"), ("00012", "00012"), ("1e5", "1e5"), (" a ", "a"),
     ("NaN", "NaN"), (0.5, "0.5"), (1e300, "1e+300"), (-3.0, "-3"), ("12.0", "12.0")],
)  # fmt: skip
def test_ids_are_what_stands_there(cell: Any, word: str) -> None:
    assert label_columns.text(cell) == word
