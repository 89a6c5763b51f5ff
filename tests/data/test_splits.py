import dataclasses
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import store_of

from tltool.data import origin, splits, store
from tltool.data.formats.formulas import composition
from tltool.data.origin import Mark
from tltool.data.overlap import fingerprint
from tltool.data.record import Crystal, Record, formula
from tltool.data.splits import Split
from tltool.data.store import Store
from tltool.errors import ConfigError, DataError


@given(st.integers(20, 300), st.integers(0, 99), st.data())
def test_parts_are_disjoint_nested_and_keep_the_test_rows(n: int, seed: int, data: st.DataObject) -> None:
    ids = [str(k) for k in range(n)]
    labels = np.where(np.arange(n) % 7 == 3, np.nan, 1.0)
    whole = splits.random(store_of(ids), labels, seed=seed, draw=None, val=0.1, test=0.1, train_size=None)
    size = data.draw(st.integers(1, len(whole.train)))
    small = splits.random(store_of(ids), labels, seed=seed, draw=None, val=0.1, test=0.1, train_size=size)
    rows = np.concatenate(whole)
    assert sorted(rows) == np.flatnonzero(np.isfinite(labels)).tolist()
    assert len(small.train) == size
    assert small.train.tolist() == whole.train[:size].tolist()
    assert small.val.tolist() == whole.val[: len(small.val)].tolist()
    assert small.test.tolist() == whole.test.tolist()


@given(st.integers(40, 200), st.integers(0, 9), st.integers(0, 9))
def test_another_draw_keeps_the_test_rows_and_trains_on_others(n: int, seed: int, draw: int) -> None:
    records, labels = store_of([str(k) for k in range(n)]), np.ones(n)
    keys = {"seed": seed, "val": 0.1, "test": 15}
    first = splits.random(records, labels, draw=None, train_size=None, **keys)
    other = splits.random(records, labels, draw=draw, train_size=None, **keys)
    small = splits.random(records, labels, draw=draw, train_size=9, **keys)
    assert len(first.test) == 15
    assert other.test.tolist() == first.test.tolist()
    assert other.train.tolist() != first.train.tolist()
    assert sorted(np.concatenate(other)) == list(range(n))
    assert small.train.tolist() == other.train[:9].tolist()
    assert small.test.tolist() == first.test.tolist()


@given(st.integers(40, 200), st.integers(0, 9), st.none() | st.integers(0, 9))
def test_the_top_of_the_range_is_tested_and_nothing_above_is_trained_on(n: int, seed: int, draw: int | None) -> None:
    label = np.random.default_rng(n).permutation(n).astype(float)
    label[::7] = np.nan
    store = store_of([f"c{k}" for k in range(n)])
    how = {"seed": seed, "val": 0.1, "test": 0.2}
    parts = splits.top_of_range(store, label, **how, draw=draw, train_size=None)
    known = np.flatnonzero(np.isfinite(label))
    assert sorted(np.concatenate([rows for _, rows in parts.items()])) == known.tolist()
    assert len(parts.test) == round(0.2 * len(known))
    assert label[np.concatenate([parts.train, parts.val])].max() < label[parts.test].min()
    small = splits.top_of_range(store, label, **how, draw=draw, train_size=10)
    assert small.train.tolist() == parts.train[:10].tolist()
    assert small.test.tolist() == parts.test.tolist()
    other = splits.top_of_range(store, label, **how, draw=11, train_size=None)
    assert other.train.tolist() != parts.train.tolist()


def test_classes_have_no_top() -> None:
    store = store_of(["a", "b", "c"])
    with pytest.raises(ConfigError, match="split=top needs numbers"):
        splits.top_of_range(
            dataclasses.replace(store, attributes={splits.STRATA: "is_metal"}),
            np.zeros(3), seed=0, draw=None, val=0.1, test=0.4, train_size=None,
        )  # fmt: skip


def test_what_cannot_be_split() -> None:
    ids, labels = [str(k) for k in range(30)], np.ones(30)
    with pytest.raises(ConfigError, match="fractions"):
        splits.random(store_of(ids), labels, seed=0, draw=None, val=0.6, test=0.5, train_size=None)
    with pytest.raises(ConfigError, match="leave something to train on"):
        splits.random(store_of(ids), labels, seed=0, draw=None, val=0.1, test=30, train_size=None)
    with pytest.raises(ConfigError, match="train_size=25"):
        splits.random(store_of(ids), labels, seed=0, draw=None, val=0.1, test=0.1, train_size=25)
    with pytest.raises(DataError, match=r"The train split is empty \(30 records, 0 of them labelled\)"):
        splits.random(store_of(ids), np.full(30, np.nan), seed=0, draw=None, val=0.1, test=0.1, train_size=None)
    with pytest.raises(DataError, match="val split is empty"):
        splits.random(store_of(ids[:4]), np.ones(4), seed=0, draw=None, val=0.1, test=0.1, train_size=None)
    with pytest.raises(DataError, match="two parts"):
        splits.checked(Split(np.array([1]), np.array([1]), np.array([2])), 3, needs_val=False, remedy="")


