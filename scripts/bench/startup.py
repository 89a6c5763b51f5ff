"""Measure what a user waits for: ``tltool --help``, and ``tltool pretrain`` until it puts its first batch together.

Both are whole processes, timed from the outside; the smallest of several is told, since other work only adds to it.
The data are the bundled ones, prepared before. Aims on two cores: 0.5 s and 8 s.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.rows import Row

_FIRST_BATCH = """
import os, sys
from tltool.data.batches import tensor_table
from tltool.command_line.launch import launch
cut = tensor_table.batches
def told(source, labels, rows, size, generator):
    if generator is not None:
        print("first batch", file=sys.stderr, flush=True)
        os._exit(0)
    return cut(source, labels, rows, size, generator)
tensor_table.batches = told
launch("pretrain", sys.argv[1:])
"""


def seconds(words: Sequence[str], folder: Path) -> float:
    """Return how long ``python`` with ``words`` runs in ``folder``."""
    env = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=folder, env=env, check=True, capture_output=True)
    return time.perf_counter() - began


def names(options: argparse.Namespace) -> list[str]:
    """Return the names of the rows."""
    return ["tltool --help", "tltool pretrain, first batch"]


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield both, the smallest of ``options.starts`` runs."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        helps = min(seconds(["-m", "tltool", "--help"], folder) for _ in range(options.starts))
        yield Row("tltool --help", "s", None, helps, None)
        first = first_batch(folder, folder / "cache", options.starts)
        yield Row("tltool pretrain, first batch", "s", None, first, None)


def first_batch(folder: Path, cache: Path, starts: int) -> float:
    """Return the seconds that ``tltool pretrain`` takes to its first batch, the smallest of ``starts`` runs.

    Runs in ``folder``, with data that are prepared in ``cache`` before.
    """
    begin = ["-c", _FIRST_BATCH, f"cache={cache}"]
    seconds([*begin, "hydra.run.dir=prepare"], folder)
    return min(seconds([*begin, f"hydra.run.dir=run-{k}"], folder) for k in range(starts))
