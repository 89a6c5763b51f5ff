"""What a frozen potential gives to a transfer: the contract of the modules beside this one.

A potential is a network that somebody trained on energies and forces of many crystals. tltool never trains it: it
computes features of each crystal once, and they are cached. A new potential is one module with a class like the ones
here, and one YAML in ``configs/potential``. Sizes: s sites of a crystal.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tltool.data.record import Crystal, Floats


class Sites(NamedTuple):
    """What a potential says of a crystal.

    ``levels`` has the features (s, width) of the sites at each level, level 0 before any message passing, and
    ``energy`` the predicted energy in eV/atom.
    """

    levels: list[Floats]
    energy: float


class Mechanics(NamedTuple):
    """``energy`` in eV/atom, ``forces`` (s, 3) in eV/Å on the sites, ``stress`` (3, 3) in GPa, positive in tension."""

    energy: float
    forces: Floats
    stress: Floats


class Potential(Protocol):
    """A potential with its weights; a class of it takes the folder of the cache, and the keys of its YAML.

    ``widths`` are the numbers of features of the levels. ``version`` is that of the package, and ``digest`` changes
    with the weights. All methods raise ValueError, with the reason, for a crystal that the potential cannot do.
    """

    widths: Sequence[int]
    version: str
    digest: str

    def sites(self, crystal: Crystal, /) -> Sites:
        """Return the features of the sites of ``crystal`` and its energy."""

    def energy(self, crystal: Crystal, /) -> float:
        """Return the energy of ``crystal`` in eV/atom."""

    def forces(self, crystal: Crystal, /) -> Floats:
        """Return the forces (s, 3) on the sites of ``crystal`` in eV/Å."""

    def mechanics(self, crystal: Crystal, /) -> Mechanics:
        """Return energy, forces and stress of ``crystal``."""