def test_a_split_file(tmp_path: Path) -> None:
    ids, labels = ["a", "b", "c"], np.array([1.0, np.nan, 1.0])
    file = tmp_path / "split.csv"
    file.write_text("id,split\na,train\nb,train\nc,test\n")
    parts = splits.by_ids(store_of(ids), labels, file=str(file))
    assert [p.tolist() for p in parts] == [[0], [], [2]]
    file.write_text("id,split\nz,train\n")
    with pytest.raises(DataError, match="no id 'z'"):
        splits.by_ids(store_of(ids), labels, file=str(file))
    file.write_text("id,part\na,train\n")
    with pytest.raises(DataError, match="columns id and split"):
        splits.by_ids(store_of(ids), labels, file=str(file))
    with pytest.raises(DataError, match=r"missing\.csv"):
        splits.by_ids(store_of(ids), labels, file=str(tmp_path / "missing.csv"))


HASHED = {"seed": 3, "val": 0.2, "test": 0.2, "train_size": None}


@given(st.sets(st.integers(0, 10_000), min_size=60, max_size=200), st.integers(1, 59))
def test_by_hash_adding_rows_moves_none(numbers: set[int], fewer: int) -> None:
    ids = [f"r{n}" for n in sorted(numbers)]

    def parts_of(some: list[str]) -> dict[str, str]:
        split = splits.by_hash(store_of(some), np.ones(len(some)), group="id", **HASHED)
        return {some[row]: name for name, rows in split.items() for row in rows}

    whole = parts_of(ids)
    assert whole.keys() == set(ids)
    kept = list(reversed(ids[:-fewer])) if len(ids) - fewer >= 40 else ids
    try:
        some = parts_of(kept)
    except DataError:
        return  # forty rows may leave a part empty
    assert all(whole[name] == part for name, part in some.items())


def test_by_hash_meets_the_fractions_and_nests() -> None:
    ids = [f"mp-{n}" for n in range(5000)]
    whole = splits.by_hash(store_of(ids), np.ones(5000), group="id", **HASHED)
    assert [len(p) / 5000 for p in whole] == pytest.approx([0.6, 0.2, 0.2], abs=0.03)
    small = splits.by_hash(store_of(ids), np.ones(5000), group="id", **HASHED | {"train_size": 100})
    more = splits.by_hash(store_of(ids), np.ones(5000), group="id", **HASHED | {"train_size": 200})
    assert small.train.tolist() == more.train[:100].tolist() == whole.train[:100].tolist()
    assert small.test.tolist() == whole.test.tolist()
    other = splits.by_hash(store_of(ids), np.ones(5000), group="id", **HASHED | {"seed": 4})
    assert len(set(other.test.tolist()) & set(whole.test.tolist())) == pytest.approx(5000 * 0.04, abs=60)


def test_by_composition_keeps_a_formula_together() -> None:
    numbers = [[z, *[8] * k] for z in range(20, 80) for k in (1, 2)] * 2
    ids = [str(n) for n in range(len(numbers))]
    split = splits.by_hash(store_of(ids, numbers), np.ones(len(ids)), group="composition", **HASHED)
    formulas = [{tuple(numbers[row]) for row in rows} for _, rows in split.items()]
    assert sum(map(len, formulas)) == len(set.union(*formulas)) == 120
    with pytest.raises(ConfigError, match=r"split\.group='colour'"):
        splits.by_hash(store_of(ids, numbers), np.ones(len(ids)), group="colour", **HASHED)


def test_by_prototype_keeps_a_structure_type_together(demo: Store) -> None:
    some = store.taken(demo, np.arange(400))
    split = splits.by_hash(some, np.ones(400), group="prototype", **HASHED)
    kinds = [{fingerprint.structure_type(some.crystal(int(row))) for row in rows} for _, rows in split.items()]
    assert sum(map(len, kinds)) == len(set.union(*kinds)) > 20


