"""Paired differences, their intervals and corrections: laws that hold for any numbers, and known values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tltool.study.differences import expanded, holm, mean_interval, p_value

PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=12)
VALUES = st.lists(st.floats(-10, 10), min_size=2, max_size=12)


@given(PROBABILITIES)
def test_holm_corrects_no_p_value_downwards_and_keeps_their_order(given: list[float]) -> None:
    found = holm(given)
    assert all(p <= q <= 1 for p, q in zip(given, found, strict=True))
    order = np.argsort(given, kind="stable")
    assert (np.diff(np.array(found)[order]) >= 0).all()
    assert holm([*given, math.nan])[:-1] == found, "what is not known counts as no comparison"


def test_holm_of_a_known_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=14), st.floats(-5, 5), st.floats(0.1, 10))
def test_an_interval_holds_the_mean_and_moves_with_the_values(values: list[float], by: float, scale: float) -> None:
    low, high = mean_interval(values)
    assert low - 1e-9 <= np.mean(values) <= high + 1e-9
    moved = mean_interval([scale * value + by for value in values])
    assert moved == pytest.approx((scale * low + by, scale * high + by), abs=1e-6)


def test_one_value_has_no_interval_and_no_p_value() -> None:
    assert all(map(math.isnan, (*mean_interval([1.0]), p_value([1.0]))))


@pytest.mark.parametrize("n", [5, 10, 20])
def test_the_interval_holds_the_true_mean_about_as_often_as_it_says(n: int) -> None:
    draws = np.random.default_rng(n).normal(size=(400, n))
    held = sum(low <= 0 <= high for low, high in map(mean_interval, draws.tolist()))
    assert 0.92 < held / 400 < 0.985


def test_the_tail_of_many_values_is_that_of_a_plain_percentile_interval() -> None:
    assert expanded(100_000) == pytest.approx(0.025, rel=1e-3)
    assert expanded(5) == pytest.approx(float(stats.norm.cdf(-math.sqrt(5 / 4) * stats.t.ppf(0.975, 4))))


@given(VALUES)
def test_the_p_value_is_that_of_a_t_test(values: list[float]) -> None:
    if np.std(values) > 1e-3:
        assert p_value(values) == pytest.approx(float(stats.ttest_1samp(values, 0).pvalue), rel=1e-6)
