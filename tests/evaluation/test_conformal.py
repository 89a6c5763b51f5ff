import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tltool.errors import ConfigError
from tltool.evaluation import conformal

COVERAGES = st.sampled_from([0.5, 0.68, 0.8, 0.9, 0.95])


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=60), COVERAGES)
def test_of_exchangeable_scores_so_many_lie_within(scores: list[float], coverage: float) -> None:
    """Each of n + 1 scores in turn is the new one: at least the share ``coverage`` lies within what the others give.

    That is the guarantee for exchangeable scores itself, which averages over which one is new.
    """
    every = np.array(scores)
    within = [s <= conformal.quantile(np.delete(every, k), coverage) for k, s in enumerate(every)]
    assert np.mean(within) >= coverage - 1e-9


@given(st.integers(30, 80), COVERAGES, st.integers(0, 99))
def test_distinct_scores_are_not_covered_much_more_often(n: int, coverage: float, seed: int) -> None:
    every = np.random.default_rng(seed).permutation(n).astype(float)
    within = [s <= conformal.quantile(np.delete(every, k), coverage) for k, s in enumerate(every)]
    if n - 1 >= conformal.needed(coverage):
        assert np.mean(within) <= coverage + 1 / n + 1e-9


@given(COVERAGES)
def test_too_few_rows_give_no_bound_and_one_more_does(coverage: float) -> None:
    n = conformal.needed(coverage)
    assert conformal.quantile(np.arange(n - 1.0), coverage) == math.inf
    assert conformal.quantile(np.arange(float(n)), coverage) == n - 1


def test_nine_rows_are_needed_for_ninety_percent() -> None:
    assert [conformal.needed(c) for c in (0.5, 0.9, 0.95, 0.99)] == [1, 9, 19, 99]
    assert conformal.quantile(np.array([3.0, 1.0, 2.0]), 0.5) == 2.0
    assert conformal.quantile(np.empty(0), 0.5) == math.inf


@given(st.lists(st.floats(0, 100), min_size=20, max_size=40), st.integers(1, 4), COVERAGES)
def test_repeats_that_agree_change_nothing(scores: list[float], repeats: int, coverage: float) -> None:
    once = np.array(scores)
    assert conformal.quantile(np.tile(once, repeats), coverage, len(once)) == conformal.quantile(once, coverage)


@pytest.mark.parametrize("coverage", [0.0, 1.0, -1.0, 90.0])
def test_a_coverage_is_a_fraction(coverage: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        conformal.checked(coverage)