def test_a_structure_type_does_not_depend_on_the_elements() -> None:
    metal = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    rock_salt = np.concatenate([metal, metal + 0.5])
    fcc = 5.6 * np.eye(3)
    one = Crystal(fcc, rock_salt, np.array([11] * 4 + [17] * 4))
    two = Crystal(fcc * 1.2, rock_salt, np.array([20] * 4 + [8] * 4))
    other = Crystal(4 * np.eye(3), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.array([55, 17]))
    assert fingerprint.structure_type(one) == fingerprint.structure_type(two) != fingerprint.structure_type(other)


def of_several(demo: Store, kept: dict[str, list[int]], strain: float = 0.0) -> Store:
    """The demo rows in ``kept`` as data sets of these names, each further one strained along c."""
    records = []
    for n, (name, rows) in enumerate(kept.items()):
        stretch = np.array([[1.0], [1.0], [1.0 + n * strain]])
        for row in rows:
            crystal, own = demo.crystal(row), demo.ids[row]
            other = crystal._replace(lattice=crystal.lattice * stretch)
            records.append(Record(f"{name}:{own}", other, {"e_form": 0.0}, {"own_id": own, "functional": name}))
    return store.gather(records, {})


HOW = {
    "random": lambda some, labels, keys: splits.random(some, labels, draw=None, **keys),
    "random, another draw": lambda some, labels, keys: splits.random(some, labels, draw=7, **keys),
    **{
        group: lambda some, labels, keys, group=group: splits.by_hash(some, labels, group=group, **keys)
        for group in ("id", "composition", "prototype")
    },
}


@pytest.mark.parametrize("how", HOW)
def test_a_crystal_of_several_functionals_is_in_one_part(how: str, demo: Store) -> None:
    some = of_several(
        demo, {"a": list(range(150)), "b": list(range(40, 190)), "c": list(range(0, 190, 2))}, strain=0.02
    )
    labels = np.where(np.arange(len(some)) % 5 == 1, np.nan, 1.0)
    names = np.array(list(origin.crystals(some)))
    keys: dict[str, Any] = {"seed": 2, "val": 0.2, "test": 0.2}
    for train_size in (None, 61):
        split = HOW[how](some, labels, keys | {"train_size": train_size})
        held = [set(names[rows]) for _, rows in split.items()]
        assert sum(map(len, held)) == len(set.union(*held))
        assert min(map(len, held)) > 5
        rows = np.concatenate(split)
        assert len(np.unique(rows)) == len(rows)
        assert np.isfinite(labels[rows]).all()
    whole = HOW[how](some, labels, keys | {"train_size": None})
    assert sorted(np.concatenate(whole)) == np.flatnonzero(np.isfinite(labels)).tolist()


