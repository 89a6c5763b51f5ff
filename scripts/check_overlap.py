"""Measure how well the overlap audit tells the same crystal: python scripts/check_overlap.py [--data FILE] [--quick].

Recall: crystals whose sites are moved, or whose cell is sheared or stretched, rotated and written in another cell, are
compared with the crystals that they were made from. Precision: of pairs of one formula that the audit calls the same
structure, the share that an independent criterion confirms. It compares, for each site and each element, the
distances to the 12 nearest neighbours of that element; two structures are the same by it if every site of one has a
counterpart in the other whose distances agree within 0.25 Å in the mean, in cells of 15 Å3 a site.
"""

import argparse
import json
import lzma
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tltool.data import store
from tltool.data.download.locate import BUNDLED
from tltool.data.graph import neighbours
from tltool.data.overlap import crystal_index, structure_match
from tltool.data.overlap.fingerprint import fingerprint
from tltool.data.overlap.many_fingerprints import fingerprints
from tltool.data.overlap.mean_distances import scaled
from tltool.data.record import Crystal, Floats
from tltool.elements import number_of

Generator = np.random.Generator
AGREE = 0.25  # Å


def moved(crystal: Crystal, by: float, generator: Generator) -> Crystal:
    """Return ``crystal`` with each site moved by ``by`` Å in a direction of its own."""
    steps = generator.normal(size=crystal.frac.shape)
    steps *= by / np.linalg.norm(steps, axis=1, keepdims=True)
    return crystal._replace(frac=crystal.frac + steps @ np.linalg.inv(crystal.lattice))


def strained(crystal: Crystal, change: Floats, generator: Generator) -> Crystal:
    """Return ``crystal`` turned at random, then with its cell multiplied by ``change`` (3, 3)."""
    turn, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    return crystal._replace(lattice=crystal.lattice @ turn @ change)


def in_another_cell(crystal: Crystal, generator: Generator) -> Crystal:
    """Return ``crystal`` in another cell of its lattice, from another origin."""
    i, j = generator.permutation(3)[:2]
    change = np.eye(3)
    change[i, j] = generator.integers(-1, 2)
    frac = crystal.frac @ np.linalg.inv(change) + generator.random(3)
    return Crystal(change @ crystal.lattice, frac, crystal.numbers)


def doubled(crystal: Crystal, generator: Generator) -> Crystal:
    """Return two cells of ``crystal``, one beside the other."""
    axis = np.eye(3)[generator.integers(3)]
    frac = np.concatenate([crystal.frac, crystal.frac + axis]) / (1 + axis)
    return Crystal(crystal.lattice * (1 + axis)[:, None], frac, np.tile(crystal.numbers, 2))


STRETCH, SHEAR = np.diag([1.03, 1.0, 1.0]), np.eye(3) + 0.01 * np.eye(3, k=1)
COPIES: dict[str, Callable[[Crystal, Generator], Crystal]] = {
    "sites moved by 0.02 Å": lambda c, g: moved(c, 0.02, g),
    "sites moved by 0.05 Å": lambda c, g: moved(c, 0.05, g),
    "sheared by 1 %": lambda c, g: strained(c, SHEAR, g),
    "stretched by 3 % along one direction": lambda c, g: strained(c, STRETCH, g),
    "stretched by 3 %, sites moved by 0.05 Å": lambda c, g: moved(strained(c, STRETCH, g), 0.05, g),
    "doubled cell, sites moved by 0.05 Å": lambda c, g: moved(doubled(c, g), 0.05, g),
}


def recall(crystals: Sequence[Crystal], generator: Generator) -> None:
    """Print for each kind of copy how many have another fingerprint, and how many are found all the same."""
    rows = np.arange(len(crystals))
    known = [fingerprint(crystal) for crystal in crystals]
    print(f"Recall: copies of {len(crystals):,} crystals")
    for name, change in COPIES.items():
        copies = [in_another_cell(change(crystal, generator), generator) for crystal in crystals]
        alike = np.array([mine == fingerprint(copy) for mine, copy in zip(known, copies, strict=True)])
        start = time.perf_counter()
        same = structure_match.compared(copies, crystals, rows, rows, alike, len(rows)).same
        each = 1000 * (time.perf_counter() - start) / len(rows)
        print(
            f"  {name:<42} other fingerprint {np.mean(~alike):6.1%}   found {same.mean():6.1%}   {each:.1f} ms a pair",
            flush=True,
        )


def surroundings(crystal: Crystal) -> dict[int, Floats]:
    """Return for each element (n, k): of each site the 12 nearest distances to every element, scaled cells."""
    crystal = scaled(crystal)
    elements, counts = np.unique(crystal.numbers, return_counts=True)
    n, reach = len(crystal.numbers), 1.0
    wanted = 12 * n / counts.min()
    reach = 1.3 * (3 * wanted * 15.0 / (4 * np.pi)) ** (1 / 3)
    found = neighbours.find(crystal, reach, None, "strict")
    parts = []
    for element in elements:
        length = np.full((n, 12), reach)
        chosen = np.flatnonzero(crystal.numbers[found.neighbour] == element)
        site = found.site[chosen]
        rank = np.arange(len(site)) - np.searchsorted(site, np.arange(n))[site]
        length[site[rank < 12], rank[rank < 12]] = found.distance[chosen[rank < 12]]
        parts.append(length)
    table = np.concatenate(parts, axis=1)
    return {int(z): table[crystal.numbers == z] for z in elements}


