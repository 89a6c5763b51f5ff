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
from collections.abc import Sequence
from pathlib import Path

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


def main(argv: Sequence[str] | None = None) -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="runs of each [%(default)s]")
    rounds = parser.parse_args(argv).rounds
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        begin = ["-c", _FIRST_BATCH, f"cache={folder}/cache"]
        seconds([*begin, "hydra.run.dir=prepare"], folder)
        helps = min(seconds(["-m", "tltool", "--help"], folder) for _ in range(rounds))
        first = min(seconds([*begin, f"hydra.run.dir=run-{k}"], folder) for k in range(rounds))
    print(f"tltool --help {helps:.2f} s (aim 0.5 s); tltool pretrain to its first batch {first:.1f} s (aim 8 s)")


if __name__ == "__main__":
    main()
