"""Compute the fingerprints of many crystals in parallel processes.

Each process is a new Python that reads crystals from its standard input and writes fingerprints to its standard output.
It does not import the calling program. So the caller may be a script without a ``__main__`` guard, a notebook or a
shell, and no thread or lock of PyTorch is copied. Threads would not help, because moyopy holds the interpreter's lock
(GIL).
"""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from typing import IO

import numpy as np

from tltool import interruption
from tltool.data.overlap.fingerprint import UInts, in_order
from tltool.data.record import Crystal
from tltool.errors import ResourceError

_CHUNK = 2000
_CHILD = (
    "import sys; from tltool.data.overlap.many_fingerprints import answer; answer(sys.stdin.buffer, sys.stdout.buffer)"
)


def fingerprints(
    crystals: Iterable[Crystal], workers: int, progress: Callable[[int], None] = lambda done: None
) -> UInts:
    """Return the fingerprints (n,) of ``crystals`` in order, computed in ``workers`` processes.

    Fewer than 2,000 crystals, or one worker, are computed in this process. ``progress`` is called from time to time
    with the number of completed crystals. Raise ResourceError if a worker ends early.
    """
    rest = iter(crystals)
    done: list[UInts] = []
    with ExitStack() as stack:
        children: list[subprocess.Popen[bytes]] = []
        while chunk := list(islice(rest, _CHUNK)):
            interruption.check()
            progress(sum(map(len, done)))
            if workers <= 1 or (len(chunk) < _CHUNK and not children):
                done.append(in_order(chunk))
                continue
            if not children:
                children = [stack.enter_context(_child()) for _ in range(workers)]
            chunks = [chunk, *(list(islice(rest, _CHUNK)) for _ in children[1:])]
            asked = [(child, part) for child, part in zip(children, chunks, strict=True) if part]
            # A child reads all of its part before it starts, so writing to the next one never waits for its work.
            for child, part in asked:
                _send(child, part)
            done += [_reply(child, len(part)) for child, part in asked]
    return np.concatenate([np.empty(0, np.uint64), *done])


def answer(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Read crystals from ``questions`` and write their fingerprints to ``answers`` until there are no more."""
    # Ctrl-C reaches every process of the terminal; the one that asked decides, and then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(BrokenPipeError):
        while head := questions.read(16):
            answers.write(in_order(_received(questions, *np.frombuffer(head, np.int64).tolist())).tobytes())
            answers.flush()


def _child() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _send(child: subprocess.Popen[bytes], crystals: list[Crystal]) -> None:
    """Write the numbers of crystals and of sites, then sites per crystal, atomic numbers, positions and lattices."""
    counts = np.array([len(c.numbers) for c in crystals], np.int64)
    parts = [
        np.array([len(crystals), counts.sum()], np.int64),
        counts,
        np.concatenate([c.numbers for c in crystals], dtype=np.int64),
        np.concatenate([c.frac for c in crystals], dtype=np.float64),
        np.stack([c.lattice for c in crystals], dtype=np.float64),
    ]
    try:
        if child.stdin is not None:
            child.stdin.write(b"".join(part.tobytes() for part in parts))
            child.stdin.flush()
    except OSError as error:
        raise _died(child) from error


def _reply(child: subprocess.Popen[bytes], n: int) -> UInts:
    text = child.stdout.read(8 * n) if child.stdout is not None else b""
    if len(text) != 8 * n:
        raise _died(child)
    return np.frombuffer(text, np.uint64)


def _died(child: subprocess.Popen[bytes]) -> ResourceError:
    return ResourceError(
        f"A process that computes fingerprints of crystals ended early (exit code {child.wait()}); free memory or use "
        "fewer workers."
    )


def _received(pipe: IO[bytes], n: int, s: int) -> Iterator[Crystal]:
    counts, numbers = np.frombuffer(pipe.read(8 * n), np.int64), np.frombuffer(pipe.read(8 * s), np.int64)
    frac = np.frombuffer(pipe.read(24 * s)).reshape(s, 3)
    lattice = np.frombuffer(pipe.read(72 * n)).reshape(n, 3, 3)
    first = np.concatenate([[0], np.cumsum(counts)])
    for row in range(n):
        sites = slice(int(first[row]), int(first[row + 1]))
        yield Crystal(lattice[row], frac[sites], numbers[sites])
