"""The audit over several data sets: what is at hand is compared, and nothing is cleared that was not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import QUOTIENT

from tltool.data import graphs, overlap, prototype, store
from tltool.data.dataset import Dataset
from tltool.data.formulas import composition
from tltool.data.record import Crystal, Record
from tltool.training import audit
from tltool.training.audit import Held

ALL = np.arange(1)


def tetragonal(ratio: float) -> Crystal:
    """One copper atom in a cell of this c/a: one formula and prototype, but another structure for each ratio."""
    return Crystal(np.diag([3.0, 3.0, 3.0 * ratio]), np.zeros((1, 3)), np.array([29]))


def data_set(name: str, *ratios: float) -> Dataset:
    crystals = [tetragonal(ratio) for ratio in ratios]
    records = [Record(f"{name}{n}", crystal, {"e_form": 0.0}) for n, crystal in enumerate(crystals)]
    return Dataset(store.gather(records, {"name": name}), graphs.build(crystals, QUOTIENT))


LONG, SHORT, TARGET = data_set("long", 2.5), data_set("short", 1.3), data_set("target", 1.32)
SEEN = overlap.merged([audit.index(LONG, ALL, 1), audit.index(SHORT, ALL, 1)])


def test_the_example_has_one_prototype() -> None:
    assert len({prototype.fingerprint(tetragonal(ratio)) for ratio in (1.3, 1.32, 2.5)}) == 1


@pytest.mark.parametrize("turn", [1, -1])
def test_one_source_does_not_clear_what_another_holds(turn: int) -> None:
    held = [Held("long", LONG, None, True), Held("short", SHORT, None, True)][::turn]
    found = audit.audit(SEEN, TARGET, ALL, 1, held)
    assert (found.how, found.source, found.source_id) == (("structure",), ("short",), ("short0",))
    only_long = audit.index(LONG, ALL, 1)
    assert audit.audit(only_long, TARGET, ALL, 1, held[:1] if turn == 1 else held[1:]).how == ("",)


def test_nothing_is_cleared_while_a_source_is_gone() -> None:
    held = Held("long", LONG, None, True)
    assert audit.audit(SEEN, TARGET, ALL, 1, [held]).how == ("prototype",)
    # Two data sets of one name, one of them gone.
    assert audit.audit(audit.index(LONG, ALL, 1), TARGET, ALL, 1, [held]).how == ("",)
    assert audit.audit(audit.index(LONG, ALL, 1), TARGET, ALL, 1, [held._replace(complete=False)]).how == ("prototype",)


def test_more_pairs_than_are_compared_clear_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    many = data_set("long", 2.5, 2.6, 2.7)
    seen, held = audit.index(many, np.arange(3), 1), Held("long", many, None, True)
    assert audit.audit(seen, TARGET, ALL, 1, [held]).how == ("",)
    monkeypatch.setattr(audit, "MOST_PAIRS", 2)
    assert audit.audit(seen, TARGET, ALL, 1, [held]).how == ("prototype",)


def test_rows_that_were_not_trained_on_do_not_count() -> None:
    both = data_set("both", 1.3, 2.5)
    seen = audit.index(both, np.array([1]), 1)
    held = Held("both", both, np.array([1]), True)
    assert audit.audit(seen, TARGET, ALL, 1, [held]).how == ("",)
    # Which rows they were, nobody knows of a source; then the likely one counts.
    assert audit.audit(seen, TARGET, ALL, 1, [held._replace(rows=None)]).how == ("structure",)


def test_of_formulas_the_formula_decides() -> None:
    made = [Record(text, composition(text, ""), {"e_form": 0.0}) for text in ("Cu0.5", "CuNi", "Ni")]
    store_of_formulas = store.gather(made, {"name": "mine"})
    crystals = [store_of_formulas.crystal(row) for row in range(3)]
    formulas, rows = Dataset(store_of_formulas, graphs.build(crystals, QUOTIENT)), np.arange(3)
    found = audit.audit(SEEN, formulas, rows, 2, [Held("long", LONG, None, True)])
    assert found.how == ("formula", "", "")
    assert found.source[0] in ("long", "short")
    assert "(1 same formula, all that is known of them)" in audit.told(found, "mine")
    # The other way round: crystals of a formula that is to be tested on are left out of pretraining.
    assert audit.rows_to_drop(LONG, formulas, rows, 2).tolist() == [0]
    assert audit.rows_to_drop(LONG, formulas, rows[1:], 2).tolist() == []
    seen = audit.index(formulas, rows, 2)
    again = audit.audit(seen, formulas, rows[:2], 2, [])
    assert again.how == ("formula", "formula")
    # A crystal is not told from its formula.
    assert audit.audit(seen, TARGET, ALL, 1, []).how == ("",)


def test_a_word_is_due_before_many_fingerprints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = replace(LONG, folder=tmp_path)
    assert not audit.awaited(kept)
    monkeypatch.setattr(audit, "_MANY", 1)
    assert "overlap=none does without" in audit.awaited(kept)
    audit.prints(kept, 1)
    assert not audit.awaited(kept), "they are in the cache"
