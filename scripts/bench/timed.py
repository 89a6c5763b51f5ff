"""Parts of a bench, each in a process of its own, that end when the time is up.

A part gives its rows one by one. What is not measured by then is named and has no figure: a row is handed over whole,
and the process is ended with all that it started.
"""

import contextlib
import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import NamedTuple

from bench.rows import Row

Rows = Callable[[Namespace], Iterator[Row]]


class Part(NamedTuple):
    """``names`` returns the names of the rows that ``rows`` yields; ``beside`` says what tltool is compared with."""

    name: str
    beside: str
    names: Callable[[Namespace], list[str]]
    rows: Rows


def measured(part: Part, options: Namespace, deadline: float) -> Iterator[Row]:
    """Yield the rows of ``part`` as they come, until ``deadline`` on the clock of ``time.monotonic``.

    Raise SystemExit if the part ends with an error.
    """
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(part.rows, options, there))
    process.start()
    there.close()
    try:
        while here.poll(max(deadline - time.monotonic(), 0.0)):
            try:
                yield here.recv()
            except EOFError:
                process.join()
                if process.exitcode:
                    sys.exit(f"The part {part.name} of the bench ended with an error; see above.")
                return
    finally:
        if process.is_alive():
            _end(process.pid)
            process.kill()
        process.join()


def _send(rows: Rows, options: Namespace, there: Connection) -> None:
    os.setsid()  # so that all that this process starts can be ended with it
    for row in rows(options):
        there.send(row)


def _end(pid: int | None) -> None:
    with contextlib.suppress(ProcessLookupError):  # no group yet: nothing was started
        os.killpg(pid or 0, signal.SIGKILL)
