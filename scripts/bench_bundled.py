"""Compare transfers from a bundled model with scratch at 100 rows: python scripts/bench_bundled.py --source bundled.

For each target and draw of training rows, mode=auto and mode=scratch train on the same rows and are tested on the same
crystals. The table shows the mean difference of their errors with its 95 % interval (Student's t over the draws), for
all test crystals and for those that the source was certainly not trained on (overlap=report). Runs that were made
before are not made again. Targets whose data do not ship are left out unless --data names their folder.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

SHIPPED = ("e_form", "bulk_modulus", "shear_modulus", "dielectric", "refractive_index", "piezoelectric")
OTHERS = {
    "gaps_hse": "gaps_pbe_hse_gllbsc.json.gz",
    "gaps_gllbsc": "gaps_pbe_hse_gllbsc.json.gz",
    "expt_gap": "expt_gap_with_mp_structures.json.gz",
    "matbench_phonons": "matbench_phonons.json.gz",
    "matbench_log_kvrh": "matbench_log_kvrh_part.json.gz",
    "acwf_pbesol": "acwf_volumes_lda_pbe_pbesol_r2scan.json.gz",
    "debye_temperature": "alexandria_phonon_dos_dsa.json.gz",
    "omega_log": "alexandria_phonon_dos_dsa.json.gz",
    "electron_phonon_coupling": "alexandria_phonon_dos_dsa.json.gz",
    "critical_temperature": "alexandria_phonon_dos_dsa.json.gz",
}
"""Target: the file of its data, in the folder that --data names."""

SETTINGS = ["split.seed=0", "split.test=500", "split.train_size=100", "overlap=report"]
MODES = ("scratch", "auto")


class Tested(NamedTuple):
    """Absolute errors of one run in ``unit`` by id of the test crystal; ``unseen`` ids the source never trained on."""

    unit: str
    errors: dict[str, float]
    unseen: frozenset[str]


class Difference(NamedTuple):
    """Mean MAE of scratch and auto over ``n`` draws, and auto minus scratch with its 95 % interval."""

    n: int
    crystals: int
    scratch: float
    auto: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Return better or worse if zero is outside the interval, ties if it is inside, else not known."""
        if self.n < 2:
            return "not known"
        return "better" if self.high < 0 else "worse" if self.low > 0 else "ties"


def run(target: str, source: str, file: Path | None, draws: int, runs: Path, more: Sequence[str]) -> None:
    """Make the runs of ``target`` that are not under ``runs`` yet."""
    root = [f"target.data.root={file}"] if file else []
    for mode in MODES:
        left = sorted(set(range(draws)) - tested(runs, mode).keys())
        if left:
            own = [word for word in more if mode == "auto" or "mode." not in word]
            words = [f"target={target}", f"source={source}", *root, f"mode={mode}", *SETTINGS, *own, f"runs={runs}"]
            words.append(f"split.draw={','.join(map(str, left))}")
            subprocess.run([sys.executable, "-m", "tltool", "transfer", "-m", *words], check=True)


def tested(runs: Path, mode: str) -> dict[int, Tested]:
    """Return {draw: errors of the first quantity} of the finished runs of ``mode`` under ``runs``."""
    found = {}
    for path in sorted(runs.rglob("metrics.json")):
        metrics = json.loads(path.read_text(encoding="utf-8"))
        if metrics["stage"] == "transfer" and metrics["mode"] == mode:
            name, block = next(iter(metrics["quantities"].items()))
            rows = pd.read_csv(path.with_name("predictions.csv"), dtype={"id": str, "seen": str})
            rows = rows[(rows.split == "test") & (rows.quantity == name)]
            errors = dict(zip(rows.id, (rows.prediction - rows.label).abs(), strict=True))
            found[int(metrics["draw"])] = Tested(block["unit"], errors, frozenset(rows.id[rows.seen.isna()]))
    return found


def compared(scratch: Mapping[int, Tested], auto: Mapping[int, Tested], *, unseen: bool) -> Difference | None:
    """Return the comparison for all test crystals or the ``unseen`` ones; None without any.

    Which are unseen the runs of auto say, since a model from scratch carries no index of the source's crystals.
    """
    pairs = []
    for draw in scratch.keys() & auto.keys():
        wanted = [name for name in auto[draw].errors if not unseen or name in auto[draw].unseen]
        pairs += [[(fmean(of[draw].errors[name] for name in wanted)) for of in (scratch, auto)]] if wanted else []
    if not pairs:
        return None
    first, second = np.array(pairs).T
    low = high = float("nan")
    if len(pairs) > 1:
        low, high = map(float, stats.ttest_1samp(second - first, 0.0).confidence_interval(0.95))
    return Difference(len(pairs), len(wanted), float(first.mean()), float(second.mean()), low, high)


def table(targets: Iterable[str], runs: Path) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [
        "| target | unit | test crystals | draws | scratch MAE | auto MAE | auto - scratch, 95 % interval | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for target in targets:
        scratch, auto = (tested(runs / target, mode) for mode in MODES)
        for unseen in (False, True):
            if found := compared(scratch, auto, unseen=unseen):
                unit = next(iter(auto.values())).unit
                figures = f"{found.scratch:.4g} | {found.auto:.4g} | {found.low:+.3g} to {found.high:+.3g}"
                crystals = f"{'unseen' if unseen else 'all'} {found.crystals:,}"
                lines.append(f"| {target} | {unit} | {crystals} | {found.n} | {figures} | {found.verdict} |")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    """Make the runs that are missing and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--source", default="bundled", help="as of tltool transfer [%(default)s]")
    parser.add_argument("--targets", nargs="+", choices=[*SHIPPED, *OTHERS], help="targets [all that are at hand]")
    parser.add_argument("--data", type=Path, help="folder with the files of targets whose data do not ship")
    parser.add_argument("--draws", type=int, default=5, help="draws of training rows [%(default)s]")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench_bundled"), help="for runs [%(default)s]")
    parser.add_argument("more", nargs="*", help="further overrides of tltool transfer, such as fit.epochs=2")
    given = parser.parse_args(argv)
    targets = given.targets or [*SHIPPED, *(OTHERS if given.data else [])]
    runs = given.runs / given.source.replace("/", "-")
    for target in targets:
        file = given.data / OTHERS[target] if target in OTHERS else None
        run(target, given.source, file, given.draws, runs / target, given.more)
    print("\n".join(table(targets, runs)))


if __name__ == "__main__":
    main()
