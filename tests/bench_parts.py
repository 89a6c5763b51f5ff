"""Parts of a bench that measure nothing: small, since processes of their own import them."""

import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from bench.rows import Row

FIRST = Row("first", "MB", 8.0, 2.0, 4.0)
SECOND = Row("second", "s", None, 1.5, None)


def names(options: Namespace) -> list[str]:
    return ["first", "second"]


def both(options: Namespace) -> Iterator[Row]:
    yield FIRST
    yield SECOND


def stuck(options: Namespace) -> Iterator[Row]:
    """Start a process, write its id to ``options.json``, and never come to the second row."""
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(options.json).write_text(str(sleeper.pid))
    yield FIRST
    sleeper.wait()
    yield SECOND


def broken(options: Namespace) -> Iterator[Row]:
    yield FIRST
    raise ValueError("a mistake in a part")