def test_rows_of_one_crystal_stand_together_in_their_order(demo: Store) -> None:
    some = of_several(demo, {name: list(range(120)) for name in "abc"})
    names = np.array(list(origin.crystals(some)))
    for rows in splits.random(some, np.ones(360), seed=0, draw=None, val=0.2, test=0.2, train_size=None):
        together = [list(of) for _, of in groupby(rows.tolist(), lambda row: names[row])]
        assert [sorted(of) for of in together] == together
        assert [len(of) for of in together] == [3] * (len(rows) // 3)


def test_a_hash_puts_a_crystal_where_its_own_data_set_does(demo: Store) -> None:
    alone = store.taken(demo, np.arange(100))
    both = origin.marked(alone, Mark("x", "PBE"))
    parts = [splits.by_hash(some, np.ones(100), group="id", **HASHED) for some in (alone, both)]
    assert [p.tolist() for p in parts[0]] == [p.tolist() for p in parts[1]]


@given(st.integers(20, 300), st.integers(0, 99))
def test_random_permutes_the_rows_of_one_data_set(n: int, seed: int) -> None:
    rows = np.random.default_rng(seed).permutation(n)
    n_test, n_val = round(0.2 * n), round(0.1 * n)
    found = splits.random(
        store_of([str(k) for k in range(n)]), np.ones(n), seed=seed, draw=None, val=0.1, test=0.2, train_size=None
    )
    assert found.test.tolist() == rows[:n_test].tolist()
    assert found.val.tolist() == rows[n_test : n_test + n_val].tolist()
    assert found.train.tolist() == rows[n_test + n_val :].tolist()


def test_formulas_are_split_by_composition_but_not_by_prototype() -> None:
    texts = [f"{metal}{n}O{n}" for metal in ("Li", "Na", "K", "Rb", "Cs", "Mg", "Ca") for n in (1, 2, 0.5)]
    records = store.gather([Record(f"r{n}", composition(text, ""), {}) for n, text in enumerate(texts)], {})
    keys = {"seed": 0, "val": 0.2, "test": 0.3, "train_size": None}
    found = splits.by_hash(records, np.zeros(len(texts)), group="composition", **keys)
    for name, rows in found.items():
        others = {row // 3 for other, them in found.items() if other != name for row in them.tolist()}
        assert not others & {row // 3 for row in rows.tolist()}
    with pytest.raises(DataError, match="split=composition"):
        splits.by_hash(records, np.zeros(len(texts)), group="prototype", **keys)


@given(st.integers(40, 300), st.sampled_from([(0.1, 0.1), (0.2, 0.3), (0.05, 0.5)]), st.data())
def test_validation_rows_are_a_share_of_the_training_rows(
    n: int, shares: tuple[float, float], data: st.DataObject
) -> None:
    val, test = shares
    records, labels = store_of([str(k) for k in range(n)]), np.ones(n)
    keys = {"seed": 1, "val": val, "test": test}
    whole = splits.random(records, labels, draw=None, train_size=None, **keys)
    size = data.draw(st.integers(1, len(whole.train)))
    expected = max(round(size * val / (1 - val - test)), 1)
    for small in (
        splits.random(records, labels, draw=None, train_size=size, **keys),
        splits.random(records, labels, draw=5, train_size=size, **keys),
    ):
        assert len(small.val) == min(expected, len(whole.val))
    none = splits.random(records, labels, draw=None, train_size=size, **keys | {"val": 0})
    assert len(none.val) == 0


@pytest.mark.parametrize("size", [1, 7, 40, 100])
def test_validation_rows_of_a_hash_are_a_share_too(size: int) -> None:
    records, labels = store_of([str(k) for k in range(300)]), np.ones(300)
    small = splits.by_hash(records, labels, group="id", **HASHED | {"train_size": size})
    assert len(small.train) == size
    assert len(small.val) == max(round(size * 0.2 / 0.6), 1)


def test_a_hash_without_validation_rows_is_no_fault() -> None:
    found = splits.by_hash(store_of([str(k) for k in range(99)]), np.ones(99), group="id", **HASHED | {"val": 0})
    assert [len(rows) > 0 for rows in found] == [True, False, True]
    with pytest.raises(DataError, match="The val split is empty"):
        splits.by_hash(store_of([str(k) for k in range(99)]), np.ones(99), group="id", **HASHED | {"val": 1e-9})


def test_a_share_of_one_and_above_is_a_number_of_rows() -> None:
    records, labels = store_of([str(k) for k in range(30)]), np.ones(30)
    keys = {"seed": 0, "draw": None, "val": 0.1, "train_size": None}
    assert [len(p) for p in splits.random(records, labels, test=1, **keys)] == [26, 3, 1]
    with pytest.raises(ConfigError, match=r"test=1\.0 must be fractions"):
        splits.random(records, labels, test=45, **keys)


def test_a_draw_comes_again_and_another_seed_or_draw_does_not() -> None:
    records, labels = store_of([str(k) for k in range(60)]), np.ones(60)
    keys = {"val": 0.1, "test": 0.2, "train_size": None}
    found = {
        (seed, draw): splits.random(records, labels, seed=seed, draw=draw, **keys)
        for seed in (0, 1)
        for draw in (None, 0, 1)
    }
    for (seed, draw), parts in found.items():
        again = splits.random(records, labels, seed=seed, draw=draw, **keys)
        assert [p.tolist() for p in again] == [p.tolist() for p in parts]
        assert parts.test.tolist() == found[seed, None].test.tolist()
    assert len({tuple(parts.train.tolist()) for parts in found.values()}) == len(found)


def test_an_empty_part_is_told_with_the_counts(tmp_path: Path) -> None:
    file = tmp_path / "split.csv"
    file.write_text("id,split\na,test\nb,train\nc,val\n")
    with pytest.raises(
        DataError, match=r"train split is empty \(4 records, 2 of them labelled\); add rows to split\.file="
    ):
        splits.by_ids(store_of(["a", "b", "c", "d"]), np.array([1.0, np.nan, 1.0, 1.0]), file=str(file))
    parts = splits.by_ids(store_of(["a", "b", "c", "d"]), np.ones(4), file=str(file))
    assert [p.dtype for p in parts] == [np.int64] * 3
    with pytest.raises(DataError, match=r"The test split is empty \(5 records, 2 of them labelled\); add rows\."):
        splits.checked(
            Split(np.array([0]), np.array([1]), np.array([], dtype=int)), 5, needs_val=False, remedy="add rows"
        )
    nothing = np.array([], dtype=int)
    assert splits.checked(Split(np.array([0]), nothing, np.array([1])), 2, needs_val=False, remedy="").val is nothing


def test_training_sizes_go_from_one_to_all() -> None:
    parts = Split(np.arange(9), np.arange(9, 12), np.arange(12, 15))
    assert splits.shortened(parts, 9, 0.3).train.tolist() == list(range(9))
    assert splits.shortened(parts, 1, 0.3).train.tolist() == [0]
    for size in (0, 10):
        with pytest.raises(ConfigError, match="there are 1 to 9 training rows"):
            splits.shortened(parts, size, 0.3)


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.2), (1.0, 0.2), (0.2, 0.0), (0.5, 0.5), (0.2, -0.1)])
def test_shares_that_leave_nothing_are_refused(val: float, test: float) -> None:
    with pytest.raises(ConfigError, match=rf"val={val} and test={test} must be fractions"):
        splits.random(store_of(["a"] * 9), np.ones(9), seed=0, draw=None, val=val, test=test, train_size=None)
    with pytest.raises(ConfigError, match=rf"val={val} and test={test} must be fractions"):
        splits.by_hash(store_of(["a"] * 9), np.ones(9), seed=0, group="id", val=val, test=test, train_size=None)


