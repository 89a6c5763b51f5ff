"""Measure the speed and the memory of tltool: what ``make bench`` runs, ``PYTHONPATH=scripts python -m bench``.

Each row is printed as soon as it is measured. When ``--budget`` seconds are over, the bench ends and names the rows
that it has not measured. Every ratio is larger than one where tltool is ahead. Ratios depend on the processor: the
first line names the one that they were measured on. ``last.json`` holds the ratios that were last worth keeping
(``--save``); a ratio that fell by more than a tenth is named at the end.
"""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from bench import cgcnn, encoders, folder, prepare, startup
from bench.machine import busy_seconds, own_seconds, processor
from bench.rows import LAST, Row, heading, keep, kept, line, verdict
from bench.tasks import DEMO
from bench.timed import Part, measured

PUBLISHED = "the published CGCNN method"
PARTS = (
    Part("cgcnn", f"CGCNN, beside {PUBLISHED}", cgcnn.names, cgcnn.rows),
    Part("startup", "Start-up (aims on two cores: 0.5 s and 8 s)", startup.names, startup.rows),
    Part("encoders", f"Encoders, beside {PUBLISHED} and 1,000 MB", encoders.names, encoders.rows),
    Part("prepare", "Preparing dumps, beside unpacking and parsing alone", prepare.names, prepare.rows),
    Part("folder", f"CIF files, beside {PUBLISHED}", folder.names, folder.rows),
)
SETTINGS = ("crystals", "sample", "epochs", "rounds", "batch", "threads", "seed")


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m bench", description=(__doc__ or "").partition("\n")[0])
    every = [part.name for part in PARTS]
    parser.add_argument("--parts", nargs="+", choices=every, default=every, help=f"[{' '.join(every)}]")
    parser.add_argument("--budget", type=float, default=270.0, help="seconds after which to end [%(default)s]")
    parser.add_argument("--store", type=Path, default=DEMO, help="store with e_form labels [the bundled crystals]")
    parser.add_argument("--crystals", type=int, default=800, help="how many of its crystals to use [%(default)s]")
    parser.add_argument("--sample", type=int, default=100, help="published graphs timed per turn [%(default)s]")
    parser.add_argument("--epochs", type=int, default=5, help="training epochs of each side [%(default)s]")
    parser.add_argument("--rounds", type=int, default=4, help="turns at everything but training [%(default)s]")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256], help="batch sizes, ascending [64 256]")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="thread counts, which take turns [1]")
    parser.add_argument("--encoders", nargs="+", choices=encoders.every(), default=encoders.every())
    parser.add_argument("--encoder-crystals", type=int, default=320, help="crystals for those [%(default)s]")
    parser.add_argument("--entries", type=int, default=4000, help="entries of dumps to prepare [%(default)s]")
    parser.add_argument("--cif-files", type=int, default=1000, help="files in the folder [%(default)s]")
    parser.add_argument("--starts", type=int, default=2, help="starts of each command [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="of split, weights and shuffling [%(default)s]")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--save", action="store_true", help=f"keep the ratios in {LAST.name}")
    options = parser.parse_args(argv)
    if options.batch != sorted(options.batch):
        parser.error("--batch must ascend: peak memory is the most held so far.")
    return options


def main(argv: Sequence[str] | None = None, parts: Sequence[Part] = PARTS) -> None:
    """Measure, print each row as it comes, and write the files that were asked for."""
    options = parsed(argv)
    begin, others = time.monotonic(), busy_seconds() - own_seconds()
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    _say(f"Measured on {processor()}, with {_threads(options.threads)} a side; {versions}.")
    last = kept()
    if "processor" in last:
        _say(f"The last ratios are of {last['processor']}, with {_threads(last['threads'])} a side.")
    _say(f"Best turns are compared. The bench ends after {options.budget:.0f} s at the latest.\n")
    _say(heading())
    rows: list[Row] = []
    missing: list[str] = []
    for part in parts:
        if part.name in options.parts:
            _say(f"{part.beside}:")
            found = []
            for row in measured(part, options, begin + options.budget):
                _say(line(row, last["ratios"]))
                found.append(row)
            rows += found
            missing += [name for name in part.names(options) if name not in {row.name for row in found}]
    seconds = time.monotonic() - begin
    # On a busy machine the side that works longer is disturbed more: such ratios flatter us.
    share = (busy_seconds() - own_seconds() - others) / seconds
    _say(f"\n{seconds:.0f} s; other work took {share:.2f} cores meanwhile.")
    if missing:
        _say(f"Not measured, since the {options.budget:.0f} s of --budget are over: {'; '.join(missing)}.")
    _say(verdict(rows, last["ratios"]))
    how = {"processor": processor(), "threads": options.threads, "cores_taken_by_others": round(share, 2)}
    how["settings"] = {name: getattr(options, name) for name in SETTINGS}
    if options.json:
        report = how | {"seconds": seconds, "rows": [row._asdict() for row in rows], "not measured": missing}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.save:
        keep(rows, how)


def _threads(counts: Sequence[int]) -> str:
    return " or ".join(f"{n} thread{'s' * (n > 1)}" for n in counts)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