def agreement(first: Crystal, second: Crystal) -> float:
    """Return the mean difference (Å) of the distances of that site whose best counterpart is worst."""
    one, two = surroundings(first), surroundings(second)
    worst = 0.0
    for element in one:
        apart = np.array([np.abs(row - two[element]).mean(axis=1) for row in one[element]])
        worst = max(worst, apart.min(axis=1).max(), apart.min(axis=0).max())
    return worst


def precision(
    names: Sequence[str], crystals: Sequence[Crystal], energies: Floats, workers: int, generator: Generator, most: int
) -> None:
    """Print how many of at most ``most`` pairs of one formula the audit calls the same, and how many of these are."""
    prints = fingerprints(crystals, workers)
    first, second = crystal_index.pairs(prints, prints, formula=True)
    chosen = generator.permutation(np.flatnonzero(first < second))[:most]
    first, second = first[chosen], second[chosen]
    alike = prints[first] == prints[second]
    start = time.perf_counter()
    places = np.arange(len(first))
    found = structure_match.compared(_Of(crystals, first), crystals, places, second, alike, len(places))
    seconds = time.perf_counter() - start
    flagged = np.flatnonzero(found.same)
    print(f"Precision: {len(first):,} pairs of one formula in {len(crystals):,} crystals, {seconds:.0f} s")
    n_alike = int(alike[flagged].sum())
    print(f"  not compared {np.sum(~found.known):,}; called the same {len(flagged):,}, of one prototype {n_alike:,}")
    if not len(flagged):
        return
    measured = []
    for pair in flagged.tolist():
        i, j = int(first[pair]), int(second[pair])
        apart, energy = agreement(crystals[i], crystals[j]), abs(energies[i] - energies[j])
        measured.append(apart)
        if apart > AGREE:
            print(f"  not confirmed: {names[i]} {names[j]}, {apart:.2f} Å, {1000 * energy:.0f} meV/atom apart")
    gaps = np.abs(energies[first] - energies[second])
    middle, high = np.percentile(measured, [50, 95])
    print(
        f"  confirmed {np.mean(np.array(measured) <= AGREE):.1%}; median {middle:.2f} Å, 95th percentile {high:.2f} Å"
    )
    others = generator.permutation(np.flatnonzero(~found.same))[: len(flagged)]
    alike_ = [agreement(crystals[int(first[pair])], crystals[int(second[pair])]) <= AGREE for pair in others.tolist()]
    print(f"  by the same criterion {np.mean(alike_):.1%} of {len(others):,} other pairs of one formula are the same")
    print(
        f"  e_form apart by more than 25 meV/atom: {np.mean(gaps[flagged] > 0.025):.1%} of those called the same, "
        f"{np.mean(np.delete(gaps, flagged) > 0.025):.1%} of the others"
    )


class _Of:
    """Crystals by their place in ``rows``."""

    def __init__(self, crystals: Sequence[Crystal], rows: np.ndarray) -> None:
        self._crystals, self._rows = crystals, rows

    def __getitem__(self, place: int) -> Crystal:
        return self._crystals[int(self._rows[place])]


def read(path: Path) -> tuple[list[str], list[Crystal], Floats]:
    """Return ids, crystals and formation energies (eV/atom) of a JSON-lines file, .xz or not, or of a store."""
    if path.suffix == ".h5":
        data = store.load(path)
        return list(data.ids), [data.crystal(row) for row in range(len(data))], np.asarray(data.label("e_form"))
    text = lzma.decompress(path.read_bytes()).decode() if path.suffix == ".xz" else path.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    crystals = [
        Crystal(np.array(r["lattice"]), np.array(r["frac_coords"]), np.array([number_of(s) for s in r["species"]]))
        for r in rows
    ]
    return [r["material_id"] for r in rows], crystals, np.array([r["formation_energy_per_atom"] for r in rows])


def main(arguments: list[str] | None = None) -> None:
    """Measure recall and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=BUNDLED / "demo.h5", help="a store, or JSON lines as mp36k.jsonl.xz"
    )
    parser.add_argument("--copies", type=int, default=500, help="crystals that are copied")
    parser.add_argument("--pairs", type=int, default=100_000, help="pairs of one formula at most")
    parser.add_argument("--quick", action="store_true", help="20 crystals and 20 pairs")
    parser.add_argument("--workers", type=int, default=2, help="processes that find fingerprints")
    options = parser.parse_args(arguments)
    copies, pairs = (20, 20) if options.quick else (options.copies, options.pairs)
    names, crystals, energies = read(options.data)
    if options.quick:
        names, crystals, energies = names[:400], crystals[:400], energies[:400]
    generator = np.random.default_rng(0)
    recall([crystals[row] for row in generator.permutation(len(crystals))[:copies].tolist()], generator)
    precision(names, crystals, energies, options.workers, generator, pairs)


if __name__ == "__main__":
    main()
