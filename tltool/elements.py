"""Known properties of each element, from ``elements.csv`` (made by scripts/build_elements.py).

The table is pymatgen's element data. ``properties`` gives it as numbers; ``descriptors`` bins it as the atom features
of CGCNN do (Xie and Grossman, doi:10.1103/PhysRevLett.120.145301, supplement): group, period, electronegativity,
covalent radius, valence electrons, first ionisation energy, electron affinity, block, molar volume. ``matscholar``
gives word vectors instead (``matscholar.npz``, made by scripts/build_matscholar.py).
"""

import csv
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_CONTINUOUS = ("electronegativity", "radius", "ionisation_energy", "electron_affinity", "volume")
_LOGARITHMIC = ("ionisation_energy", "volume")
_BINS = 10

PROPERTIES = ("group", "period", *_CONTINUOUS, "valence_electrons", "mass")


class Place(NamedTuple):
    """Where an element stands in the periodic table: group 1 to 18, period 1 to 7, block s, p, d or f."""

    number: int
    group: int
    period: int
    block: str


@cache
def _rows() -> list[dict[str, str]]:
    text = files("tltool").joinpath("elements.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def symbol(number: int) -> str:
    """Return the symbol of the element with atomic number ``number`` (1 to 118)."""
    return _rows()[number - 1]["symbol"]


@cache
def _numbers() -> dict[str, int]:
    return {row["symbol"]: int(row["number"]) for row in _rows()} | {"D": 1, "T": 1}


def number_of(word: str) -> int:
    """Return the atomic number of the element with symbol ``word``, 0 if there is none; D and T are hydrogen."""
    return _numbers().get(word, 0)


@cache
def places() -> dict[str, Place]:
    """Return {symbol: place} in order of atomic number."""
    return {
        row["symbol"]: Place(int(row["number"]), int(row["group"]), int(row["period"]), row["block"]) for row in _rows()
    }


def symbols(numbers: "list[int] | set[int]") -> str:
    """Return the symbols of ``numbers`` in order of atomic number, separated by blanks."""
    return " ".join(symbol(number) for number in sorted(numbers))


@cache
def properties() -> npt.NDArray[np.float32]:
    """Return (119, 9) numbers, row = atomic number (row 0 zeros), the median of all elements where one is unknown.

    Columns as in ``PROPERTIES``; ionisation energy and electron affinity in eV, radius in Å, volume in cm3/mol, mass as
    the natural logarithm of u.
    """
    words = [[row[name] or "nan" for name in PROPERTIES] for row in _rows()]
    table = np.array(words, dtype=np.float64)
    table[:, PROPERTIES.index("mass")] = np.log(table[:, PROPERTIES.index("mass")])
    table = np.where(np.isfinite(table), table, np.nanmedian(table, axis=0))
    return np.concatenate([np.zeros_like(table[:1]), table]).astype(np.float32)


@cache
def masses() -> npt.NDArray[np.float64]:
    """Return (119,) atomic masses in u by atomic number, 0 for none."""
    return np.array([0.0, *(float(row["mass"]) for row in _rows())])


@cache
def covalent_radii() -> npt.NDArray[np.float64]:
    """Return (119,) covalent radii in Å by atomic number (Cordero and others, doi:10.1039/b801115j), 0 for none."""
    return np.array([0.0, *(float(row["covalent_radius"]) for row in _rows())])


@cache
def descriptors() -> npt.NDArray[np.float32]:
    """Return (119, n) zeros and ones, row = atomic number (row 0 empty): one hot bin per property, none if unknown."""
    parts = [_one_hot("group", range(1, 19)), _one_hot("period", range(1, 8))]
    parts += [_binned(name) for name in _CONTINUOUS]
    parts += [_one_hot("valence_electrons", range(1, 13)), _one_hot("block", ("s", "p", "d", "f"))]
    table = np.concatenate(parts, axis=1)
    return np.concatenate([np.zeros_like(table[:1]), table])


@cache
def matscholar() -> npt.NDArray[np.float32]:
    """Return (119, 200) word vectors of length 1, row = atomic number (row 0 zeros).

    Word2vec on abstracts of materials science, Weston and others, doi:10.1021/acs.jcim.9b00470, as CGAT and Roost use
    them. Elements from 104 on have none there and get the mean of the others.
    """
    with files("tltool").joinpath("matscholar.npz").open("rb") as file:
        vectors = np.load(file)["vectors"]
    table = np.zeros((119, vectors.shape[1]), dtype=np.float32)
    table[1:] = vectors.mean(0)
    table[1 : len(vectors) + 1] = vectors
    return table


def _one_hot(name: str, words: "range | tuple[str, ...]") -> npt.NDArray[np.float32]:
    return np.array([[row[name] == str(word) for word in words] for row in _rows()], dtype=np.float32)


def _binned(name: str) -> npt.NDArray[np.float32]:
    values = np.array([float(row[name] or "nan") for row in _rows()])
    if name in _LOGARITHMIC:
        values = np.log(values)
    edges = np.linspace(np.nanmin(values), np.nanmax(values), _BINS + 1)[1:-1]
    bins = np.where(np.isfinite(values), np.digitize(values, edges), -1)
    hot: npt.NDArray[np.float32] = (bins[:, None] == np.arange(_BINS)).astype(np.float32)
    return hot
