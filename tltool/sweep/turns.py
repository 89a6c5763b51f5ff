"""Run several trainings in turns: one computes at a time, until all wait for a result that is computed for all at once.

Every run has its own thread, since it waits in the middle of its caller, and its own state of torch's random numbers,
so that it draws the same numbers as alone.
"""

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import torch

from tltool.interruption import RunThread

Ask = Callable[[Any], Any]


def in_turns(tasks: Sequence[Callable[[Ask], int]], answer: Callable[[list[Any]], list[Any]]) -> list[int]:
    """Return what ``tasks`` return; each is called with a function that returns what ``answer`` says to its question.

    ``answer`` gets the questions of all tasks that are not done yet. An answer that is an exception is raised where the
    question was asked; an error of ``answer`` itself is the answer to every question. What interrupts this function, or
    is raised by a task, ends all other tasks as well: a task that waits raises it at once, one that computes raises it
    at its next ``interruption.check``.
    """
    news: SimpleQueue[tuple[int, bool, Any]] = SimpleQueue()
    replies: list[SimpleQueue[Any]] = [SimpleQueue() for _ in tasks]
    states = [torch.get_rng_state()] * len(tasks)
    done: dict[int, int] = {}
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
    """Have every thread that is not done end with ``error``, and wait until it has."""
    for thread in threads:
        thread.request = error
    for thread, reply in zip(threads, replies, strict=True):
        if thread.is_alive():
            reply.put(error)
            thread.join()
