"""Read a crystal from POSCAR or CONTCAR text, as VASP does.

The lines are: a comment; a factor (negative: the volume of the cell; three: one for each axis); three cell vectors;
symbols; as many counts; optionally ``Selective dynamics``; ``Direct`` or ``Cartesian``; the positions. Later lines are
not read.
"""

import re

import numpy as np

from tltool.data.formats import species
from tltool.data.record import Crystal, Floats, Ints, checked
from tltool.errors import DataError

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?")


def crystal(text: str, where: str) -> Crystal:
    """Return the crystal of a POSCAR's text; raise DataError naming ``where`` and the line that is wrong."""
    lines = text.lstrip("\ufeff").splitlines()
    if len(lines) < 8:
        raise DataError(f"{where}: has only {len(lines)} lines, too few for a POSCAR; complete it.")
    factors = _numbers(lines, 1, 1, "one factor or three", where)
    lattice = np.array([_numbers(lines, n, 3, "three numbers of a cell vector", where)[:3] for n in (2, 3, 4)])
    scale = _scale(factors, lattice, where)
    lattice = lattice * scale
    numbers, at = _sites(lines, where)
    if lines[at].strip()[:1] in ("S", "s"):
        at += 1
    mode = lines[at].strip()[:1].upper() if at < len(lines) else ""
    if mode not in ("D", "C", "K"):
        raise DataError(f"{where}: line {at + 1}, before the positions, must be Direct or Cartesian; add that line.")
    rows = lines[at + 1 : at + 1 + len(numbers)]
    if len(rows) < len(numbers):
        raise DataError(f"{where}: has {len(rows)} positions, but the counts add up to {len(numbers)}; complete it.")
    position = np.array([_numbers(lines, at + 1 + n, 3, "a position", where)[:3] for n in range(len(rows))])
    if mode == "D":
        return checked(Crystal(lattice, position, numbers), where)
    whole = checked(
        Crystal(lattice, np.zeros_like(position), numbers), where
    )  # raises an error if the cell cannot be inverted
    return checked(whole._replace(frac=np.linalg.solve(lattice.T, (position * scale).T).T), where)


def _scale(factors: list[float], lattice: Floats, where: str) -> Floats:
    """Return the factor of each Cartesian axis (3,)."""
    if len(factors) >= 3:
        factors = factors[:3]
        if min(factors) <= 0:
            raise DataError(f"{where}: line 2 has three factors, and one of them is not positive; correct it.")
        return np.array(factors)
    factor = factors[0]
    if factor < 0:
        volume = abs(np.linalg.det(lattice))
        if not volume > 0:
            raise DataError(f"{where}: the volume of the cell is zero; check the lattice vectors.")
        factor = (-factor / volume) ** (1 / 3)
    if not factor:
        raise DataError(f"{where}: the factor in line 2 is zero; correct it.")
    return np.full(3, factor)


def _sites(lines: list[str], where: str) -> tuple[Ints, int]:
    """Return the atomic number of every site (n,), and the index of the line after the counts."""
    words = lines[5].split()
    if not words or words[0].isdigit():
        raise DataError(f"{where}: has no line with the symbols of the elements before the counts; add it.")
    counts = []
    for word in lines[6].split():
        if not word.isdigit():
            break  # a remark may follow
        counts.append(int(word))
    if len(counts) != len(words):
        raise DataError(
            f"{where}: has {len(words)} elements ({' '.join(words)[:60]}), but {len(counts)} counts; correct them."
        )
    if not 0 < sum(counts) <= len(lines):
        raise DataError(
            f"{where}: the counts add up to {sum(counts):,} positions, but the text has {len(lines):,} lines; complete "
            "the positions or correct the counts."
        )
    # Sr_sv and Si/0f3c8a are names of potentials.
    numbers = [species.number(re.split(r"[_/.]", word)[0]) for word in words]
    for word, number in zip(words, numbers, strict=True):
        if not number:
            raise DataError(f"{where}: {word[:20]!r} in line 6 is not an element; remove or replace it.")
    return np.repeat(np.array(numbers, dtype=np.int64), counts), 7


def _numbers(lines: list[str], at: int, least: int, what: str, where: str) -> list[float]:
    """Return the numbers at the start of line ``at``; raise DataError if there are fewer than ``least``."""
    found: list[float] = []
    for word in lines[at].split():
        if not _NUMBER.fullmatch(word):
            break
        found.append(float(word.upper().replace("D", "E")))
    if len(found) < least:
        raise DataError(f"{where}: line {at + 1} must have {what}, but is {lines[at].strip()[:40]!r}; correct it.")
    return found
