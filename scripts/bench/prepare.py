"""Measure preparing: from dumps in Alexandria's format to stores and graphs, beside unpacking and parsing alone.

The entries are those of ``--like`` (a real dump), or bundled crystals written as such entries, repeated under new ids
into ``--files`` dumps. Both sides use the same number of processes and take turns; the best turns count.
"""

import argparse
import bz2
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.rows import Row, faster
from tltool.data import parallel, prepare, store
from tltool.data.download.locate import BUNDLED
from tltool.data.formats import decompress
from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.elements import symbol

RECIPE = GraphSettings(cutoff=8.0, max_neighbours=12, shells="shared", quotient=True)
ADAPTER = {"_target_": "tltool.data.adapters.alexandria.read", "pattern": "*.json.bz2", "min_elements": 1}


def bundled(count: int) -> list[dict[str, Any]]:
    """Return entries as Alexandria writes them, of ``count`` bundled crystals."""
    demo = store.load(BUNDLED / "demo.h5")
    entries = []
    for row in range(0, len(demo), -(-len(demo) // count)):
        crystal = demo.crystal(row)
        sites = [
            {
                "species": [{"element": symbol(int(z)), "occu": 1}],
                "abc": abc.tolist(),
                "xyz": (abc @ crystal.lattice).tolist(),
                "label": symbol(int(z)),
                "properties": {"magmom": -0.0, "charge": 8.332, "forces": [-0.0, -0.0, 0.0]},
            }
            for z, abc in zip(crystal.numbers, crystal.frac, strict=True)
        ]
        names = ("energy_total", "total_mag", "band_gap_ind", "band_gap_dir", "dos_ef", "e_above_hull")
        data = {"mat_id": "", "e_form": demo.record(row).labels["e_form"]} | dict.fromkeys(names, -18.184)
        entries.append({"data": data, "structure": {"lattice": {"matrix": crystal.lattice.tolist()}, "sites": sites}})
    return entries


def like(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a dump."""
    with decompress.opened(path) as packed:
        found = json.load(packed)
    return found["entries"] if isinstance(found, dict) else list(found)


def written(entries: Sequence[dict[str, Any]], count: int, folder: Path, files: int) -> list[Path]:
    """Write ``count`` entries under ids of their own into dumps in ``folder``."""
    paths = [folder / f"alexandria_{n:03d}.json.bz2" for n in range(files)]
    for n, path in enumerate(paths):
        with bz2.open(path, "wt", encoding="utf-8") as file:
            file.write('{"entries": [')
            for k, number in enumerate(range(n, count, files)):
                entry = entries[number % len(entries)]
                entry["data"]["mat_id"] = f"agm{number:09d}"
                file.write((", " if k else "") + json.dumps(entry))
            file.write("]}")
    return paths


def bare(path: Path) -> int:
    """Unpack and parse one dump at once; return how many entries it holds."""
    return len(json.loads(bz2.decompress(path.read_bytes()))["entries"])


def _largest_child() -> float:
    """Return the most memory that a finished process of this one has held, in MB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def names(options: argparse.Namespace) -> list[str]:
    """Return the names of the rows of ``make bench``."""
    return ["preparing dumps", "preparing, largest process"]


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of ``make bench``: one process."""
    found = measured(bundled(500), options.entries, 2, 1, 2)
    yield faster("preparing dumps", "entries/s", (found["parsed"], 1), (found["prepared"], 1))
    yield Row("preparing, largest process", "MB", None, found["peak"], None)


def measured(entries: list[dict[str, Any]], count: int, files: int, workers: int, rounds: int) -> dict[str, float]:
    """Return entries/s of both sides and their ratio, and the memory of the largest process in MB."""
    parsed, prepared, peak = 0.0, 0.0, 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = written(entries, count, folder, files)
        for turn in range(rounds):
            tasks = [prepare.Task(path, folder / f"turn{turn}" / path.name, ADAPTER, (), {}, RECIPE) for path in paths]
            begin = time.perf_counter()
            shards = parallel.prepared(tasks, workers, lambda text: None)
            prepared = max(prepared, sum(shard.kept for shard in shards) / (time.perf_counter() - begin))
            if not turn:  # before the other side, which holds a whole dump, has children of its own
                peak = _largest_child()
            begin = time.perf_counter()
            with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
                n_parsed = sum(pool.map(bare, paths))
            parsed = max(parsed, n_parsed / (time.perf_counter() - begin))
    return {"parsed": parsed, "prepared": prepared, "ratio": parsed / prepared, "peak": peak}


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Measure and print; return entries/s of both sides and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--entries", type=int, default=20_000, help="[%(default)s]")
    parser.add_argument("--files", type=int, default=4, help="dumps to write them into [%(default)s]")
    parser.add_argument("--workers", type=int, default=2, help="processes [%(default)s]")
    parser.add_argument("--rounds", type=int, default=2, help="turns [%(default)s]")
    parser.add_argument("--like", type=Path, help="a dump whose entries to repeat [bundled crystals]")
    options = parser.parse_args(argv)
    entries = like(options.like) if options.like else bundled(500)
    found = measured(entries, options.entries, options.files, options.workers, options.rounds)
    print(
        f"{options.entries:,} entries in {options.files} dumps, {options.workers} processes: unpacking and parsing "
        f"alone {found['parsed']:,.0f}/s; to stores and graphs {found['prepared']:,.0f}/s ({found['ratio']:.2f} times "
        f"as long); largest process {found['peak']:,.0f} MB"
    )
    return found


if __name__ == "__main__":
    main()
