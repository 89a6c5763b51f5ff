"""Measure reading a folder of CIF files, and the same crystals from the cache, beside the published CGCNN loader.

One thread, bundled crystals. The published loader parses a file and makes its graph whenever a process first asks for
a crystal; tltool does so once and keeps store and graphs. The sides take turns and the best turns count. From the cache
means all that ``tltool pretrain`` does until batches can be cut, checks of the input files included.
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from pymatgen.core.structure import Structure

from bench import published_cgcnn
from bench.rows import Row, faster
from tltool.data import dataset
from tltool.data.batches import tensor_table
from tltool.data.graph.crystal_graphs import GraphSettings

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))

import crystals
from run import bundled

RECIPE = GraphSettings(cutoff=8.0, max_neighbours=12, shells="strict", quotient=True)


def names(options: argparse.Namespace) -> list[str]:
    """Return the names of the rows of ``make bench``."""
    return ["reading a folder of CIF files", "the same from the cache"]


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of ``make bench``."""
    best = measured(options.cif_files, options.sample, 2)
    published = (best["published"], 1)
    yield faster("reading a folder of CIF files", "crystals/s", published, (best["folder"], 1))
    yield faster("the same from the cache", "crystals/s", published, (best["cache"], 1))


def measured(count: int, sample: int, rounds: int) -> dict[str, float]:
    """Return crystals/s of the published loader, of tltool, and of tltool's cache."""
    best = {"published": 0.0, "folder": 0.0, "cache": 0.0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        crystals.write(folder / "in", bundled(count, 0))
        adapter: dict[str, object] = {
            "_target_": "tltool.data.adapters.folder.read",
            "table": crystals.TABLE,
            "id_column": "id",
            "labels": ["e_form"],
            "columns": ["label"],
            "header_line": None,
            "decimal_commas": [],
            "repeated": "error",
            "weight": None,
            "uncertainty": None,
            "conditions": {},
            "define": None,
        }
        description = {"name": "folder", "root": str(folder / "in"), "adapter": adapter}

        def opened(turn: int) -> None:
            data = dataset.opened(description, RECIPE, dataset.Means(folder / f"cache{turn}", (), 1, lambda text: None))
            tensor_table.table(data.graphs)

        files = sorted((folder / "in").glob("*.cif"))
        files = files[:: max(len(files) // sample, 1)][:sample]
        for turn in range(rounds):
            times = [time.perf_counter()]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pymatgen's reader
                published_cgcnn.graphs([Structure.from_file(file) for file in files])
            times.append(time.perf_counter())
            opened(turn)
            times.append(time.perf_counter())
            opened(turn)
            times.append(time.perf_counter())
            counts = (len(files), count, count)
            for key, n_read, begin, end in zip(best, counts, times, times[1:], strict=False):
                best[key] = max(best[key], n_read / (end - begin))
    return best


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Measure and print; return crystals/s of the published loader, of tltool, and of tltool's cache."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--crystals", type=int, default=3900, help="files in the folder [%(default)s]")
    parser.add_argument("--sample", type=int, default=150, help="of which the published loader reads [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="turns [%(default)s]")
    options = parser.parse_args(argv)
    best = measured(options.crystals, options.sample, options.rounds)
    print(
        f"{options.crystals:,} CIF files, crystals/s: published loader {best['published']:,.0f}, tltool "
        f"{best['folder']:,.0f} ({best['folder'] / best['published']:.0f} times), from its cache {best['cache']:,.0f} "
        f"({best['cache'] / best['published']:,.0f} times)"
    )
    return best


if __name__ == "__main__":
    main()
