"""The estimate of a study's time rests on what like cells took."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tltool.study.plan import Kind
from tltool.study.timing import Span, estimate, shares, told

SPANS = st.lists(
    st.tuples(st.integers(0, 100), st.integers(0, 100)).map(lambda pair: Span(float(min(pair)), float(max(pair)))),
    max_size=8,
)


@given(SPANS)
def test_the_shares_add_up_to_the_time_with_work(spans: list[Span]) -> None:
    seconds = {t for span in spans for t in range(int(span.began), int(span.ended))}
    found = shares(spans)
    assert sum(found) == pytest.approx(len(seconds))
    assert all(0 <= share <= span.ended - span.began + 1e-9 for share, span in zip(found, spans, strict=True))


def test_cells_at_the_same_time_share_it() -> None:
    assert shares([Span(0, 10), Span(0, 10), Span(20, 25)]) == [5, 5, 5]


def guess(kind: Kind, rows: int) -> float:
    return rows + 7.0


def kind(mode: str = "tuned", size: int | None = 100, target: str = "gap", source: str = "pbe") -> Kind:
    return Kind(target, source, mode, size, "random")


def test_measured_kinds_take_their_time_and_larger_ones_more() -> None:
    done = {kind(size=50): [2.0, 4.0], kind(size=100): [6.0]}
    assert estimate([kind(size=50)] * 3, done, guess) == (9.0, 3, 3)
    assert estimate([kind(size=200)], done, guess) == (12.0, 1, 1)
    assert estimate([kind(size=25, source="other")], done, guess) == (3.0, 1, 1)
    assert estimate([kind(size=50)._replace(split="prototype")], done, guess) == (3.0, 1, 1)


def test_another_target_says_something_and_is_not_called_measured() -> None:
    assert estimate([kind(target="other")], {kind(size=100): [2.0]}, guess) == (2.0, 1, 0)


def test_without_a_measured_cell_the_guess_counts() -> None:
    assert estimate([kind("ridge"), kind()], {kind(size=50): [2.0]}, guess) == (107.0 + 4.0, 2, 1)
    assert estimate([kind("ridge", size=None)], {}, guess).seconds == 1007.0


@pytest.mark.parametrize(("seconds", "words"), [(40, "40 s"), (600, "10 min"), (9000, "2.5 h")])
def test_times_in_words(seconds: float, words: str) -> None:
    assert told(seconds) == words
