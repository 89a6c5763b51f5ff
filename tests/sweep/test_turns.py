import threading
import time

import pytest
import torch

from tltool.sweep.turns import in_turns


def test_all_questions_are_answered_at_once_and_random_numbers_are_of_each_task() -> None:
    rounds: list[list[int]] = []

    def answer(questions: list[int]) -> list[int]:
        rounds.append(questions)
        torch.rand(3)
        return [q + 100 for q in questions]

    def task(k: int, asks: int):
        def work(ask) -> int:
            torch.manual_seed(k)
            drawn = [float(torch.rand(1))]
            for n in range(asks):
                assert ask(10 * k + n) == 10 * k + n + 100
                drawn.append(float(torch.rand(1)))
            torch.manual_seed(k)
            assert drawn == [float(torch.rand(1)) for _ in drawn]
            return k

        return work

    assert in_turns([task(0, 2), task(1, 0), task(2, 1)], answer) == [0, 1, 2]
    assert rounds == [[0, 20], [1]]


def test_one_task_computes_at_a_time() -> None:
    computing = 0

    def work(ask) -> int:
        nonlocal computing
        for _ in range(3):
            computing += 1
            assert computing == 1
            time.sleep(0.001)
            computing -= 1
            ask(None)
        return 0

    assert in_turns([work] * 4, lambda questions: questions) == [0] * 4


def test_an_exception_as_answer_is_raised_where_it_was_asked() -> None:
    def work(ask) -> int:
        with pytest.raises(ValueError, match="not this one"):
            ask("this?")
        return 3

    assert in_turns([work], lambda questions: [ValueError("not this one")]) == [3]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interruption_reaches_every_task_that_began(kind: type[BaseException]) -> None:
    ended: list[str] = []

    def work(name: str):
        def run(ask) -> int:
            try:
                ask(name)
            except BaseException as error:
                ended.append(f"{name} {type(error).__name__}")
                raise
            return 0

        return run

    def answer(questions: list[str]) -> list[str]:
        raise kind

    before = threading.active_count()
    with pytest.raises(kind):
        in_turns([work("a"), work("b")], answer)
    assert ended == [f"a {kind.__name__}", f"b {kind.__name__}"]
    assert threading.active_count() == before


def test_what_a_task_raises_ends_the_others() -> None:
    ended: list[str] = []

    def waits(ask) -> int:
        try:
            ask(None)
        except KeyboardInterrupt:
            ended.append("waits")
            raise
        return 0

    def raises(ask) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_turns([waits, raises], lambda questions: questions)
    assert ended == ["waits"]
