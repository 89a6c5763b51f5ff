"""The energy of a crystal at several volumes: bulk modulus and equilibrium volume, as a potential predicts them.

The cell is scaled and the positions in it stay, so for crystals with free positions the bulk modulus is an upper bound.
"""

from typing import NamedTuple

import numpy as np

from tltool.data.record import Crystal, Floats, cell_volume
from tltool.potentials.potential import Potential

STRAINS = (-0.06, -0.03, 0.0, 0.03, 0.06)
"""Relative changes of the volume."""
_TO_GPA = 160.21766208  # of eV/Å3
_DEGREE = 3


class Elastic(NamedTuple):
    """``bulk_modulus`` in GPa, and the equilibrium ``volume`` in Å3/atom.

    ``at_minimum``: the energy has its minimum between the volumes; else both are those at the given volume.
    """

    bulk_modulus: float
    volume: float
    at_minimum: bool


def elastic(potential: Potential, crystal: Crystal) -> Elastic:
    """Return what the energies of ``crystal`` at ``STRAINS`` say, by the equation of state of Birch and Murnaghan.

    Birch, Phys. Rev. 71, 809 (1947): the energy is a polynomial of the third degree in volume^(-2/3). The bulk modulus
    may be negative where the energy has no minimum. Raise ValueError as ``potential`` does.
    """
    given = cell_volume(crystal.lattice) / len(crystal.numbers)
    volumes = given * (1.0 + np.array(STRAINS))
    energies = [potential.energy(_scaled(crystal, 1.0 + strain)) for strain in STRAINS]
    return _fitted(volumes, np.array(energies), given)


def _scaled(crystal: Crystal, volume: float) -> Crystal:
    return crystal._replace(lattice=crystal.lattice * np.cbrt(volume))


def _fitted(volumes: Floats, energies: Floats, given: float) -> Elastic:
    """Return the result for ``energies`` (k,) in eV/atom at ``volumes`` (k,) in Å3/atom."""
    x = (volumes / given) ** (-2 / 3)
    curve = np.polynomial.Polynomial.fit(x, energies, _DEGREE)
    slope, bend = curve.deriv(1), curve.deriv(2)
    low, high = x.min(), x.max()
    roots = [float(r.real) for r in slope.roots() if abs(r.imag) < 1e-9 and low <= r.real <= high and bend(r.real) > 0]
    at = min(roots, key=lambda r: float(curve(r)), default=1.0)
    # dx/dV = -2/3 x/V and d2x/dV2 = 10/9 x/V2, with V of this x.
    volume = given * at**-1.5
    curvature = float(bend(at)) * (2 / 3 * at / volume) ** 2 + float(slope(at)) * 10 / 9 * at / volume**2
    return Elastic(volume * curvature * _TO_GPA, volume, bool(roots))
