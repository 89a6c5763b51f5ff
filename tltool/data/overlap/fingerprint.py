"""The fingerprint of a crystal: a number for its reduced formula and structure prototype; the only import of moyopy.

The prototype is the space group and the Wyckoff positions of each element. It does not depend on the description of the
crystal: mirror images count as one, and the choice of origin and axes is removed (Parthé and Gelato,
doi:10.1107/S0108767384000416). Crystals with one fingerprint have the same prototype, but free coordinates and the
shape of the cell may differ: ``structure_match.py`` decides whether they are the same structure.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tltool.data.record import Crystal, reduced

if TYPE_CHECKING:
    import moyopy

UInts = npt.NDArray[np.uint64]

RECIPE = 1
"""Goes up with every change that gives a crystal another fingerprint, a new convention of moyopy included."""

PROTOTYPE_BITS = 24
"""Low bits that tell the prototype, 0 if it is unknown; the 40 above them tell the reduced formula."""

_SYMPREC = 0.1  # Å in the scaled cell: the least that forgives displacements of 0.03 Å.
_VOLUME = 15.0  # Å3 per site, to which the cell is scaled, so that a change of volume alone changes nothing.
_TETRAGONAL = 75  # First space group whose axes no other choice can exchange.
_MIRRORED = {78: 76, 95: 91, 96: 92, 145: 144, 153: 151, 154: 152, 170: 169, 172: 171, 179: 178, 181: 180, 213: 212}

Positions = tuple[tuple[int, str, int], ...]
# For a space group and the Wyckoff letters in use: every way in which another origin or axes would letter them. Finding
# out takes ten times longer than finding the symmetry, and few combinations occur.
_letterings: dict[tuple[int, frozenset[str]], list[dict[str, str]]] = {}

# A supercell or a failed search is nothing that a user could act on; the fingerprint says what had to be said.
logging.getLogger("moyo").setLevel(logging.CRITICAL + 1)


def fingerprint(crystal: Crystal) -> int:
    """Return the fingerprint of ``crystal``, 64 bits.

    If no symmetry can be found (sites that coincide, a formula alone), the prototype is unknown: ``PROTOTYPE_BITS``.
    """
    formula = list(reduced(crystal.numbers, crystal.amounts).items())
    high = _hash(formula, 64 - PROTOTYPE_BITS) << PROTOTYPE_BITS
    found = _found(crystal)
    # Zero is taken; the one prototype in 2**24 that would get it shares 1 with another.
    return high if found is None else high | max(_hash(found, PROTOTYPE_BITS), 1)


def in_order(crystals: Iterable[Crystal]) -> UInts:
    """Return the fingerprints (n,) of ``crystals``."""
    return np.fromiter(map(fingerprint, crystals), np.uint64)


def _found(crystal: Crystal) -> tuple[int, Positions] | None:
    if crystal.amounts is not None:
        return None
    try:
        return _prototype(crystal)
    except BaseException as error:
        # A panic in Rust is no Exception, and no reason to lose the other crystals; Ctrl-C is none either and goes on.
        if isinstance(error, ValueError) or type(error).__name__ == "PanicException":
            return None
        raise


def _prototype(crystal: Crystal) -> tuple[int, Positions]:
    """Return the space group, and element, position and number of sites in the conventional cell of each orbit."""
    import moyopy

    n = len(crystal.numbers)
    scale = (_VOLUME * n / abs(np.linalg.det(crystal.lattice))) ** (1 / 3)
    numbers = crystal.numbers.tolist()
    cell = moyopy.Cell((crystal.lattice * scale).tolist(), crystal.frac.tolist(), numbers)
    found = moyopy.MoyoDataset(cell, symprec=_SYMPREC)
    share = found.std_cell.num_atoms / n
    group = _MIRRORED.get(found.number, found.number)
    if found.number < _TETRAGONAL:
        # Here the axes may be exchanged, which moyopy's normaliser leaves out: the kind of the position must do.
        kinds = ["".join(sorted(symbol.replace(".", ""))) for symbol in found.site_symmetry_symbols]
        return group, _positions(Counter(zip(numbers, kinds, strict=True)), share, {})
    sites = Counter(zip(numbers, found.wyckoffs, strict=True))
    return group, min(_positions(sites, share, lettering) for lettering in _other_letterings(found))


def structure_type(crystal: Crystal) -> int:
    """Return a number for the space group and filled positions whatever the elements are; 0 if no symmetry is found."""
    found = _found(crystal)
    if found is None:
        return 0
    group, positions = found
    of_element: dict[int, list[tuple[str, int]]] = {}
    for number, name, count in positions:
        of_element.setdefault(number, []).append((name, count))
    return max(_hash((group, sorted(map(sorted, of_element.values()))), 64), 1)


def space_group(crystal: Crystal) -> int:
    """Return the number of the space group, that of the mirror image if it is smaller; 0 if no symmetry is found."""
    found = _found(crystal)
    return 0 if found is None else found[0]


def _positions(sites: Counter[tuple[int, str]], share: float, lettering: dict[str, str]) -> Positions:
    return tuple(sorted((z, lettering.get(name, name), round(count * share)) for (z, name), count in sites.items()))


def _other_letterings(found: "moyopy.MoyoDataset") -> list[dict[str, str]]:
    key = found.number, frozenset(found.wyckoffs)
    if key not in _letterings:
        choices = found.normalizer_wyckoff_positions()
        now = [position.letter for position in choices.wyckoffs]
        _letterings[key] = [
            {old: new.letter for old, new in zip(now, then, strict=True)} for _, then in choices.coset_representatives
        ]
    return _letterings[key]


def _hash(value: object, bits: int) -> int:
    return int.from_bytes(blake2b(repr(value).encode(), digest_size=bits // 8).digest())
