"""Follow ``tltool pretrain`` to its first optimiser step: how many files of tltool a reader opens, and how often one
changes file.

A reader opens each function at its first call. Where that call comes from another file than the function stands in, the
reader changes file; what a function does a second time is known by then. Python's profiling hook tells of the calls.
The data set is prepared before, which is a journey of its own (``--prepare``: with it).
"""

import argparse
import inspect
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch


class Arrived(BaseException):
    """The first optimiser step was taken."""


class Journey:
    """What was called, in order, of the files below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = f"{root}/"
        self.seen: set[CodeType] = set()
        self.files: list[str] = []
        self.changes: list[tuple[str, str]] = []

    def hook(self, frame: FrameType, event: str, argument: Any) -> None:
        """Note a first call of a function of tltool; end the journey at an optimiser's step."""
        code = frame.f_code
        if event != "call" or code in self.seen or not code.co_filename.startswith(self.root):
            return
        if code.co_name == "<module>" or not code.co_flags & inspect.CO_OPTIMIZED:
            return  # an import, or the body of a class
        self.seen.add(code)
        file = code.co_filename.removeprefix(self.root)
        if file not in self.files:
            self.files.append(file)
        caller = self._caller(frame)
        if caller is not None and caller != file:
            self.changes.append((caller, file))

    def _caller(self, frame: FrameType) -> str | None:
        above = frame.f_back
        while above is not None:
            if above.f_code.co_filename.startswith(self.root):
                return above.f_code.co_filename.removeprefix(self.root)
            above = above.f_back
        return None


def main() -> None:
    """Print the figures, and with ``--list`` every file in the order in which it is opened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the files and the changes of file")
    parser.add_argument("--prepare", action="store_true", help="begin without the prepared data set")
    parser.add_argument("words", nargs="*", default=["data=demo"], help="overrides of the pretraining")
    options = parser.parse_args()
    import tltool
    from tltool import cli

    journey = Journey(Path(tltool.__file__).parent)
    step = torch.optim.AdamW.step

    def arrive(self: Any, *given: Any, **named: Any) -> None:
        step(self, *given, **named)
        raise Arrived

    torch.optim.AdamW.step = arrive  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as home:
        where = [f"cache={home}/cache", f"runs={home}/runs"]
        if not options.prepare:
            command = [sys.executable, "-m", "tltool", "prepare", *options.words, where[0]]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        sys.argv = ["tltool", "pretrain", *options.words, *where, "fit.epochs=1"]
        threading.setprofile(journey.hook)
        sys.setprofile(journey.hook)
        try:
            cli.main()
        except Arrived:
            pass
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    if options.list:
        for file in journey.files:
            print(file)
        for caller, file in journey.changes:
            print(f"{caller} -> {file}")
    print(
        f"{len(journey.files)} files, {len(journey.changes)} changes of file, {len(journey.seen)} functions, "
        f"{len(set(journey.changes))} pairs of files"
    )


if __name__ == "__main__":
    main()
