"""The audit over several data sets: what is at hand is compared, and nothing is cleared that was not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import QUOTIENT

from tltool.data import store
from tltool.data.dataset import Dataset
from tltool.data.formats.formulas import composition
from tltool.data.graph import crystal_graphs
from tltool.data.overlap import crystal_index, fingerprint
from tltool.data.record import Crystal, Record
from tltool.evaluation import overlap_audit, source_crystals
from tltool.evaluation.source_crystals import Held

ALL = np.arange(1)


def tetragonal(ratio: float) -> Crystal:
    """One copper atom in a cell of this c/a: one formula and prototype, but another structure for each ratio."""
    return Crystal(np.diag([3.0, 3.0, 3.0 * ratio]), np.zeros((1, 3)), np.array([29]))


def data_set(name: str, *ratios: float) -> Dataset:
    crystals = [tetragonal(ratio) for ratio in ratios]
    records = [Record(f"{name}{n}", crystal, {"e_form": 0.0}) for n, crystal in enumerate(crystals)]
    return Dataset(store.gather(records, {"name": name}), crystal_graphs.build(crystals, QUOTIENT))


LONG, SHORT, TARGET = data_set("long", 2.5), data_set("short", 1.3), data_set("target", 1.32)
SEEN = crystal_index.merged([overlap_audit.index(LONG, ALL, 1), overlap_audit.index(SHORT, ALL, 1)])


def test_the_example_has_one_prototype() -> None:
    assert len({fingerprint.fingerprint(tetragonal(ratio)) for ratio in (1.3, 1.32, 2.5)}) == 1


@pytest.mark.parametrize("turn", [1, -1])
def test_one_source_does_not_clear_what_another_holds(turn: int) -> None:
    at_hand = [Held("long", LONG, None, True), Held("short", SHORT, None, True)][::turn]
    found = overlap_audit.audit(SEEN, TARGET, ALL, 1, at_hand)
    assert (found.how, found.source, found.source_id) == (("structure",), ("short",), ("short0",))
    only_long = overlap_audit.index(LONG, ALL, 1)
    assert overlap_audit.audit(only_long, TARGET, ALL, 1, at_hand[:1] if turn == 1 else at_hand[1:]).how == ("",)


def test_nothing_is_cleared_while_a_source_is_gone() -> None:
    mine = Held("long", LONG, None, True)
    assert overlap_audit.audit(SEEN, TARGET, ALL, 1, [mine]).how == ("prototype",)
    # Two data sets of one name, one of them gone.
    assert overlap_audit.audit(overlap_audit.index(LONG, ALL, 1), TARGET, ALL, 1, [mine]).how == ("",)
    assert overlap_audit.audit(
        overlap_audit.index(LONG, ALL, 1), TARGET, ALL, 1, [mine._replace(complete=False)]
    ).how == ("prototype",)


def test_more_pairs_than_are_compared_clear_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    many = data_set("long", 2.5, 2.6, 2.7)
    seen, mine = overlap_audit.index(many, np.arange(3), 1), Held("long", many, None, True)
    assert overlap_audit.audit(seen, TARGET, ALL, 1, [mine]).how == ("",)
    monkeypatch.setattr(source_crystals, "MOST_PAIRS", 0)
    assert overlap_audit.audit(seen, TARGET, ALL, 1, [mine]).how == ("prototype",)


def test_rows_that_were_not_trained_on_do_not_count() -> None:
    both = data_set("both", 1.3, 2.5)
    seen = overlap_audit.index(both, np.array([1]), 1)
    mine = Held("both", both, np.array([1]), True)
    assert overlap_audit.audit(seen, TARGET, ALL, 1, [mine]).how == ("",)
    # Which rows they were, nobody knows of a source; then the likely one counts.
    assert overlap_audit.audit(seen, TARGET, ALL, 1, [mine._replace(rows=None)]).how == ("structure",)


def test_of_formulas_the_formula_decides() -> None:
    made = [Record(text, composition(text, ""), {"e_form": 0.0}) for text in ("Cu0.5", "CuNi", "Ni")]
    store_of_formulas = store.gather(made, {"name": "mine"})
    crystals = [store_of_formulas.crystal(row) for row in range(3)]
    formulas, rows = Dataset(store_of_formulas, crystal_graphs.build(crystals, QUOTIENT)), np.arange(3)
    found = overlap_audit.audit(SEEN, formulas, rows, 2, [Held("long", LONG, None, True)])
    assert found.how == ("formula", "", "")
    assert found.source[0] in ("long", "short")
    assert "(1 same formula, no structure to compare)" in overlap_audit.told(found, "mine")
    # The other way round: crystals of a formula that is to be tested on are not used for pretraining.
    assert overlap_audit.rows_to_drop(LONG, formulas, rows, 2).tolist() == [0]
    assert overlap_audit.rows_to_drop(LONG, formulas, rows[1:], 2).tolist() == []
    seen = overlap_audit.index(formulas, rows, 2)
    again = overlap_audit.audit(seen, formulas, rows[:2], 2, [])
    assert again.how == ("formula", "formula")
    # A crystal is not told from its formula.
    assert overlap_audit.audit(seen, TARGET, ALL, 1, []).how == ("",)


def test_many_fingerprints_are_announced_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, said = replace(LONG, folder=tmp_path), list[str]()
    overlap_audit.prints(LONG, 1, said.append)
    assert not said
    monkeypatch.setattr(overlap_audit, "_MANY", 1)
    monkeypatch.setattr(overlap_audit, "_EVERY", 0.0)
    overlap_audit.prints(kept, 1, said.append)
    assert "fingerprints of the 1 crystals of long" in said[0]
    assert "overlap=none does without" in said[0]
    assert said[1] == "0 of 1 fingerprints are found."
    overlap_audit.prints(kept, 1, said.append)
    assert len(said) == 2, "they are in the cache"


def distorted(crystal: Crystal) -> Crystal:
    """Return a copy that lost its symmetry."""
    return crystal._replace(lattice=crystal.lattice @ (np.eye(3) + 0.02 * np.eye(3, k=1)))


def test_a_distorted_copy_is_found_where_the_records_are_at_hand_and_unknown_where_not() -> None:
    copy = distorted(tetragonal(1.3))
    other = tetragonal(1.0)._replace(numbers=np.array([47]))
    records = [
        Record(str(n), crystal, {"e_form": 0.0}) for n, crystal in enumerate([copy, distorted(tetragonal(1.9)), other])
    ]
    target = Dataset(
        store.gather(records, {"name": "mine"}), crystal_graphs.build([r.crystal for r in records], QUOTIENT)
    )
    rows, seen = np.arange(3), overlap_audit.index(SHORT, ALL, 1)
    assert fingerprint.fingerprint(copy) not in seen.fingerprint
    blind = overlap_audit.audit(seen, target, rows, 1, [])
    assert (blind.how, blind.unknown.tolist()) == (("", "", ""), [True, True, False])
    assert overlap_audit.counted(blind) == {"unknown": 2, "unseen": 1}
    assert overlap_audit.told(blind, "mine") == (
        "None known of the 3 test crystals of mine is in the training data of the source. For 2 more it is not known: "
        "the training data contain their formulas, but some crystals of these formulas could not be compared."
    )
    found = overlap_audit.audit(seen, target, rows, 1, [Held("short", SHORT, None, True)])
    assert (found.how, found.unknown.tolist()) == (("structure", "", ""), [False] * 3)
    assert found.source_id[0] == "short0"
    assert {kind: some.tolist() for kind, some in overlap_audit.kinds(found).items()} == {
        "seen": [True, False, False],
        "unseen": [False, True, True],
    }
    # The same comparison decides what leaves a source.
    assert overlap_audit.rows_to_drop(target, SHORT, ALL, 1).tolist() == [0]


def test_what_is_over_the_limit_is_said_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Record("1", distorted(tetragonal(1.3)), {"e_form": 0.0})
    source = Dataset(store.gather([copy], {"name": "mine"}), crystal_graphs.build([copy.crystal], QUOTIENT))
    said: list[str] = []
    monkeypatch.setattr(source_crystals, "MOST_PAIRS", 0)
    assert overlap_audit.rows_to_drop(source, SHORT, ALL, 1, said.append).tolist() == []
    assert said == [
        "1 source crystals with a formula of the target are too many or too large to compare; they stay in the source."
    ]
    monkeypatch.setattr(source_crystals, "MOST_PAIRS", 1)
    monkeypatch.setattr(source_crystals, "MOST_LISTED", 0)
    assert overlap_audit.audit(
        overlap_audit.index(SHORT, ALL, 1), source, ALL, 1, [Held("short", SHORT, None, True)]
    ).unknown.all()
