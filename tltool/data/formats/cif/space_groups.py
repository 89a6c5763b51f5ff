"""Find the possible settings of a space group, as symmetry operations, from its name (in any usual spelling) or number.

The groups and their names are those of gemmi; full symbols such as ``F 4/m -3 2/m`` are those of moyopy. These
spellings are accepted: with all blanks or none, ``P2_1/c``, ``P2(1)/c``, ``P2~1~/c``, bars in TeX and Unicode, old
symbols such as ``Fm3m``, and suffixes for origin and axes (``:1 :2 :H :R`` and those of the ICSD, ``S Z H HR R RS``).
If a name allows several settings, such as two origins, the caller must choose.
"""

import re
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from tltool.data.record import Floats

_BARS = (
    (re.compile(r"\$?\\(?:bar|overline)\s*\{?\s*(\d)\s*\}?\$?"), r"-\1"),
    (re.compile(r"\\=\s*(\d)"), r"-\1"),
    (re.compile(r"(\d)[\u0304\u0305]"), r"-\1"),
)
_REMARK = re.compile(r"\(?\s*(?:No\.?|#)\s*\d{1,3}\s*\)?", re.IGNORECASE)
_SCREW = re.compile(r"(\d)\s*(?:\((\d)\)|~(\d)~|_\{?(\d)\}?|<sub>(\d)</sub>)")
_SUFFIX = re.compile(
    r"(?<=[\w\s)])\s*(?::\s*([12HRSZ]|HR|RS)|(HR|RS|[HRSZ])|[(\s]O([12])\)?|\(?origin(?: choice)? ([12])\)?)$"
)
_SETTINGS = {"S": "1", "Z": "2", "HR": "H", "RS": "R"}
_SHIFT = re.compile(r"([+-]?\s*\d+\.?\d*|[+-]?\s*\.\d+)(?:\s*/\s*(\d+))?")
_ROUNDED = 0.02
UNKNOWN = frozenset({"", "?", ".", "unknown", "n/a", "none", "-"})


def named(name: str, angles: Sequence[float]) -> list[str] | None:
    """Return the Hall symbols of the settings that ``name`` can mean in a cell with these three ``angles`` (degrees).

    Two symbols are two origin choices. Return None if there is no such group.
    """
    for pattern, bar in _BARS:
        name = pattern.sub(bar, name)
    name = _REMARK.sub("", name.strip("'\"$ "))
    name = _SCREW.sub(lambda found: found[1] + next(digit for digit in found.groups()[1:] if digit), name).strip()
    suffix = _SUFFIX.search(name)
    setting = next((word for word in suffix.groups() if word), "") if suffix else ""
    body = name[: suffix.start()].strip() if suffix else name
    return _found(body, _SETTINGS.get(setting, setting), angles[0], angles[2])


def numbered(number: int, angles: Sequence[float]) -> list[str] | None:
    """Return the Hall symbols of the standard setting of group ``number``, for each origin; None if none."""
    import gemmi

    group = gemmi.find_spacegroup_by_number(number) if 1 <= number <= 230 else None
    return None if group is None else _found(group.hm, "", angles[0], angles[2])


@lru_cache(maxsize=1024)
def _found(name: str, setting: str, alpha: float, gamma: float) -> list[str] | None:
    import gemmi

    found: dict[str, None] = {}
    for prefer in setting or "12":
        words = (name, _full_symbols().get(re.sub(r"\s", "", name).lower(), ""))
        groups = [gemmi.find_spacegroup_by_name(word, alpha, gamma, prefer=prefer) for word in words if word]
        group = next((group for group in groups if group is not None), None)
        if group is None:
            return None
        found[group.hall] = None
    return list(found)


@cache
def _full_symbols() -> dict[str, str]:
    """Return {full symbol: short symbol}, the former without blanks in small letters."""
    from moyopy import HallSymbolEntry

    entries = [HallSymbolEntry(n) for n in range(1, 531)]
    names = [(entry.hm_full.replace("_", ""), entry.hm_short.replace("_", "")) for entry in entries]
    return {full.replace(" ", "").lower(): short for full, short in names if full != short and short.count(" ") > 1}


@lru_cache(maxsize=1024)
def number_of(hall: str) -> int:
    """Return the number (1 to 230) of the group with this Hall symbol; 0 if gemmi does not know it."""
    import gemmi

    group = gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(hall))
    return 0 if group is None else int(group.number)


