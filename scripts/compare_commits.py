"""Compare the speed of two commits of tltool: the same commands in turn, as often as ``--rounds`` says.

Each side is a commit as it was, run by the packages at hand and on one thread. Both count seconds of their own
processor time, which other work on the machine changes little; a row is the median over all epochs, or over all runs of
a command, and the ratio is above one where the later commit is slower. Such a comparison holds for moves of code, whose
commands and configs stay: a commit that does not know a command ends the comparison with its message.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
COUNTED = """
import sys, time
time.perf_counter = time.process_time
from tltool import cli
cli.main()
"""
"""``tltool`` in which the seconds of an epoch are seconds of processor time."""


class Command(NamedTuple):
    """A command of both sides; ``epochs`` is true where its epochs are compared, else the whole command is."""

    name: str
    words: list[str]
    epochs: bool = False


SMALL = ["fit.epochs={epochs}", "data=demo"]
COMMANDS = [
    Command("graphs, whole command", ["prepare", "data=demo", "cache={fresh}"]),
    Command("graphs with angles, whole command", ["prepare", "data=demo", "graph=angles", "cache={fresh}"]),
    Command(
        "ALIGNN, an epoch of 300",
        ["pretrain", *SMALL, "encoder=alignn_small", "graph=angles", "split.train_size=300"],
        epochs=True,
    ),
    Command("CGAT, an epoch of 500", ["pretrain", *SMALL, "encoder=cgat", "split.train_size=500"], epochs=True),
    Command("MEGNet, an epoch of 1,000", ["pretrain", *SMALL, "encoder=megnet", "split.train_size=1000"], epochs=True),
    # The last of the pretrainings, so that those below begin with it.
    Command("CGCNN, an epoch of 3,150", ["pretrain", *SMALL], epochs=True),
    Command(
        "fine-tuning, an epoch of 200",
        ["transfer", "target=bulk_modulus", "mode=finetune", "fit.epochs=20", "split.train_size=200"],
        epochs=True,
    ),
    Command(
        "ridge on features, whole command", ["transfer", "target=bulk_modulus", "mode=features", "mode/regressor=ridge"]
    ),
    Command("evaluation, whole command", ["eval"]),
]


class Side:
    """A commit in a folder of its own, with its cache and its runs."""

    def __init__(self, repository: Path, commit: str, home: Path) -> None:
        self.commit, self.home = commit, home
        archive = subprocess.run(["git", "archive", commit], cwd=repository, capture_output=True)
        if archive.returncode:
            sys.exit(f"{commit} is no commit of {repository}; name one that git log shows. {archive.stderr.decode()}")
        (home / "tree").mkdir(parents=True)
        subprocess.run(["tar", "x"], cwd=home / "tree", input=archive.stdout, check=True)
        configs = home / "tree" / "tltool" / "configs"
        if not configs.exists():
            configs.symlink_to("../configs")
        self.runs = 0

    def seconds(self, command: Command, epochs: int) -> list[float]:
        """Run ``command``; return the processor seconds of each epoch but the first, or of the whole command."""
        self.runs += 1
        fresh = self.home / f"cache{self.runs}"
        words = [word.format(epochs=epochs, fresh=fresh) for word in command.words]
        words += [f"runs={self.home}/runs", "threads=1", "device=cpu"]
        words += [] if any(word.startswith("cache=") for word in words) else [f"cache={self.home}/cache"]
        environment = os.environ | {"PYTHONPATH": str(self.home / "tree"), "OMP_WAIT_POLICY": "PASSIVE"}
        before = _of_children()
        done = subprocess.run(
            [sys.executable, "-c", COUNTED, *words], cwd=self.home, env=environment, capture_output=True, text=True
        )
        whole = _of_children() - before
        if done.returncode:
            sys.exit(f"{self.commit}: tltool {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
        if not command.epochs:
            return [whole]
        log = max(self.home.glob(f"runs/{words[0]}/**/log.jsonl"), key=lambda path: path.stat().st_mtime)
        events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        return [event["seconds"] for event in events if event["event"] == "epoch"][1:]  # the first one warms up


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(argv: list[str] | None = None, commands: list[Command] = COMMANDS, repository: Path = ROOT) -> None:
    """Print a row for each command as soon as all its rounds are over."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("before", help="the earlier commit")
    parser.add_argument("after", nargs="?", default="HEAD", help="the later one [%(default)s]")
    parser.add_argument("--rounds", type=int, default=4, help="runs of each command and side [%(default)s]")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of a pretraining [%(default)s]")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        sides = [
            Side(repository, commit, Path(folder) / f"{turn}")
            for turn, commit in enumerate((options.before, options.after))
        ]
        print(
            f"{'processor seconds':<36}{options.before:>12}{options.after:>12}{'ratio':>8}{'quartiles':>16}", flush=True
        )
        for command in commands:
            found: dict[Side, list[float]] = {side: [] for side in sides}
            for turn in range(options.rounds + 1):
                for side in sides if turn % 2 else sides[::-1]:
                    seconds = side.seconds(command, options.epochs)
                    if turn:  # the first round compiles and prepares
                        found[side] += seconds
            print(_row(command.name, *found.values()), flush=True)


def _row(name: str, before: list[float], after: list[float]) -> str:
    """Return both medians, their ratio, and the ratios of the lower and of the upper quartiles."""
    middle = statistics.median(before), statistics.median(after)
    low, high = (_quartile(after, part) / _quartile(before, part) for part in (0, 2))
    return f"{name:<36}{middle[0]:>12.3f}{middle[1]:>12.3f}{middle[1] / middle[0]:>8.3f}{low:>9.3f}{high:>7.3f}"


def _quartile(values: list[float], part: int) -> float:
    return statistics.quantiles(values, n=4)[part] if len(values) > 1 else values[0]


if __name__ == "__main__":
    main()
