"""Power laws and equal rows: exact curves give back what they were made from."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tltool.study.power_laws import equal_rows, slope, slope_difference

EXPONENTS = st.floats(-1.0, -0.05)
SIZES = (50, 100, 200, 400)


def curve(a: float, b: float, noise: float = 0.0, draws: int = 6, seed: int = 0) -> dict[int, list[float]]:
    """Errors a n^b of each draw, times a factor of its own and of its size."""
    spread = np.exp(noise * np.random.default_rng(seed).normal(size=(len(SIZES), draws)))
    return {n: (a * n**b * spread[k]).tolist() for k, n in enumerate(SIZES)}


@given(st.floats(0.1, 10), EXPONENTS)
def test_an_exact_power_law_gives_its_exponent(a: float, b: float) -> None:
    found = slope(curve(a, b))
    assert found.exponent == pytest.approx(b)
    assert found.interval == pytest.approx((b, b))


@given(EXPONENTS, EXPONENTS)
def test_the_difference_of_slopes_is_that_of_the_exponents(b: float, c: float) -> None:
    assert slope_difference(curve(1, b), curve(2, c)).exponent == pytest.approx(b - c)


def test_noise_widens_the_interval_which_holds_the_exponent() -> None:
    held = 0
    for seed in range(60):
        low, high = slope(curve(1, -0.4, noise=0.1, seed=seed)).interval
        held += low <= -0.4 <= high
    assert held >= 52
    assert slope_difference(curve(1, -0.4, noise=0.1), curve(1, -0.4, noise=0.1, seed=1)).interval.low < 0


@given(EXPONENTS, st.floats(55, 390))
def test_equal_rows_are_those_that_the_mode_was_made_from(b: float, rows: float) -> None:
    found = equal_rows({100: [rows**b] * 6}, curve(1, b), at=100)
    assert found is not None
    assert found.rows == pytest.approx(rows, rel=1e-6)
    assert found.interval == pytest.approx((rows, rows), rel=1e-6)


def test_beyond_the_sizes_of_the_baseline_nothing_is_known() -> None:
    base = curve(1, -0.5)
    better, worse = (equal_rows({100: [n**-0.5] * 6}, base, at=100) for n in (401, 49))
    assert better is not None
    assert worse is not None
    assert (better.rows, worse.rows) == (math.inf, 0.0)
    assert equal_rows({100: [1.0]}, {50: [1.0]}, at=100) is None
    assert equal_rows({100: [1.0]}, base, at=200) is None


def test_one_size_has_no_slope_and_one_draw_no_interval() -> None:
    assert math.isnan(slope({50: [1.0, 2.0]}).exponent)
    found = slope({50: [1.0], 100: [0.5]})
    assert found.exponent == pytest.approx(-1)
    assert math.isnan(found.interval.low)