@lru_cache(maxsize=1024)
def operations(hall: str) -> Floats | None:
    """Return the operations (m, 4, 4) of the group with this Hall symbol; None if the symbol cannot be read."""
    import gemmi

    try:
        return np.array([op.float_seitz() for op in gemmi.symops_from_hall(hall)])
    except (RuntimeError, ValueError):
        return None


class NoGroupError(Exception):
    """A list of operations cannot be read, or is not a group; the text says why."""


@lru_cache(maxsize=256)
def listed(words: tuple[str, ...]) -> Floats:
    """Return the operations (m, 4, 4) of a list such as ``x,y,z``, without duplicates.

    Raise NoGroupError if an operation cannot be read, or if the product of two operations is not in the list.
    """
    found = np.array([_operation(word) for word in dict.fromkeys(words)])
    turns, place = np.unique(np.rint(found[:, :3, :3]).reshape(-1, 9), axis=0, return_inverse=True)
    shifts: list[list[Floats]] = [[] for _ in turns]
    chosen = []
    for n, (turn, operation) in enumerate(zip(place.tolist(), found, strict=True)):
        if not any(_is_lattice_vector(operation[:3, 3] - other).all() for other in shifts[turn]):
            shifts[turn].append(operation[:3, 3])
            chosen.append(n)
    found = found[chosen]
    if not any(np.array_equal(operation, np.eye(4)) for operation in found):
        raise NoGroupError("the list of symmetry operations lacks the identity x,y,z")
    _require_closed(found, turns, shifts)
    return found


def _operation(word: str) -> Floats:
    """Return one operation (4, 4); translations may be any fraction or decimal number."""
    import gemmi

    text = re.sub(r"^\s*\d+\s+(?=\S)", "", word)
    shift = np.zeros(3)
    try:
        op = gemmi.Op(text)
    except (RuntimeError, ValueError):
        parts = text.split(",")
        try:
            op = gemmi.Op(",".join(_SHIFT.sub("", part) for part in parts))
            shift += [sum(_value(*found) for found in _SHIFT.findall(part)) for part in parts]
        except (RuntimeError, ValueError, ZeroDivisionError):
            raise NoGroupError(f"the symmetry operation {word[:40]!r} cannot be read") from None
    found = np.array(op.float_seitz())
    found[:3, 3] = (found[:3, 3] + shift) % 1.0
    return found


def _value(number: str, divisor: str) -> float:
    return float(number.replace(" ", "")) / float(divisor or 1)


def _is_lattice_vector(shift: Floats) -> npt.NDArray[np.bool_]:
    """Return whether translations (..., 3) are lattice vectors, within the error of rounded fractions."""
    return np.asarray((np.abs(shift - np.rint(shift)) < _ROUNDED).all(axis=-1))


def combined(turns: Sequence[str], shifts: Sequence[str]) -> tuple[str, ...]:
    """Return the products of operations and centring vectors, all as ``x,y,z`` and so on; raise NoGroupError."""
    import gemmi

    try:
        pairs = [(gemmi.Op(shift), gemmi.Op(turn)) for turn in turns for shift in shifts or ["x,y,z"]]
        return tuple((shift * turn).wrap().triplet() for shift, turn in pairs)
    except (RuntimeError, ValueError):
        raise NoGroupError("a magnetic symmetry operation cannot be read") from None


def _require_closed(operations: Floats, turns: Floats, shifts: Sequence[Sequence[Floats]]) -> None:
    """Raise NoGroupError if the product of two operations (m, 4, 4) is not one of them, up to a lattice vector.

    ``turns`` (u, 9) are their rotations in order, each once, and ``shifts`` the translations with each.
    """
    products = (operations[:, None] @ operations).reshape(-1, 4, 4)
    weights = 7.0 ** np.arange(9)
    mine = turns @ weights
    order = np.argsort(mine)
    keys = np.rint(products[:, :3, :3]).reshape(-1, 9) @ weights
    turn = order[np.searchsorted(mine[order], keys).clip(max=len(mine) - 1)]
    most = max(map(len, shifts))
    allowed = np.array([[*some, *([some[0]] * (most - len(some)))] for some in shifts])
    found = (mine[turn] == keys) & _is_lattice_vector(products[:, None, :3, 3] - allowed[turn]).any(axis=1)
    if not found.all():
        raise NoGroupError("the list of symmetry operations is incomplete: a product of two operations is missing")
