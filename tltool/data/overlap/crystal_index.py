"""The index of a model's training crystals, and the audit of a target's crystals against it.

The index has 17 bytes per crystal: fingerprint, id as a number, data set. The audit needs no structures. Sizes: n
crystals in the index, t in the target, p pairs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tltool.data.overlap import shared_ids
from tltool.data.overlap.fingerprint import PROTOTYPE_BITS, RECIPE, UInts
from tltool.data.record import Ints
from tltool.errors import CheckpointError, DataError

_SHIFT = np.uint64(PROTOTYPE_BITS)
_MOST_SOURCES = 255
_KINDS = {"fingerprint": np.uint64, "id": np.uint64, "origin": np.uint8, "sources": np.uint8, "recipe": np.int64}


@dataclass(frozen=True)
class Index:
    """Crystals seen in training, without repeats and sorted by fingerprint, then id.

    ``fingerprint`` (n,); ``id`` (n,) as ``registry`` numbers it, a hash mixed with the formula; ``origin`` (n,) uint8,
    a position in ``sources``, the names of the data sets.
    """

    fingerprint: UInts
    id: UInts
    origin: npt.NDArray[np.uint8]
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.fingerprint)


class Matches(NamedTuple):
    """What was found for each of t crystals.

    ``how``: "id" (same registry id), "structure" (same by comparing sites), "prototype" (same reduced formula and
    prototype, sites not compared), "formula" (same reduced formula, of a record that is no more than one) or "".
    ``source`` and ``source_id``: data set and id of a crystal it matches, "" where unknown. ``formula`` (t,) bool: the
    index holds the reduced formula. ``unknown`` (t,) bool: it does, no match was found, and not all that the index
    holds of that formula was compared: a copy that was distorted a little has another prototype.
    """

    how: tuple[str, ...]
    source: tuple[str, ...]
    source_id: tuple[str, ...]
    formula: npt.NDArray[np.bool_]
    unknown: npt.NDArray[np.bool_]


def index(ids: Sequence[str], mat_ids: Sequence[str] | None, fingerprints: UInts, source: str) -> Index:
    """Return the index of the crystals with these ids, ``mat_id`` tags (if any) and fingerprints (n,)."""
    origin = np.zeros(len(ids), np.uint8)
    return _sorted(fingerprints, named(ids, mat_ids, fingerprints), origin, (source,))


def merged(indexes: Iterable[Index]) -> Index:
    """Return one index of all, for a model that was trained more than once; raise DataError beyond 255 data sets."""
    parts = list(indexes)
    sources = tuple(dict.fromkeys(name for part in parts for name in part.sources))
    if len(sources) > _MOST_SOURCES:
        raise DataError(f"The index names {len(sources)} data sets, at most {_MOST_SOURCES} fit; index fewer.")
    empty = Index(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.uint8), ())
    places = [np.array([sources.index(name) for name in part.sources], np.uint8)[part.origin] for part in parts]
    return _sorted(
        np.concatenate([part.fingerprint for part in [empty, *parts]]),
        np.concatenate([part.id for part in [empty, *parts]]),
        np.concatenate([empty.origin, *places]),
        sources,
    )


def arrays(index: Index) -> dict[str, npt.NDArray[Any]]:
    """Return ``index`` as named arrays of numbers, for a file."""
    names = np.frombuffer("\0".join(index.sources).encode(), np.uint8)
    recipe = np.array([RECIPE], np.int64)
    return {
        "fingerprint": index.fingerprint,
        "id": index.id,
        "origin": index.origin,
        "sources": names,
        "recipe": recipe,
    }


def from_arrays(arrays: Mapping[str, npt.NDArray[Any]], where: str) -> Index:
    """Return the index that ``arrays`` hold; raise CheckpointError naming ``where`` if they are of no use."""
    wrong = [name for name, kind in _KINDS.items() if name not in arrays or arrays[name].dtype != kind]
    if wrong:
        raise CheckpointError(
            f"{where}: the index of training crystals lacks {', '.join(wrong)}; train the model again."
        )
    if arrays["recipe"].tolist() != [RECIPE]:
        raise CheckpointError(
            f"{where}: the index of training crystals has recipe {arrays['recipe'].tolist()}, not [{RECIPE}]; use the "
            "version of tltool that wrote it, or train the model again."
        )
    text = arrays["sources"].tobytes().decode(errors="replace")
    found = Index(arrays["fingerprint"], arrays["id"], arrays["origin"], tuple(text.split("\0")) if text else ())
    sizes = {len(found.fingerprint), len(found.id), len(found.origin)}
    if (
        len(sizes) > 1
        or (found.origin >= len(found.sources)).any()
        or (found.fingerprint[1:] < found.fingerprint[:-1]).any()
    ):
        raise CheckpointError(f"{where}: the index of training crystals is damaged; train the model again.")
    return found


def audit(index: Index, ids: Sequence[str], mat_ids: Sequence[str] | None, fingerprints: UInts) -> Matches:
    """Look up t crystals with these ids, ``mat_id`` tags (if any) and fingerprints (t,) in ``index``."""
    by_id = _rows_by_id(index, named(ids, mat_ids, fingerprints))
    begin, end = (np.searchsorted(index.fingerprint, fingerprints, side) for side in ("left", "right"))
    known = fingerprints & ((np.uint64(1) << _SHIFT) - np.uint64(1)) > 0
    # The last row of a bucket has an id if any has.
    row = np.where(by_id >= 0, by_id, np.where(known & (end > begin), end - 1, -1))
    formulas = index.fingerprint >> _SHIFT
    begin, end = (np.searchsorted(formulas, fingerprints >> _SHIFT, side) for side in ("left", "right"))
    hits = row.tolist()
    called = [mat_id or id for id, mat_id in zip(ids, mat_ids or [""] * len(ids), strict=True)]
    how = ["id" if i >= 0 else "prototype" if r >= 0 else "" for i, r in zip(by_id.tolist(), hits, strict=True)]
    formula = end > begin
    return Matches(
        tuple(how),
        tuple(index.sources[index.origin[r]] if r >= 0 else "" for r in hits),
        tuple(
            # A number that is a hash cannot be written out, but what matches it by id can.
            (shared_ids.name(int(index.id[r])) if r >= 0 else "") or (call if kind == "id" else "")
            for call, kind, r in zip(called, how, hits, strict=True)
        ),
        formula,
        formula & (row < 0),
    )


def pairs(source: UInts, target: UInts, *, formula: bool) -> tuple[Ints, Ints]:
    """Return rows (p,) of ``target`` and rows (p,) of ``source`` of one fingerprint, or of one formula alone.

    For sources whose structures are at hand, to be compared by ``structure_match``.
    """
    if formula:
        source, target = source >> _SHIFT, target >> _SHIFT
    order = np.argsort(source, kind="stable")
    begin, end = (np.searchsorted(source[order], target, side) for side in ("left", "right"))
    count = end - begin
    place = np.arange(count.sum()) + np.repeat(begin - (np.cumsum(count) - count), count)
    return np.repeat(np.arange(len(target)), count), order[place]


def holders(index: Index, fingerprints: UInts, *, formula: bool) -> list[set[str]]:
    """Return for each of ``fingerprints`` (t,) the data sets that have it in ``index``, or have its formula alone."""
    known = index.fingerprint >> _SHIFT if formula else index.fingerprint
    asked = fingerprints >> _SHIFT if formula else fingerprints
    begin, end = (np.searchsorted(known, asked, side) for side in ("left", "right"))
    return [{index.sources[k] for k in np.unique(index.origin[a:b])} for a, b in zip(begin, end, strict=True)]


def of_one_prototype(first: UInts, second: UInts) -> npt.NDArray[np.bool_]:
    """Say which of ``first`` and ``second`` (p,) are the same fingerprint with a prototype that is known."""
    known = first & ((np.uint64(1) << _SHIFT) - np.uint64(1))
    return np.asarray((first == second) & (known > 0), dtype=bool)


def settled(
    matches: Matches,
    same: Mapping[int, tuple[str, str]],
    no_prototype: npt.NDArray[np.bool_],
    no_formula: npt.NDArray[np.bool_],
) -> Matches:
    """Return ``matches`` after structures were compared.

    ``same`` gives data set and id of the crystal that a row of the target is the same as: it becomes "structure". Where
    nothing that the index holds of its prototype (``no_prototype`` (t,)) is the same, "prototype" becomes "". Where
    nothing that it holds of its formula is (``no_formula`` (t,)), the crystal is known not to be there. Matches by id
    stay as they are.
    """
    now = zip(matches.how, matches.source, matches.source_id, strict=True)
    then = []
    for row, old in enumerate(now):
        cleared = old[0] == "prototype" and bool(no_prototype[row])
        new = ("structure", *same[row]) if row in same else ("", "", "") if cleared else old
        then.append(old if old[0] == "id" else new)
    how, origins, names = zip(*then, strict=True) if then else ((), (), ())
    unmatched = np.array([not word for word in how], dtype=bool)
    return Matches(how, origins, names, matches.formula, matches.formula & unmatched & ~no_formula)


def by_formula(matches: Matches, index: Index, fingerprints: UInts) -> Matches:
    """Return ``matches`` of records that are formulas, with these fingerprints (t,): the same formula is a match."""
    first = np.searchsorted(index.fingerprint >> _SHIFT, fingerprints >> _SHIFT)
    new = [not how and known for how, known in zip(matches.how, matches.formula.tolist(), strict=True)]
    origin = [index.sources[index.origin[row]] if hit else "" for row, hit in zip(first.tolist(), new, strict=True)]
    how = tuple("formula" if hit else old for old, hit in zip(matches.how, new, strict=True))
    source = tuple(name or old for old, name in zip(matches.source, origin, strict=True))
    return matches._replace(how=how, source=source, unknown=np.zeros(len(how), dtype=bool))


def named(ids: Sequence[str], mat_ids: Sequence[str] | None, fingerprints: UInts) -> UInts:
    """Return the ids (n,) as numbers, those that are hashes of free names mixed with the formula.

    A free name may mean another crystal elsewhere; only with the same formula is it the same.
    """
    codes = shared_ids.codes(ids, mat_ids)
    return codes ^ (fingerprints >> _SHIFT) * shared_ids.is_hash(codes)


def _rows_by_id(index: Index, codes: UInts) -> Ints:
    """Return the row of ``index`` with the same id for each of ``codes`` (t,), -1 where there is none."""
    if not len(index):
        return np.full(len(codes), -1)
    order = np.argsort(index.id, kind="stable")
    row = order[np.minimum(np.searchsorted(index.id[order], codes), len(index) - 1)]
    return np.where((codes > 0) & (index.id[row] == codes), row, -1)


def _sorted(fingerprint: UInts, id: UInts, origin: npt.NDArray[np.uint8], sources: tuple[str, ...]) -> Index:
    order = np.lexsort((origin, id, fingerprint))
    columns = fingerprint[order], id[order], origin[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return Index(columns[0][new], columns[1][new], columns[2][new], sources)
