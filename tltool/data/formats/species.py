"""Convert the word for an element in a structure file to its atomic number; any other word gives 0.

Oxidation states, isotope masses, D and T are understood. A site's label is not a word for an element but begins with
one; the stated formula helps to identify it. If the element is not clear, the caller must raise an error.
"""

import re
from collections.abc import Collection
from functools import lru_cache

from tltool.elements import number_of

_WORD = re.compile(r"(?:\(?\d{1,3}\)?)?([A-Za-z]{1,2})(\d*(?:\.\d+)?[+-]?|[+-]\d*(?:\.\d+)?)")
_LETTERS = re.compile(r"[^A-Za-z]*([A-Za-z]+)(.*)")
_ANOTHER = re.compile(r"[,/+&|]\s*\d*\.?\d*\s*[A-Za-z]|\.\d+\s*[A-Z]")


@lru_cache(maxsize=4096)
def number(word: str) -> int:
    """Return the atomic number of an element's symbol such as ``Fe``, ``Fe3+``, ``O-2``, ``7Li`` or ``D``, else 0."""
    found = _WORD.fullmatch(word.strip())
    if not found:
        return 0
    symbol = found[1].capitalize()
    if symbol == "T" and found[2][-1:].isdigit():
        return 0  # T1 is a tetrahedral site, not tritium
    return number_of(symbol)


def is_shared(word: str) -> bool:
    """Return whether a word names several elements, such as ``Nb0.8Zr0.2``, ``Nb/Zr`` and ``'Nb,Zr'``."""
    return bool(_ANOTHER.search(word))


@lru_cache(maxsize=4096)
def of_label(label: str, formula: frozenset[int]) -> int:
    """Return the atomic number of the element at the start of a site's ``label``; 0 if it is not clear.

    ``formula`` are the atomic numbers of the stated formula; empty if the file states none.
    """
    found = _LETTERS.match(label)
    if not found or is_shared(label):
        return 0
    letters, rest = found[1], found[2]
    one, two = _element(letters[0]), _element(letters[:2]) if len(letters) > 1 else 0
    as_written = letters[0].isupper() and (len(letters) == 1 or letters[1].islower())
    if formula:
        inside = [z for z in dict.fromkeys((two, one)) if z in formula]
        return inside[0] if len(inside) == 1 or (inside and as_written) else 0
    if len(letters) == 1:
        return one if letters.isupper() else 0
    if as_written and two:
        return 0 if _begins_element(letters[2:] + rest) else two
    # Two capitals are an element and a name of the site, unless together they can also be an element. After O and H
    # (labels such as Ow and Ha), a small letter is a name of the site too.
    return one if not two and letters[0].isupper() and (letters[1].isupper() or letters[0] in "OH") else 0


def _element(word: str) -> int:
    return 0 if word.upper() == "T" else number_of(word.capitalize())


def _begins_element(rest: str) -> bool:
    """Return whether the rest of a label begins with another element, as in ``AlSi1``."""
    found = re.match(r"[A-Z][a-z]?", rest)
    return bool(found and number_of(found[0]))


def known(numbers: Collection[int]) -> frozenset[int]:
    """Return ``numbers`` as ``of_label`` takes them."""
    return frozenset(numbers)
