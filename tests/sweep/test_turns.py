import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from support import a_fit, batches_of, fresh_model

from tltool import interruption
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.sweep.turns import in_turns
from tltool.training.fit import predict, train
from tltool.transfer.steps import embeddings


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


def test_an_error_of_the_answer_is_raised_where_each_question_was_asked() -> None:
    heard: list[str] = []

    def work(ask) -> int:
        try:
            ask(None)
        except MemoryError as error:
            heard.append(str(error))
        return 6

    def answer(questions: list[None]) -> list[None]:
        raise MemoryError("too little of it")

    assert in_turns([work, work], answer) == [6, 6]
    assert heard == ["too little of it"] * 2


@contextmanager
def terminated() -> Iterator[None]:
    """Let SIGTERM raise SystemExit in the main thread, as the command line does."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Slow:
    """Counts what was computed after SIGTERM was sent to the process, which happens in the third batch."""

    def __init__(self) -> None:
        self.after = -3

    def __call__(self, *given: object) -> None:
        self.after += 1
        if self.after == 0:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
            time.sleep(0.3)  # the main thread has to wake up


def a_training(data: Batches, slow: Slow) -> None:
    model = fresh_model(data.quantities)
    model.encoder.register_forward_hook(slow)
    train(model, data, a_fit(batch_size=8, epochs=100))


def a_prediction(data: Batches, slow: Slow) -> None:
    model = fresh_model(data.quantities)
    model.encoder.register_forward_hook(slow)
    for _ in range(100):
        predict(model, data, "train")


def some_embeddings(data: Batches, slow: Slow) -> None:
    model = fresh_model(data.quantities)
    model.encoder.register_forward_hook(slow)
    for _ in range(100):
        embeddings.table(model, data)


@pytest.mark.parametrize("work", [a_training, a_prediction, some_embeddings])
def test_a_run_that_computes_ends_itself_within_a_batch(part: Dataset, monkeypatch: pytest.MonkeyPatch, work) -> None:
    for module in ("tltool.transfer.steps.embeddings", "tltool.training.validation"):
        monkeypatch.setattr(f"{module}.evaluation_size", lambda table: 16)
    data, slow, ended = batches_of(part), Slow(), []

    def task(ask) -> int:
        try:
            work(data, slow)
        except SystemExit as stop:
            ended.append((threading.current_thread(), stop.code))
            raise
        return 0

    def waits(ask) -> int:
        try:
            ask(None)
        except SystemExit as stop:
            ended.append((threading.current_thread(), stop.code))
            raise
        return 0

    with terminated(), pytest.raises(SystemExit) as stop:
        in_turns([waits, task], lambda questions: questions)
    assert stop.value.code == 143
    assert slow.after <= 1, "batches computed after the signal"
    assert [code for _, code in ended] == [143, 143]
    assert threading.main_thread() not in [thread for thread, _ in ended]


def test_a_thread_that_was_not_asked_goes_on() -> None:
    interruption.check()
    found: list[str] = []

    def work() -> None:
        interruption.check()
        found.append("first")
        thread.request = KeyboardInterrupt()
        try:
            interruption.check()
        except KeyboardInterrupt:
            found.append("ended")

    thread = interruption.RunThread(target=work)
    thread.start()
    thread.join()
    assert found == ["first", "ended"]
