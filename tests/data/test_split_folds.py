import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import config, store_of

from tltool import instantiate
from tltool.data import split_folds
from tltool.data.record import formula
from tltool.data.split_folds import Folds
from tltool.data.store import Store
from tltool.errors import ConfigError, DataError

KEYS = {"folds": 5, "repeats": 1, "group": None, "seed": 0, "val": 0.0, "compare": "scratch"}


def cut(records: Store, labels: np.ndarray, **keys) -> Folds:
    return split_folds.cross_validation(records, labels, **KEYS | keys)


def tagged(n: int, words: list[str]) -> Store:
    records = store_of([str(k) for k in range(n)])
    return Store(records.ids, records.first_site, records.numbers, records.frac, records.lattice, {}, {"series": words})


@given(st.integers(10, 120), st.integers(2, 9), st.integers(1, 4), st.integers(0, 99), st.sampled_from([0.0, 0.2]))
def test_every_labelled_row_is_tested_once_in_each_repeat(n, folds, repeats, seed, val) -> None:
    labels = np.where(np.arange(n) % 5 == 3, np.nan, np.arange(n) + 0.5)
    found = cut(store_of([str(k) for k in range(n)]), labels, folds=folds, repeats=repeats, seed=seed, val=val)
    known = np.flatnonzero(np.isfinite(labels)).tolist()
    assert len(found.parts) == folds * repeats
    for repeat in range(repeats):
        mine = [fold for fold in found.parts if fold.repeat == repeat]
        assert [fold.number for fold in mine] == list(range(folds))
        assert sorted(np.concatenate([fold.split.test for fold in mine])) == known
        sizes = [len(fold.split.test) for fold in mine]
        assert max(sizes) - min(sizes) <= 1
        for fold in mine:
            assert sorted(np.concatenate(fold.split)) == known
            assert len(fold.split.val) == round(val * (len(known) - len(fold.split.test)))
    assert sorted(np.concatenate(found.whole)) == known
    assert len(found.whole.test) == 0


@given(st.lists(st.sampled_from("abcdefgh"), min_size=20, max_size=80), st.integers(0, 9), st.sampled_from([0.0, 0.3]))
def test_a_group_never_straddles_folds(words: list[str], seed: int, val: float) -> None:
    n, folds = len(words), 2
    if len(set(words)) < 2:
        return
    found = cut(tagged(n, words), np.arange(n) + 0.5, folds=folds, repeats=2, group="series", seed=seed, val=val)
    for fold in found.parts:
        parts = [{words[row] for row in rows} for rows in fold.split]
        assert not parts[0] & parts[2]
        assert not parts[1] & parts[2]
        assert not parts[0] & parts[1]


def test_formulas_and_prototypes_stay_together(demo: Store) -> None:
    labels = np.full(len(demo), np.nan)
    labels[:150] = demo.label("e_form")[:150]
    found = cut(demo, labels, group="formula")
    names = [formula(demo.crystal(row).numbers) for row in range(150)]
    assert len(set(names)) < 150, "some formulas occur twice"
    of = {name: fold.number for fold in found.parts for name in {names[row] for row in fold.split.test}}
    assert all(of[names[row]] == fold.number for fold in found.parts for row in fold.split.test)
    assert {fold.number for fold in cut(demo, labels, group="prototype").parts} == {0, 1, 2, 3, 4}


@given(st.integers(3, 30), st.integers(0, 99))
def test_classes_are_spread_evenly(ones: int, seed: int) -> None:
    labels = np.concatenate([np.zeros(60), np.ones(ones)])
    found = cut(store_of([str(k) for k in range(len(labels))]), labels, folds=3, seed=seed)
    counts = [int(labels[fold.split.test].sum()) for fold in found.parts]
    assert max(counts) - min(counts) <= 1


def test_another_repeat_is_cut_otherwise_and_a_seed_gives_the_same() -> None:
    records, labels = store_of([str(k) for k in range(40)]), np.arange(40) + 0.5
    first, again = (cut(records, labels, repeats=2) for _ in range(2))
    tests = [fold.split.test.tolist() for fold in first.parts]
    assert tests == [fold.split.test.tolist() for fold in again.parts]
    assert tests[:5] != tests[5:]
    assert tests != [fold.split.test.tolist() for fold in cut(records, labels, repeats=2, seed=1).parts]


def test_leave_one_out_is_the_shipped_yaml() -> None:
    records, labels = store_of([str(k) for k in range(12)]), np.arange(12) + 0.5
    found = instantiate.call(config("transfer", "split=loo")["split"], records, labels, place="split")
    assert sorted(int(fold.split.test[0]) for fold in found.parts) == list(range(12))
    assert all(len(fold.split.train) == 11 for fold in found.parts)


def test_rows_that_leave_the_tests_still_train() -> None:
    found = cut(store_of([str(k) for k in range(10)]), np.arange(10) + 0.5)
    less = found.without(np.array([3, 4]))
    assert sorted(np.concatenate([fold.split.test for fold in less.parts])) == [0, 1, 2, 5, 6, 7, 8, 9]
    assert less.whole == found.whole
    with pytest.raises(DataError, match="No crystal is left to test"):
        found.without(np.arange(10))


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        ({"folds": 1}, ConfigError, "folds=1 must be 2 or more"),
        ({"repeats": 0}, ConfigError, "repeats=0 1 or more"),
        ({"val": 1.0}, ConfigError, "val=1.0 must be a fraction"),
        ({"compare": "finetune"}, ConfigError, "compare='finetune' is not known"),
        ({"folds": None, "repeats": 2}, ConfigError, "repeats=1 or split=cv"),
        ({"folds": 30}, DataError, "10 labelled rows cannot be cut into 30 folds"),
        ({"group": "colour"}, ConfigError, "use null or one of: formula, composition, prototype, series"),
        ({"group": "series"}, DataError, r"2 groups \(series\) cannot be cut into 5 folds"),
    ],
)
def test_what_cannot_be_cut(keys, error, words) -> None:
    with pytest.raises(error, match=words):
        cut(tagged(10, list("aaaaabbbbb")), np.arange(10) + 0.5, **keys)
