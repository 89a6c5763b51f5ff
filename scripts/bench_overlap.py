"""Time the overlap audit of many crystals against a large index: python scripts/bench_overlap.py [--quick].

The target is 10,000 bundled crystals, each moved a little and in another cell, one in five without its id. The index
holds 1,000,000 crystals: the demo set, whose structures are at hand, and invented ones.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from tltool.data import store
from tltool.data.download.locate import BUNDLED
from tltool.data.overlap import crystal_index, structure_match
from tltool.data.overlap.many_fingerprints import fingerprints
from tltool.data.record import Crystal
from tltool.evaluation import source_crystals

Generator = np.random.Generator


def rewritten(crystal: Crystal, generator: Generator) -> Crystal:
    """Return ``crystal`` in another cell of the lattice, from another origin, each site moved by about 0.01 Å."""
    i, j = generator.permutation(3)[:2]
    change = np.eye(3)
    change[i, j] = generator.integers(-1, 2)
    lattice = change @ crystal.lattice
    moves = generator.normal(scale=0.006, size=crystal.frac.shape)
    frac = crystal.frac @ np.linalg.inv(change) + generator.random(3) + moves @ np.linalg.inv(lattice)
    return Crystal(lattice, frac, crystal.numbers)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the seconds that the block takes."""
    start = time.perf_counter()
    yield
    print(f"{what:<48} {time.perf_counter() - start:8.2f} s", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the audit step by step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few crystals")
    parser.add_argument("--workers", type=int, default=2, help="processes that find fingerprints")
    options = parser.parse_args(arguments)
    n_target, n_index = (100, 2_000) if options.quick else (10_000, 1_000_000)
    generator = np.random.default_rng(0)
    demo = store.load(BUNDLED / "demo.h5")
    known = [demo.crystal(row) for row in range(len(demo))][: n_index // 2]
    stores = [store.load(path) for path in sorted(BUNDLED.glob("*.h5"))]
    pool = [(one.ids[row], one.crystal(row)) for one in stores for row in range(len(one))]
    drawn = [pool[row] for row in generator.integers(len(pool), size=n_target).tolist()]
    ids = [name if generator.random() < 0.8 else str(row) for row, (name, _) in enumerate(drawn)]
    target = [rewritten(crystal, generator) for _, crystal in drawn]

    seen = fingerprints(known, options.workers)
    invented = generator.integers(1 << 64, size=n_index - len(known), dtype=np.uint64)
    names = list(demo.ids[: len(known)]) + [f"agm{number:09d}" for number in range(len(invented))]
    with timed(f"index of {n_index:,} crystals"):
        index = crystal_index.index(names, None, np.concatenate([seen, invented]), "demo")
    size = sum(array.nbytes for array in crystal_index.arrays(index).values())
    print(f"{'size of the index':<48} {size / 1e6:8.2f} MB, {size / len(index):.1f} bytes a crystal")
    with timed("audit in all"):
        with timed(f"  fingerprints of {n_target:,} crystals, {options.workers} workers"):
            asked = fingerprints(target, options.workers)
        with timed("  look-up"):
            matches = crystal_index.audit(index, ids, None, asked)
        open_rows = np.array([row for row, how in enumerate(matches.how) if how != "id"])
        chosen, rows = crystal_index.pairs(seen, asked[open_rows], formula=True)
        alike = crystal_index.of_one_prototype(seen[rows], asked[open_rows[chosen]])
        with timed(f"  comparison of {len(rows):,} pairs of one formula"):
            result = structure_match.compared(target, known, open_rows[chosen], rows, alike, source_crystals.MOST_PAIRS)
        pairs = zip(open_rows[chosen].tolist(), rows.tolist(), result.same.tolist(), strict=True)
        same = {row: ("demo", demo.ids[source_row]) for row, source_row, equal in pairs if equal}
        none_left = np.ones(len(target), dtype=bool)
        none_left[open_rows[chosen[~result.known]]] = False
        matches = crystal_index.settled(matches, same, none_left, none_left)
    kinds = Counter("unknown" if unknown else how for how, unknown in zip(matches.how, matches.unknown, strict=True))
    print(", ".join(f"{count} {how or 'not found'}" for how, count in sorted(kinds.items())))


if __name__ == "__main__":
    main()
