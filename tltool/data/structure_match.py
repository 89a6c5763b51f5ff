"""Whether two crystals are the same structure, by pymatgen's StructureMatcher.

Both are reduced to the primitive cell and scaled to one volume. They are the same if their cells agree within 20 % in
length and 5 degrees, and their sites, element by element, within 0.3 (volume / site)^(1/3) root mean square. These are
pymatgen's defaults, by which a slightly distorted structure is the same as the undistorted one.
"""

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from tltool.data.record import Crystal, Ints

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core.structure import Structure


class Crystals(Protocol):
    """Anything that gives a crystal by its place."""

    def __getitem__(self, place: int, /) -> Crystal: ...


def confirm(target: Crystal, sources: Iterable[Crystal]) -> bool:
    """Say whether ``target`` is the same structure as any of ``sources``, crystals of the same reduced formula."""
    structure = _structure(target)
    return any(bool(_matcher().fit(structure, _structure(source))) for source in sources)


def compared(targets: Crystals, sources: Crystals, rows: Ints, source_rows: Ints) -> npt.NDArray[np.bool_]:
    """Say for each of the pairs (p,) from ``overlap.pairs`` whether both are the same structure.

    ``targets`` and ``sources`` may be anything that gives a crystal by row. Once a crystal of the target has been found
    to be the same as one of the source, its other pairs are not compared and count as not the same.
    """
    same = np.zeros(len(rows), np.bool_)
    found: set[int] = set()
    for pair, (row, source_row) in enumerate(zip(rows.tolist(), source_rows.tolist(), strict=True)):
        if row not in found and confirm(targets[row], [sources[source_row]]):
            found.add(row)
            same[pair] = True
    return same


@cache
def _matcher() -> "StructureMatcher":
    # Its import takes a second, and many runs compare nothing.
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(ltol=0.2, stol=0.3, angle_tol=5, primitive_cell=True, scale=True)


def _structure(crystal: Crystal) -> "Structure":
    from pymatgen.core.structure import Structure

    return Structure(crystal.lattice, crystal.numbers.tolist(), crystal.frac)
