"""The largest phonon frequency of a crystal, from finite displacements in a supercell, by phonopy.

The Gamma point of the cell alone is not enough: acoustic and optical branches of small cells have their maxima
elsewhere. The supercell has the zone boundary among its wave vectors.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from tltool.data.record import Crystal, Floats
from tltool.potentials.potential import Potential

if TYPE_CHECKING:
    from phonopy.structure.atoms import PhonopyAtoms

_HEIGHT = 6.0
"""Å: least distance of opposite faces of the supercell."""
_DISPLACED = 0.01  # Å
_TO_CM = 33.35641  # of THz


def zone_maximum(potential: Potential, crystal: Crystal) -> float:
    """Return the largest frequency in 1/cm at the wave vectors that fit the supercell; negative if imaginary.

    Raise ValueError as ``potential`` does.
    """
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(numbers=crystal.numbers.tolist(), cell=crystal.lattice, scaled_positions=crystal.frac)
    times = repeats(crystal.lattice)
    made = Phonopy(cell, np.diag(times), primitive_matrix=np.eye(3), log_level=0)
    made.generate_displacements(distance=_DISPLACED)
    made.forces = [_forces(potential, one) for one in made.supercells_with_displacements or ()]
    made.produce_force_constants()
    made.symmetrize_force_constants()
    grid = np.stack(np.meshgrid(*[np.arange(n) / n for n in times], indexing="ij"), axis=-1).reshape(-1, 3)
    made.run_qpoints(grid)
    found = made.qpoints
    if found is None:
        raise ValueError("phonopy found no frequencies")
    return float(np.max(found.frequencies)) * _TO_CM


def repeats(lattice: Floats) -> tuple[int, int, int]:
    """Return how often the cell with these rows (3, 3) in Å stands along each of its vectors: twice or more."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    first, second, third = (max(2, math.ceil(_HEIGHT / height)) for height in heights)
    return first, second, third


def _forces(potential: Potential, cell: "PhonopyAtoms") -> Floats:
    numbers = np.asarray(cell.numbers, dtype=np.int64)
    return potential.forces(Crystal(np.asarray(cell.cell), np.asarray(cell.scaled_positions), numbers))
