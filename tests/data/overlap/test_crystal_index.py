"""The audit: by id where the id means something, then by prototype; what structures say settles it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tltool.data import store
from tltool.data.dataset import BUNDLED
from tltool.data.overlap import crystal_index, structure_match
from tltool.data.overlap.crystal_index import Index
from tltool.data.overlap.fingerprint import PROTOTYPE_BITS, UInts, in_order
from tltool.data.store import Store
from tltool.errors import CheckpointError, DataError

CRYSTALS = st.lists(st.tuples(st.sampled_from(["mp-1", "mp-2", "x"]), st.integers(0, 3), st.integers(0, 2)), max_size=8)


def prints(*pairs: tuple[int, int]) -> UInts:
    """Return fingerprints of (formula, prototype)."""
    return np.array([formula << PROTOTYPE_BITS | prototype for formula, prototype in pairs], np.uint64)


def made(crystals: list[tuple[str, int, int]], source: str = "set") -> Index:
    return crystal_index.index([c[0] for c in crystals], None, prints(*(c[1:] for c in crystals)), source)


def equal(first: Index, second: Index) -> bool:
    one, two = crystal_index.arrays(first), crystal_index.arrays(second)
    return all(np.array_equal(one[name], two[name]) for name in one)


def test_each_way_to_match() -> None:
    index = made([("mp-1", 7, 1), ("mp-2", 7, 2), ("1", 8, 1), ("agm000000003", 9, 1)])
    found = crystal_index.audit(
        index,
        ["mp-1", "mp-5", "1", "mp-6", "mp-7", "mp-8"],
        None,
        prints((6, 6), (7, 2), (8, 1), (9, 5), (9, 1), (5, 1)),
    )
    assert found.how == ("id", "prototype", "prototype", "", "prototype", "")
    assert found.source_id == ("mp-1", "mp-2", "", "", "agm000000003", "")
    assert found.source == ("set", "set", "set", "", "set", "")
    assert found.formula.tolist() == [False, True, True, True, True, False]
    assert found.unknown.tolist() == [False, False, False, True, False, False]


def test_ids_of_folders_do_not_match_each_other() -> None:
    assert crystal_index.audit(made([("1", 7, 1)]), ["1"], None, prints((8, 1))).how == ("",)


def test_a_mat_id_matches_if_the_formula_is_the_same() -> None:
    index = crystal_index.index(["1", "2", "3"], ["a", "b", "a"], prints((6, 1), (8, 1), (7, 1)), "set")
    found = crystal_index.audit(index, ["8", "9"], ["a", "b"], prints((7, 2), (9, 1)))
    assert found.how == ("id", "")
    assert found.source_id == ("a", "")


def test_an_unknown_prototype_matches_nothing_but_says_that_the_formula_is_there() -> None:
    found = crystal_index.audit(made([("x", 7, 0)]), ["y"], None, prints((7, 0)))
    assert (found.how, found.formula.tolist(), found.unknown.tolist()) == (("",), [True], [True])


def test_nothing_in_and_nothing_asked() -> None:
    empty = crystal_index.merged([])
    assert len(empty) == 0
    found = crystal_index.audit(empty, ["mp-1"], None, prints((7, 1)))
    assert (found.how, found.formula.tolist()) == (("",), [False])
    nothing = crystal_index.audit(made([("mp-1", 7, 1)]), [], None, prints())
    assert nothing.how == ()
    none = np.empty(0, dtype=bool)
    assert crystal_index.settled(nothing, {}, none, none).how == ()
    assert equal(crystal_index.from_arrays(crystal_index.arrays(empty), "file"), empty)


@given(CRYSTALS, CRYSTALS)
def test_every_crystal_of_each_part_is_found_in_the_merged_index(
    first: list[tuple[str, int, int]], second: list[tuple[str, int, int]]
) -> None:
    one, two = made(first, "one"), made(second, "two")
    both = crystal_index.merged([one, two])
    assert both.sources == ("one", "two")
    for crystal in first + second:
        how = crystal_index.audit(both, [crystal[0]], None, prints(crystal[1:])).how[0]
        assert how == ("id" if crystal[0] != "x" else "prototype" if crystal[2] else "")
    assert equal(crystal_index.merged([both, one, two]), both)
    assert equal(crystal_index.from_arrays(crystal_index.arrays(both), "file"), both)


@given(CRYSTALS)
def test_the_order_and_repeats_of_crystals_do_not_matter(crystals: list[tuple[str, int, int]]) -> None:
    assert equal(made(crystals), made(crystals[::-1] + crystals))


def test_the_source_of_a_match_is_named() -> None:
    both = crystal_index.merged([made([("mp-1", 7, 1)], "one"), made([("mp-2", 8, 1)], "two")])
    assert crystal_index.audit(both, ["mp-1", "mp-2"], None, prints((7, 1), (8, 1))).source == ("one", "two")


def test_17_bytes_a_crystal() -> None:
    index = made([(f"mp-{n}", n, 1) for n in range(1000)])
    assert sum(array.nbytes for array in crystal_index.arrays(index).values()) < 17.1 * len(index)


def test_too_many_data_sets_are_refused() -> None:
    with pytest.raises(DataError, match="256 data sets, at most 255"):
        crystal_index.merged([made([("mp-1", 7, 1)], str(n)) for n in range(256)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, "lacks id"),
        ({"origin": np.zeros(2)}, "lacks origin"),
        ({"recipe": np.array([99])}, r"recipe \[99\]"),
        ({"origin": np.array([0, 5], np.uint8)}, "damaged"),
        ({"id": np.zeros(1, np.uint64)}, "damaged"),
        ({"fingerprint": prints((8, 1), (7, 1))}, "damaged"),
    ],
)
def test_a_file_of_no_use_is_named(change: dict[str, np.ndarray | None], message: str) -> None:
    arrays = crystal_index.arrays(made([("mp-1", 7, 1), ("mp-2", 8, 1)])) | change
    with pytest.raises(CheckpointError, match=f"file: .*{message}"):
        crystal_index.from_arrays({name: array for name, array in arrays.items() if array is not None}, "file")


def test_pairs_are_all_of_one_fingerprint_or_formula() -> None:
    source, target = prints((7, 1), (8, 1), (7, 2), (7, 1)), prints((7, 1), (9, 1), (8, 3))
    rows, source_rows = crystal_index.pairs(source, target, formula=False)
    assert list(zip(rows.tolist(), source_rows.tolist(), strict=True)) == [(0, 0), (0, 3)]
    rows, source_rows = crystal_index.pairs(source, target, formula=True)
    assert list(zip(rows.tolist(), source_rows.tolist(), strict=True)) == [(0, 0), (0, 2), (0, 3), (2, 1)]


def test_structures_settle_what_the_id_has_not() -> None:
    index = made([("mp-1", 7, 1), ("mp-2", 8, 1)])
    asked = prints((7, 1), (8, 1), (8, 1), (8, 1), (8, 1), (7, 2), (7, 2), (7, 2), (6, 1))
    found = crystal_index.audit(index, ["mp-1", *"abcdefgh"], None, asked)
    assert found.how == ("id", *["prototype"] * 4, *[""] * 4)
    assert found.unknown.tolist() == [False] * 5 + [True] * 3 + [False]
    same = {0: ("set", "s"), 1: ("set", "t"), 5: ("set", "v")}
    no_prototype = np.array([True, True, True, True, False, True, True, False, False])
    no_formula = np.array([True, True, True, False, False, True, True, False, False])
    settled = crystal_index.settled(found, same, no_prototype, no_formula)
    assert settled.how == ("id", "structure", "", "", "prototype", "structure", "", "", "")
    assert settled.source_id == ("mp-1", "t", "", "", "mp-2", "v", "", "", "")
    assert settled.source == ("set", "set", "", "", "set", "set", "", "", "")
    assert settled.unknown.tolist() == [False, False, False, True, False, False, False, True, False]


def test_who_holds_a_formula_or_a_prototype() -> None:
    both = crystal_index.merged([made([("1", 7, 1)], "one"), made([("2", 7, 2), ("3", 8, 1)], "two")])
    asked = prints((7, 1), (7, 3), (9, 1))
    assert crystal_index.holders(both, asked, formula=True) == [{"one", "two"}, {"one", "two"}, set()]
    assert crystal_index.holders(both, asked, formula=False) == [{"one"}, set(), set()]
    same = crystal_index.of_one_prototype(prints((7, 1), (7, 0), (7, 1)), prints((7, 1), (7, 0), (7, 2)))
    assert same.tolist() == [True, False, False]


@pytest.fixture(scope="module")
def demo() -> tuple[Store, UInts]:
    data = store.load(BUNDLED / "demo.h5")
    return data, in_order(data.crystal(row) for row in range(len(data)))


@pytest.mark.parametrize(
    ("name", "by_id", "by_prototype", "same"),
    [("elastic", 214, 2, 2), ("dielectric", 232, 1, 1), ("piezoelectric", 136, 9, 1)],
)
def test_bundled_targets_against_the_demo_set(
    demo: tuple[Store, UInts], name: str, by_id: int, by_prototype: int, same: int
) -> None:
    source, seen = demo
    target = store.load(Path(BUNDLED) / f"{name}.h5")
    asked = in_order(target.crystal(row) for row in range(len(target)))
    found = crystal_index.audit(crystal_index.index(source.ids, None, seen, "demo"), target.ids, None, asked)
    assert (found.how.count("id"), found.how.count("prototype")) == (by_id, by_prototype)
    assert all(
        theirs == id for id, how, theirs in zip(target.ids, found.how, found.source_id, strict=True) if how == "id"
    )

    # With the ids taken away, the prototype finds nearly all of them.
    unnamed = crystal_index.audit(crystal_index.index(source.ids, None, seen, "demo"), [""] * len(target), None, asked)
    lost = sum(a == "id" and b == "" for a, b in zip(found.how, unnamed.how, strict=True))
    assert lost <= 1

    rows = np.array([row for row, how in enumerate(found.how) if how == "prototype"])
    chosen, source_rows = crystal_index.pairs(seen, asked[rows], formula=False)
    crystals = [source.crystal(row) for row in range(len(source))]
    targets = [target.crystal(row) for row in range(len(target))]
    alike = np.ones(len(chosen), dtype=bool)
    result = structure_match.compared(targets, crystals, rows[chosen], source_rows, alike, 100)
    assert len(set(rows[chosen[result.same]].tolist())) == same
