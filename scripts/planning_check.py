"""Check the planning figure of a study on draws that it did not know.

python scripts/planning_check.py runs/study/planning takes the first draws of every comparison in cells.csv as pilot,
computes from them how many draws settle a difference of 5 % of the baseline's error (power 80 %, level 5 %), and counts
how often so many of the other draws do: their differences are shifted so that the mean is 5 %, and that many are taken
at random, many times. A planning figure that holds gives a share of about 80 %.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
import pandas as pd

from tltool.reporting.next_runs import pairs_needed
from tltool.study.differences import PLANNED, p_value

_REPEATS = 2_000
_LEVEL = 0.05


class Checked(NamedTuple):
    """A comparison: deviation between draws of pilot and others over the baseline's error, draws needed, and share.

    ``settled`` is the share of samples of ``needed`` other draws with a difference of 5 % that are settled.
    """

    name: str
    pilot_deviation: float
    other_deviation: float
    needed: int
    needed_by_others: int
    settled: float


def checked(name: str, differences: Sequence[float], baselines: Sequence[float], pilot: int, seed: int = 0) -> Checked:
    """Return the check of one comparison: ``differences`` and errors of the baseline of all draws, in their order."""
    base, others = fmean(baselines[:pilot]), np.asarray(differences[pilot:], float)
    needed = math.ceil(pairs_needed(PLANNED * base, stdev(differences[:pilot])))
    other_base = fmean(baselines[pilot:])
    shifted = others - others.mean() + PLANNED * other_base
    draws = np.random.default_rng(seed)
    # With replacement: the others stand for all draws there could be, and more of them may be needed than there are.
    samples = draws.choice(shifted, size=(_REPEATS, needed))
    settled = float(np.mean([p_value(sample.tolist()) < _LEVEL for sample in samples]))
    by_others = math.ceil(pairs_needed(PLANNED * other_base, float(others.std(ddof=1))))
    deviations = stdev(differences[:pilot]) / base, float(others.std(ddof=1)) / other_base
    return Checked(name, *deviations, needed, by_others, settled)


def of_table(table: pd.DataFrame, baseline: str, pilot: int) -> list[Checked]:
    """Return the check of every comparison of a table of cells with more than ``pilot`` + 1 draws."""
    errors: dict[tuple[str, ...], dict[int, float]] = {}
    for row in table[table["state"] == "done"].to_dict("records"):
        key = tuple(str(row[name]) for name in ("target", "size", "split", "quantity", "mode", "source"))
        errors.setdefault(key, {})[int(row["draw"])] = float(row["error"])
    found = []
    for (*place, mode, source), own in errors.items():
        base = next((e for key, e in errors.items() if list(key[:4]) == place and key[4] == baseline), {})
        draws = sorted(own.keys() & base.keys())
        if mode != baseline and len(draws) > pilot + 1:
            words = f"{place[0]}, {place[1]} rows, {mode} from {source}"
            found.append(checked(words, [own[d] - base[d] for d in draws], [base[d] for d in draws], pilot))
    return found


def main(arguments: Sequence[str]) -> None:
    """Print the check of every comparison as a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder runs/study/NAME of a study that has ended")
    parser.add_argument("--baseline", default="scratch")
    parser.add_argument("--pilot", type=int, default=8, help="number of pilot draws")
    given = parser.parse_args(arguments)
    found = of_table(pd.read_csv(given.run / "cells.csv"), given.baseline, given.pilot)
    sys.stdout.write(
        "| comparison | deviation, pilot | deviation, others | draws needed, pilot | by the others | settled |\n"
        "|---|---|---|---|---|---|\n"
    )
    for one in found:
        sys.stdout.write(
            f"| {one.name} | {one.pilot_deviation:.1%} | {one.other_deviation:.1%} | {one.needed} | "
            f"{one.needed_by_others} | {one.settled:.0%} |\n"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
