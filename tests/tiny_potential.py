"""A made-up potential through the contract of ``tltool.potentials``: a spring of the volume, and a few features."""

from pathlib import Path

import numpy as np
import pytest

from tltool import instantiate
from tltool.data.record import Crystal, Floats, cell_volume
from tltool.potentials import catalogue
from tltool.potentials.potential import Mechanics, Sites

YAML = """
package: numpy
trained_on: nothing
potential: {_target_: tiny_potential.Tiny, stiffness: 2.0}
"""
NEVER = 86
"""Radon is not among its elements."""


class Tiny:
    """Energy: ``stiffness`` times the square of what the volume per atom is away from 20 Å3, in eV/atom."""

    calls = 0

    def __init__(self, cache: Path, /, *, stiffness: float) -> None:
        self.stiffness, self.widths, self.version, self.digest = stiffness, (2, 3), "1", f"{stiffness:016f}"

    def sites(self, crystal: Crystal, /) -> Sites:
        if NEVER in crystal.numbers:
            raise ValueError("radon is not known")
        type(self).calls += 1
        z = crystal.numbers[:, None] / 10.0
        volume = np.full_like(z, cell_volume(crystal.lattice) / len(z))
        return Sites([np.hstack([z, z**2]), np.hstack([z, volume, np.sqrt(volume)])], self.energy(crystal))

    def energy(self, crystal: Crystal, /) -> float:
        return self.stiffness * (cell_volume(crystal.lattice) / len(crystal.numbers) - 20.0) ** 2

    def forces(self, crystal: Crystal, /) -> Floats:
        return np.zeros((len(crystal.numbers), 3))

    def mechanics(self, crystal: Crystal, /) -> Mechanics:
        return Mechanics(self.energy(crystal), self.forces(crystal), np.zeros((3, 3)))


def install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let tltool know the potential ``tiny`` for the rest of a test, from a YAML in ``folder``."""
    (folder / "tiny.yaml").write_text(YAML)
    monkeypatch.setattr(catalogue, "_folder", lambda: folder)
    monkeypatch.setattr(catalogue, "names", lambda: tuple(path.stem for path in sorted(folder.glob("*.yaml"))))
    monkeypatch.setitem(instantiate.PLACES, "potential", ("tiny_potential.", "tltool.potentials."))
    monkeypatch.setattr(Tiny, "calls", 0)
