"""Ids that mean the same crystal in every data set, as 64-bit numbers.

The number of an id of the Materials Project, Alexandria, OQMD or ICSD contains its registry, digits and leading zeros,
so that the id can be written again. Any other shared name (a ``mat_id``, a row of Matbench) becomes a hash. The id of a
file in a folder has no meaning elsewhere and becomes 0.
"""

import re
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from tltool.data.overlap.fingerprint import UInts

_REGISTRIES = ("mp-", "mvc-", "agm", "oqmd-", "icsd-")  # The order is part of the number: append only.
_NUMBERED = re.compile(rf"({'|'.join(_REGISTRIES)})(\d{{1,15}})", re.ASCII)
_LETTERED = re.compile(r"mp-([a-z]{6,10})")
_MATBENCH = re.compile(r"mb-[a-z0-9_-]+")
_HASHED = 1 << 63
_REGISTRY_BIT, _WIDTH_BIT = 57, 52


def codes(ids: Sequence[str], mat_ids: Sequence[str] | None) -> UInts:
    """Return the numbers (n,) of crystals by their ids and ``mat_id`` tags ("" or None where there is none)."""
    return np.fromiter(map(code, ids, mat_ids or [""] * len(ids)), np.uint64, len(ids))


def code(id: str, mat_id: str = "") -> int:
    """Return the number of a crystal: by whichever name is a registry's, else by ``mat_id``, else 0."""
    number = _of_registry(mat_id) or _of_registry(id)
    if number:
        return number
    name = mat_id or (id if _MATBENCH.fullmatch(id) else "")
    return _HASHED | int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) if name else 0


def is_hash(numbers: UInts) -> UInts:
    """Return 1 for each of ``numbers`` that is the hash of a name, 0 for the others."""
    return numbers >> np.uint64(63)


def name(number: int) -> str:
    """Return the id that ``number`` stands for, "" for a hash and for 0."""
    if number == 0 or number & _HASHED:
        return ""
    width = number >> _WIDTH_BIT & 0b11111
    return f"{_REGISTRIES[(number >> _REGISTRY_BIT) - 1]}{number & (1 << _WIDTH_BIT) - 1:0{width}d}"


def _of_registry(id: str) -> int:
    if letters := _LETTERED.fullmatch(id):
        # New ids of the Materials Project count in letters: mp-aaaaaaft is mp-149 (AlphaID of emmet-core).
        return _packed("mp-", sum((ord(x) - ord("a")) * 26**k for k, x in enumerate(reversed(letters[1]))), 0)
    if digits := _NUMBERED.fullmatch(id):
        return _packed(digits[1], int(digits[2]), len(digits[2]) if digits[2].startswith("0") else 0)
    return 0


def _packed(registry: str, number: int, width: int) -> int:
    return (_REGISTRIES.index(registry) + 1) << _REGISTRY_BIT | width << _WIDTH_BIT | number
