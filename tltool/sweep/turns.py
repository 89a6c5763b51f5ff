"""Run several trainings as threads that alternate: one thread computes at a time, until all wait for a common result.

The result, such as a training of all models at once, is then computed for all. Each run has its own thread, because it
waits inside its caller, and its own state of torch's random numbers, so that it draws the same numbers as alone.
"""

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar

import torch

from tltool.interruption import RunThread

Ask = Callable[[Any], Any]
T = TypeVar("T")


def in_turns(tasks: Sequence[Callable[[Ask], T]], answer: Callable[[list[Any]], list[Any]]) -> list[T]:
    """Return the results of ``tasks``; each task is called with a function that returns the answer to a question.

    ``answer`` gets the questions of all unfinished tasks. An answer that is an exception is raised where the question
    was asked. An error of ``answer`` itself is the answer to every question. An interruption of this function, or an
    error of a task, ends all other tasks as well: a waiting task raises it at once, a computing task at its next
    ``interruption.check``.
    """
    news: SimpleQueue[tuple[int, bool, Any]] = SimpleQueue()
    replies: list[SimpleQueue[Any]] = [SimpleQueue() for _ in tasks]
    states = [torch.get_rng_state()] * len(tasks)
    done: dict[int, T] = {}
    questions: dict[int, Any] = {}

    def body(k: int) -> None:
        def ask(question: Any) -> Any:
            news.put((k, False, question))
            reply = replies[k].get()
            if isinstance(reply, BaseException):
                raise reply
            return reply

        try:
            found: Any = tasks[k](ask)
        except BaseException as error:
            found = error
        news.put((k, True, found))

    threads = [RunThread(target=body, args=(k,), daemon=True) for k in range(len(tasks))]

    def turn(k: int, reply: Any = None) -> None:
        torch.set_rng_state(states[k])
        if threads[k].ident is None:
            threads[k].start()
        else:
            replies[k].put(reply)
        _, ended, found = news.get()
        states[k] = torch.get_rng_state()
        if not ended:
            questions[k] = found
        elif isinstance(found, BaseException):
            raise found
        else:
            done[k] = found

    try:
        for k in range(len(tasks)):
            turn(k)
        while questions:
            asked = list(questions)
            found = _answers(answer, [questions.pop(k) for k in asked])
            for k, reply in zip(asked, found, strict=True):
                turn(k, reply)
    except BaseException as error:
        _end(threads, replies, error)
        raise
    return [done[k] for k in range(len(tasks))]


def _answers(answer: Callable[[list[Any]], list[Any]], questions: list[Any]) -> list[Any]:
    try:
        return answer(questions)
    except Exception as error:
        return [error] * len(questions)


def _end(threads: Sequence[RunThread], replies: Sequence["SimpleQueue[Any]"], error: BaseException) -> None:
    """End every unfinished thread with ``error``, and wait for its end."""
    for thread in threads:
        thread.request = error
    for thread, reply in zip(threads, replies, strict=True):
        if thread.is_alive():
            reply.put(error)
            thread.join()
