"""Several rows of one crystal become their mean, which counts as their number or standard deviation says."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tltool.data.formats.label_columns import Labels
from tltool.data.formats.rows import repeated_rows
from tltool.data.formats.rows.further_columns import Beside
from tltool.data.formats.rows.repeated_rows import Said
from tltool.errors import ConfigError, DataError
from tltool.quantities import table_of

KNOWN = table_of({"kappa": {"unit": "W/mK"}, "phase": {"classes": ["x", "y"]}})
VALUES = st.lists(st.floats(-100, 100), min_size=1, max_size=6)


def said(value: float, weight: float = math.nan, deviation: float = math.nan, name: str = "kappa") -> Said:
    return Said(Labels({name: value}, {}), Beside(weight, deviation, (), ""))


@given(VALUES, st.data())
def test_a_weight_is_that_many_rows(values: list[float], data: st.DataObject) -> None:
    counts = [data.draw(st.integers(1, 4)) for _ in values]
    few = repeated_rows.joined([said(v, float(n)) for v, n in zip(values, counts, strict=True)], KNOWN, "mean")
    many = [said(v, 1.0) for v, n in zip(values, counts, strict=True) for _ in range(n)]
    whole = repeated_rows.joined(many, KNOWN, "mean")
    assert few.labels.good["kappa"] == pytest.approx(whole.labels.good["kappa"], abs=1e-9)
    assert few.beside.weight == whole.beside.weight == sum(counts)


@given(VALUES)
def test_count_weighs_by_the_number_of_rows(values: list[float]) -> None:
    every = {"a": [said(v) for v in values], "b": [said(1.0)]}
    found = repeated_rows.every_joined(every, KNOWN, "count", "t.csv")
    assert found["a"].labels.good["kappa"] == pytest.approx(sum(values) / len(values), abs=1e-9)
    assert (found["a"].beside.weight, found["b"].beside.weight) == (len(values), 1)


def test_deviation_is_that_of_the_mean_and_never_zero() -> None:
    """Two rows that agree by chance do not count without limit: the deviation of all crystals is one further row."""
    every = {"a": [said(1.0), said(3.0)], "b": [said(2.0), said(2.0)], "c": [said(5.0)]}
    found = repeated_rows.every_joined(every, KNOWN, "deviation", "t.csv")
    pooled = 1.0  # (2 + 0) / (1 + 1)
    assert found["a"].beside.deviation == pytest.approx(math.sqrt((pooled + 2.0) / 2 / 2))
    assert found["b"].beside.deviation == pytest.approx(math.sqrt(pooled / 2 / 2))
    assert found["c"].beside.deviation == pytest.approx(math.sqrt(pooled))
    with pytest.raises(DataError, match=r"t\.csv: no two rows of one crystal differ"):
        repeated_rows.every_joined({"a": [said(1.0)]}, KNOWN, "deviation", "t.csv")


def test_uncertainties_are_joined_by_inverse_squares() -> None:
    found = repeated_rows.joined([said(1.0, deviation=1.0), said(4.0, deviation=0.5)], KNOWN, "mean")
    assert found.labels.good["kappa"] == pytest.approx((1 * 1 + 4 * 4) / 5)
    assert found.beside.deviation == pytest.approx(5**-0.5)


def test_a_class_is_what_most_of_the_weight_says() -> None:
    rows = [said(0.0, 1.0, name="phase"), said(0.0, 1.0, name="phase"), said(1.0, 3.0, name="phase")]
    assert repeated_rows.joined(rows, KNOWN, "mean").labels.good == {"phase": 1.0}


def test_keys_that_do_not_go_together_are_an_error() -> None:
    with pytest.raises(ConfigError, match="is that of one quantity, and there are kappa, phase"):
        repeated_rows.require("deviation", ["kappa", "phase"])
    with pytest.raises(ConfigError, match=r"repeated=count and data\.uncertainty both say"):
        repeated_rows.require("count", ["kappa"], uncertain=True)
