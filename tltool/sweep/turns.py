"""Several runs that take turns: one computes at a time, until each waits for an answer that is found for all at once.

Every run has a thread, since it waits in the middle of whatever called it, and a state of torch's random numbers, so
that it draws what it would draw alone.
"""

import ctypes
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import torch

Ask = Callable[[Any], Any]


def in_turns(tasks: Sequence[Callable[[Ask], int]], answer: Callable[[list[Any]], list[Any]]) -> list[int]:
    """Return what ``tasks`` return; each is called with a function that returns what ``answer`` says to its question.

    ``answer`` gets the questions of all tasks that are not done yet. An answer that is an exception is raised where the
    question was asked. What interrupts this function, or is raised by a task, is raised in all other tasks as well.
    """
    news: SimpleQueue[tuple[int, bool, Any]] = SimpleQueue()
    replies: list[SimpleQueue[Any]] = [SimpleQueue() for _ in tasks]
    begin = torch.get_rng_state()
    states = [begin] * len(tasks)
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

    threads = [threading.Thread(target=body, args=(k,), daemon=True) for k in range(len(tasks))]

    def turn(k: int, reply: Any = None) -> None:
        torch.set_rng_state(states[k])
        try:
            if threads[k].ident is None:
                threads[k].start()
            else:
                replies[k].put(reply)
            _, ended, found = news.get()
        except (KeyboardInterrupt, SystemExit) as stop:
            _raise_in(threads[k], type(stop))
            _, ended, found = news.get()
            if not ended:
                questions[k] = found
            raise
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
            found = answer([questions[k] for k in asked])
            for k, reply in zip(asked, found, strict=True):
                del questions[k]
                turn(k, reply)
    except BaseException as error:
        for k in list(questions):
            replies[k].put(type(error)())
            threads[k].join()
        raise
    return [done[k] for k in range(len(tasks))]


def _raise_in(thread: threading.Thread, kind: type[BaseException]) -> None:
    """Raise an exception where ``thread`` computes, as an interruption does in the main thread."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(kind))
