"""Close values are one, no group is wider than the bound, and nothing depends on where the values lie."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tltool.data.graph import distance_groups

GAPS = st.lists(st.sampled_from([0.0, 1e-9, 2e-5, 6e-5, 9e-5, 1.1e-4, 1e-3, 0.1]), max_size=60)
TOLERANCE, WIDTH = 1e-4, 5e-4


def groups(values: np.ndarray, apart: np.ndarray | None = None) -> list[list[float]]:
    none = np.zeros(max(len(values) - 1, 0), dtype=bool)
    new = distance_groups.begins(values, none if apart is None else apart, tolerance=TOLERANCE, width=WIDTH)
    return [part.tolist() for part in np.split(values, np.flatnonzero(new)[1:])] if len(values) else []


@given(GAPS)
def test_no_group_is_wider_than_the_bound_and_none_spans_a_wide_gap(gaps: list[float]) -> None:
    values = np.cumsum([2.0, *gaps])
    found = groups(values)
    assert sum(map(len, found)) == len(values)
    assert all(part[-1] - part[0] <= WIDTH for part in found)
    assert all(gap <= TOLERANCE for part in found for gap in np.diff(part))
    # What is no chain is not split: two parts of a chain that fits into the bound are one.
    for chain in np.split(values, np.flatnonzero(np.diff(values) > TOLERANCE) + 1):
        if chain[-1] - chain[0] <= WIDTH:
            assert chain.tolist() in found


@given(GAPS)
def test_equal_values_stay_together(gaps: list[float]) -> None:
    values = np.cumsum([2.0, *gaps])
    twice = np.repeat(values, 2)
    assert [len(part) for part in groups(twice)] == [2 * len(part) for part in groups(values)]


def test_a_chain_parts_at_its_widest_gap() -> None:
    left, right = 2.0 + 3e-5 * np.arange(10), 2.0 + 27e-5 + 8e-5 + 3e-5 * np.arange(10)
    assert groups(np.concatenate([left, right])) == [left.tolist(), right.tolist()]


def test_even_chains_end_too() -> None:
    assert max(part[-1] - part[0] for part in groups(np.arange(20_000) * 1e-6)) <= WIDTH


def test_nothing_joins_across_owners() -> None:
    assert groups(np.array([1.0, 1.0, 1.0]), np.array([False, True])) == [[1.0, 1.0], [1.0]]
    assert groups(np.empty(0)) == []
