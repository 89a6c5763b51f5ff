"""Decide whether two crystals with the same formula are the same structure, also if one is slightly distorted.

pymatgen's StructureMatcher compares crystals with the same prototype: both are reduced to the primitive cell and scaled
to one volume. They are the same if their cells agree within 20 % in length and 5 degrees, and their sites, element by
element, within 0.1 (volume / site)^(1/3) root mean square, 0.25 Å at 15 Å3 per site. Crystals with different
prototypes, such as a copy with moved sites, must also have mean neighbour distances that agree within ``NEAR`` Å. Few
do, which makes the comparison fast. Sizes: p pairs.
"""

from collections.abc import Iterable
from functools import cache
from math import gcd
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tltool import interruption
from tltool.data.overlap.mean_distances import difference, mean_distances, scaled
from tltool.data.record import Crystal, Floats, Ints

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core.structure import Structure

NEAR = 0.1
"""Å: crystals of one formula and two prototypes whose mean neighbour distances differ by more are not the same."""

MOST_SITES = 300
"""Cells of more sites take seconds to reduce and are compared only with crystals of their own prototype."""

MOST_CELLS = 4
"""A crystal is looked for in supercells of up to so many of its primitive cells."""

_TRANSLATED = 0.5  # Å in the scaled cell: sites further from their image than this are not translated.


class Crystals(Protocol):
    """Anything that gives a crystal by its place."""

    def __getitem__(self, place: int, /) -> Crystal: ...


class Compared(NamedTuple):
    """Of each pair (p,) whether both are the ``same``, and whether that is ``known``; what is not known is not same."""

    same: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]


def confirm(target: Crystal, sources: Iterable[Crystal]) -> bool:
    """Say whether ``target`` is the same structure as any of ``sources``, of its formula and prototype."""
    structure = _structure(_reduced(target))
    return any(_fit(structure, _structure(_reduced(source))) for source in sources)


def compared(
    targets: Crystals, sources: Crystals, rows: Ints, source_rows: Ints, alike: npt.NDArray[np.bool_], most: int
) -> Compared:
    """Say for each of the pairs (p,) of one formula whether both are the same structure.

    ``alike`` (p,) says which have the same prototype. These come first, then the pairs whose mean distances are
    closest; at most ``most`` are compared site by site. Once a crystal of the target has been found to be the same as
    one of the source, its other pairs are not compared.
    """
    apart = _differences(targets, sources, rows, source_rows, alike)
    near = alike | (apart <= NEAR)
    order = np.lexsort((apart, ~alike))
    same, known = np.zeros(len(rows), dtype=bool), ~near
    found: set[int] = set()
    cells: dict[tuple[bool, int], Crystal | None] = {}
    compared_ = 0
    for pair in order[near[order]].tolist():
        interruption.check()
        row, source_row, alone = int(rows[pair]), int(source_rows[pair]), bool(alike[pair])
        if row in found or compared_ == most:
            continue
        first = _kept(cells, targets, (True, row), alone)
        second = _kept(cells, sources, (False, source_row), alone)
        if first is None or second is None:
            continue
        known[pair] = True
        # A distorted supercell may have no smaller cell; any other size is another structure.
        sizes = sorted((len(first.numbers), len(second.numbers)))
        if sizes[1] % sizes[0] == 0 and sizes[1] <= MOST_CELLS * sizes[0]:
            compared_ += 1
            same[pair] = _fit(_structure(first), _structure(second))
        if same[pair]:
            found.add(row)
    return Compared(same, known)


def _differences(
    targets: Crystals, sources: Crystals, rows: Ints, source_rows: Ints, alike: npt.NDArray[np.bool_]
) -> Floats:
    """Return (p,) by how much (Å) the mean distances of each pair differ; 0 where the prototype is the same."""
    apart = np.zeros(len(rows))
    others = np.flatnonzero(~alike)
    mine = {row: mean_distances(targets[row]) for row in np.unique(rows[others]).tolist()}
    theirs = {row: mean_distances(sources[row]) for row in np.unique(source_rows[others]).tolist()}
    for pair in others.tolist():
        apart[pair] = difference(mine[int(rows[pair])], theirs[int(source_rows[pair])])
    return apart


def _kept(
    cells: dict[tuple[bool, int], Crystal | None], crystals: Crystals, key: tuple[bool, int], any_size: bool
) -> Crystal | None:
    """Return the primitive cell of ``crystals[key[1]]``, found once; None if it is too large and not ``any_size``."""
    if cells.get(key) is None:
        crystal = crystals[key[1]]
        cells[key] = _reduced(crystal) if any_size or len(crystal.numbers) <= MOST_SITES else None
    return cells[key]


def _fit(first: "Structure", second: "Structure") -> bool:
    matcher = _matcher(supercell=len(first) != len(second))
    return bool(matcher.fit(first, second, skip_structure_reduction=True))


@cache
def _matcher(*, supercell: bool) -> "StructureMatcher":
    # Its import takes a second, and many runs compare nothing.
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(ltol=0.2, stol=0.1, angle_tol=5, scale=True, attempt_supercell=supercell)


def _structure(crystal: Crystal) -> "Structure":
    from pymatgen.core.structure import Structure

    return Structure(crystal.lattice, crystal.numbers.tolist(), crystal.frac)


def _reduced(crystal: Crystal) -> Crystal:
    """Return ``crystal`` in its primitive cell with short axes, scaled to one volume per site."""
    crystal = scaled(crystal)
    structure = _structure(crystal)
    # pymatgen's search for a smaller cell takes 50 times longer than seeing that there is none.
    if _has_translation(crystal):
        structure = structure.get_primitive_structure()
    structure = structure.get_reduced_structure("LLL")
    numbers = np.array([site.specie.Z for site in structure], dtype=np.int64)
    return Crystal(np.array(structure.lattice.matrix), np.array(structure.frac_coords), numbers)


def _has_translation(crystal: Crystal) -> bool:
    """Say whether a translation shorter than the cell brings every site near one of its element."""
    elements, counts = np.unique(crystal.numbers, return_counts=True)
    if gcd(*counts.tolist()) == 1:
        return False
    rarest = crystal.frac[crystal.numbers == elements[counts.argmin()]]
    shifts = rarest[1:] - rarest[0]
    for position, number in zip(crystal.frac, crystal.numbers, strict=True):
        apart = position + shifts[:, None] - crystal.frac[crystal.numbers == number]
        apart -= np.rint(apart)
        shifts = shifts[(np.linalg.norm(apart @ crystal.lattice, axis=-1) < _TRANSLATED).any(axis=1)]
        if not len(shifts):
            return False
    return True
