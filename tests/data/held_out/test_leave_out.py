"""Whole groups are tested: no training crystal shares an element, a cluster or a space group with a test crystal."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT, store_of

from tltool.data.held_out.groups import clustered, composition_features, members
from tltool.data.held_out.leave_out import leave_out
from tltool.data.record import Crystal
from tltool.data.store import load
from tltool.errors import ConfigError

HOW: dict[str, Any] = {
    "clusters": 4, "held_out": None, "groups": 1, "fewest": 2, "val": 0.1, "test": 0.5, "train_size": None,
}  # fmt: skip
ATOMS = st.lists(
    st.lists(st.sampled_from([3, 8, 11, 17, 26, 29, 47]), min_size=1, max_size=3), min_size=30, max_size=60
)


@settings(max_examples=25)
@given(ATOMS, st.integers(0, 9), st.sampled_from(["element", "cluster", "composition"]))
def test_no_training_crystal_belongs_to_a_group_that_is_tested(numbers: list[list[int]], seed: int, group: str) -> None:
    store = store_of([str(k) for k in range(len(numbers))], numbers)
    labels = np.where(np.arange(len(numbers)) % 9 == 4, np.nan, 1.0)
    try:
        parts = leave_out(store, labels, seed=seed, group=group, **HOW)
    except ConfigError:  # every group is too small or too large
        return
    rows = np.concatenate(parts)
    assert sorted(rows.tolist()) == np.flatnonzero(np.isfinite(labels)).tolist()
    rows.sort()
    of_each = dict(zip(rows.tolist(), members(store, rows, group, 4), strict=True))
    tested = [of_each[row] for row in parts.test.tolist()]
    shared = frozenset.intersection(*tested)
    others = frozenset().union(*(of_each[row] for row in [*parts.train.tolist(), *parts.val.tolist()]))
    assert shared - others, "the test crystals have a group in common that no other crystal is in"
    assert 2 <= len(parts.test) <= 0.5 * len(rows)
    small = leave_out(store, labels, seed=seed, group=group, **{**HOW, "train_size": 5})
    assert small.test.tolist() == parts.test.tolist()
    assert small.train.tolist() == parts.train[:5].tolist()


def test_the_element_that_is_named_is_tested_and_another_seed_draws_another_one() -> None:
    numbers = [[29, 8], [29, 17], [47, 8], [47, 17], [26, 8], [26], [29], [47], [11, 17], [11]] * 3
    store, labels = store_of([str(k) for k in range(30)], numbers), np.ones(30)
    parts = leave_out(store, labels, seed=0, group="element", **{**HOW, "held_out": ["O"]})
    assert sorted(parts.test.tolist()) == [row for row, some in enumerate(numbers) if 8 in some]
    with pytest.raises(ConfigError, match=r"split\.held_out=U: no labelled crystal has this element"):
        leave_out(store, labels, seed=0, group="element", **{**HOW, "held_out": ["O", "U"]})
    drawn = {tuple(sorted(leave_out(store, labels, seed=s, group="element", **HOW).test.tolist())) for s in range(8)}
    assert len(drawn) > 2


def test_space_groups_are_never_seen_in_training() -> None:
    store = load(ROOT / "tltool/data/bundled/elastic.h5")
    labels = np.full(len(store), np.nan)
    labels[:200] = 1.0
    parts = leave_out(store, labels, seed=1, group="space_group", **{**HOW, "groups": None, "test": 0.3})
    kinds = {name: set().union(*members(store, rows, "space_group", 4)) for name, rows in parts.items()}
    assert not kinds["test"] & (kinds["train"] | kinds["val"])
    assert len(kinds["test"]) > 1
    assert 0.1 * 200 < len(parts.test) <= 0.3 * 200


def test_like_compositions_are_in_one_cluster() -> None:
    """Oxides of alkali metals are nearer to each other than to alloys of transition metals."""

    def cubic(*numbers: int) -> Crystal:
        frac = np.zeros((len(numbers), 3))
        frac[:, 0] = np.arange(len(numbers)) / len(numbers)
        return Crystal(5 * np.eye(3), frac, np.array(numbers))

    crystals = [cubic(3, 3, 8), cubic(11, 11, 8), cubic(19, 19, 8), cubic(26, 27), cubic(27, 28), cubic(28, 29)]
    found = clustered(crystals, 2)
    assert found[:3] == [found[0]] * 3
    assert found[3:] == [1 - found[0]] * 3
    np.testing.assert_allclose(composition_features(crystals[0]), composition_features(cubic(8, 3, 3)))


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"group": "elemnt"}, "split.group='elemnt' is not known"),
        ({"group": "element", "fewest": 31}, "No group has 31 crystals or more"),
        ({"group": "element", "test": 0.0}, "must be fractions"),
        ({"group": "cluster", "clusters": 1}, r"split.clusters=1 must be 2 to 30"),
    ],
    ids=str,
)
def test_what_cannot_be_held_out(keys: dict[str, Any], says: str) -> None:
    store = store_of([str(k) for k in range(30)], [[29, 8], [29]] * 15)
    with pytest.raises(ConfigError) as caught:
        leave_out(store, np.ones(30), seed=0, **{**HOW, **keys})
    assert says in str(caught.value)
