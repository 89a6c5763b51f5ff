"""What can be predicted: the name of a quantity fixes its unit.

A store holds labels under these names in these units; an adapter converts. A quantity that is the logarithm of
another (moduli span three decades) is derived when labels are read, and is reported in both units.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from tltool.errors import ConfigError, nearest


class Quantity(NamedTuple):
    """A quantity: ``name``, ``unit``, what it means, the quantity it is the log10 of, if any, and if it is a class.

    A label below ``least`` or above ``most`` is an error of its source, such as another unit or a calculation that
    failed, and is not used. A class is 1 or 0 as a label; a prediction of 0.5 and more says 1. What ``spans`` decades
    and is positive is learnt as its logarithm and reported as it is.
    """

    name: str
    unit: str
    meaning: str
    least: float
    most: float
    log10_of: str | None = None
    is_class: bool = False
    spans: bool = False


class Quantities(Mapping[str, Quantity]):
    """A table of quantities by name, which nobody can change; raise ConfigError if two have one name."""

    def __init__(self, table: Iterable[Quantity]) -> None:
        table = tuple(table)
        self._table = {quantity.name: quantity for quantity in table}
        if len(self._table) < len(table):
            twice = next(q.name for n, q in enumerate(table) if q.name in {other.name for other in table[:n]})
            raise ConfigError(f"There are two quantities called {twice!r}; give one of them another name.")

    def __getitem__(self, name: str) -> Quantity:
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def named(self, name: str) -> Quantity:
        """Return the quantity called ``name``; raise ConfigError, with the nearest names, if there is none."""
        if name not in self._table:
            raise ConfigError(f"Unknown quantity {name!r}.{nearest(name, self._table)}")
        return self._table[name]


_TABLE = (
    Quantity("e_form", "eV/atom", "formation energy", -7, 20),
    Quantity("e_form_cell", "eV/cell", "formation energy of the unit cell", -10_000, 10_000),
    Quantity("e_above_hull", "eV/atom", "energy above the convex hull", -10, 20),
    Quantity("energy", "eV/atom", "total energy", -2_000_000, 10_000),
    Quantity("volume", "Å3/atom", "volume", 0.5, 100_000),
    Quantity("gap", "eV", "band gap (indirect)", -1, 50),
    Quantity("gap_direct", "eV", "direct band gap", -1, 50),
    Quantity("gap_measured", "eV", "band gap, measured: for data that hold calculated ones too", -1, 50),
    Quantity("is_metal", "1", "1 for a metal, 0 for any other crystal", 0, 1, is_class=True),
    Quantity("magnetisation", "μB/atom", "magnetisation", -20, 20),
    Quantity("dos_ef", "states/eV/atom", "density of states at the Fermi level", -10, 1_000),
    Quantity("K_VRH", "GPa", "bulk modulus, Voigt-Reuss-Hill average", -1_000, 10_000),
    Quantity("G_VRH", "GPa", "shear modulus, Voigt-Reuss-Hill average", -1_000, 10_000),
    Quantity("log10_K_VRH", "log10(GPa)", "log10 of the bulk modulus", -6, 4, log10_of="K_VRH"),
    Quantity("log10_G_VRH", "log10(GPa)", "log10 of the shear modulus", -6, 4, log10_of="G_VRH"),
    Quantity("elastic_anisotropy", "1", "universal elastic anisotropy index", -1_000_000, 1_000_000),
    Quantity("poisson_ratio", "1", "isotropic Poisson ratio", -10, 10),
    Quantity("refractive_index", "1", "refractive index", 0, 1_000, spans=True),
    Quantity("eps_electronic", "1", "polycrystalline dielectric constant, electronic part", 0, 1_000_000, spans=True),
    Quantity("eps_total", "1", "polycrystalline dielectric constant, electronic and ionic", 0, 1_000_000, spans=True),
    Quantity("log10_eps_total", "log10(1)", "log10 of the dielectric constant", -1, 6, log10_of="eps_total"),
    Quantity("piezoelectric_modulus", "C/m2", "largest piezoelectric response", -1_000, 1_000),
    Quantity(
        "phonon_peak", "1/cm", "frequency of the last peak of the phonon density of states", 0, 10_000, spans=True
    ),
    Quantity("debye_temperature", "K", "Debye temperature", 0, 10_000),
    Quantity(
        "omega_log",
        "K",
        "logarithmic average of the phonon frequencies, weighted by the coupling, times h/k",
        0,
        10_000,
    ),
    Quantity("electron_phonon_coupling", "1", "electron-phonon coupling constant (lambda)", 0, 100),
    Quantity("critical_temperature", "K", "critical temperature of superconductivity", 0, 1_000),
    Quantity("exfoliation_energy", "meV/atom", "exfoliation energy", -1_000, 20_000),
)

QUANTITIES = Quantities(_TABLE)
"""The quantities that tltool ships."""


def quantity(name: str, known: Quantities = QUANTITIES) -> Quantity:
    """Return the quantity called ``name`` of those that are ``known``; raise ConfigError if there is none."""
    return known.named(name)