def test_the_hash_of_a_row_is_the_published_one() -> None:
    """The place of an id is fixed for good: another hash would move rows between the parts of a finished study."""
    import hashlib

    def place(word: str, salt: str) -> float:
        mixed = hashlib.blake2b(salt.encode(), digest_size=16).digest()
        return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8, salt=mixed).digest(), "big") / 2**64

    ids = [f"mp-{n}" for n in range(80)]
    found = splits.by_hash(store_of(ids), np.ones(80), group="id", **HASHED)
    places = {name: place(name, "3:order") for name in ids}
    in_order = sorted(ids, key=places.__getitem__)
    assert [ids[row] for row in found.test] == [name for name in in_order if places[name] < 0.2]
    assert [ids[row] for row in found.val] == [name for name in in_order if 0.2 <= places[name] < 0.4]
    assert [ids[row] for row in found.train] == [name for name in in_order if places[name] >= 0.4]
    numbers = [[z] for z in range(20, 100)]
    by_formula = splits.by_hash(store_of(ids, numbers), np.ones(80), group="composition", **HASHED)
    kinds = {name: place(formula(np.array(z), None), "3:composition") for name, z in zip(ids, numbers, strict=True)}
    assert {ids[row] for row in by_formula.test} == {name for name in ids if kinds[name] < 0.2}
    assert [ids[row] for row in by_formula.train] == [name for name in in_order if kinds[name] >= 0.4]


@given(
    st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.0, 2.0]), min_size=30, max_size=90),
    st.integers(0, 99),
    st.sampled_from([None, 0, 1]),
    st.integers(1, 20),
)
def test_every_part_has_its_share_of_each_class(classes: list[float], seed: int, draw: int | None, size: int) -> None:
    """So have the first training rows, whatever their number; the test rows depend on neither."""
    labels = np.array(classes)
    labels[::7] = np.nan
    whole = store_of([str(k) for k in range(len(labels))])
    known = {"define": '{"phase": {"classes": ["a", "b", "c"]}}', splits.STRATA: "phase"}
    whole = Store(*[getattr(whole, key) for key in ("ids", "first_site", "numbers", "frac", "lattice")],
                  {"phase": labels}, {}, known)  # fmt: skip
    keys: dict[str, Any] = {"draw": draw, "val": 0.2, "test": 0.3}
    found = splits.random(whole, labels, seed=seed, train_size=None, **keys)
    short = splits.random(whole, labels, seed=seed, train_size=size, **keys)
    there = labels[np.isfinite(labels)]
    assert sorted(np.concatenate(found)) == np.flatnonzero(np.isfinite(labels)).tolist()
    assert short.test.tolist() == found.test.tolist()
    assert short.train.tolist() == found.train[:size].tolist()
    for rows in (found.test, found.val, found.train, short.train):
        for one in np.unique(there):
            assert abs((labels[rows] == one).sum() - len(rows) * (there == one).mean()) <= 2
    rare = [one for one in np.unique(there) if (there == one).sum() == 1]
    assert all((labels[np.concatenate([found.train, found.val])] == one).any() for one in rare)


@pytest.mark.parametrize(
    "content", [b"id,split\na\xff,train\n", b'id,split\n"a,train\n', b"name,split\na,train\n", b"id,split\na\n"]
)
def test_a_split_file_that_is_no_table_is_said(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "split.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"split\.csv: needs columns id and split"):
        splits.by_ids(store_of(["a", "b"]), np.ones(2), file=str(file))
