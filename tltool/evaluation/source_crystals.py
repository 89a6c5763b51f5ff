"""Compare the crystals of a target with the training crystals of a model, if their data sets are still in the cache.

Sizes: t crystals of the target, p pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tltool.data import dataset, origin
from tltool.data.dataset import Dataset
from tltool.data.overlap import crystal_index, structure_match
from tltool.data.overlap.crystal_index import Index, Matches
from tltool.data.overlap.fingerprint import UInts
from tltool.data.record import Crystal, Ints
from tltool.data.store import Store

MOST_PAIRS = 5_000
"""Pairs of crystals whose sites are compared in one audit, the most alike first. A number and not a time, so that two
runs that are compared find the same."""

MOST_LISTED = 1_000_000
"""Pairs of one formula that are looked at in one audit."""


class Held(NamedTuple):
    """A data set of an index whose records are available; ``rows`` are its training rows, None if only ids are known.

    ``complete``: the index has no other data set of this name without available records.
    """

    name: str
    data: Dataset
    rows: Ints | None
    complete: bool


def at_hand(spec: Mapping[str, Any], own: Dataset | None = None, own_rows: Ints | None = None) -> list[Held]:
    """Return the data sets that a model was trained on and that are still in the cache.

    ``own`` is a data set that is already open, with its training rows.
    """
    places = {(str(o.get("name")), o.get("prepared")): None for o in steps(spec)}
    found: list[Held] = []
    gone: set[str] = set()
    for name, place in places:
        mine = own is not None and own.folder is not None and place == str(own.folder.resolve())
        data = own if mine else dataset.at_hand(Path(place)) if place else None
        if data is None:
            gone.add(name)
        else:
            found.append(Held(name, data, own_rows if mine else None, True))
    return [held._replace(complete=held.name not in gone) for held in found]


def steps(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the record of every training of a model, then those of further sources that it takes features of."""
    return [*spec.get("provenance", ()), *spec.get("further_provenance", ())]


def compared(
    found: Matches,
    seen: Index,
    target: Store,
    rows: Ints,
    asked: UInts,
    sources: Sequence[Held],
    prints: Callable[[Dataset], UInts],
) -> Matches:
    """Return ``found`` after comparing crystals with the crystals of the same formula in ``sources``.

    ``asked`` (t,) are the fingerprints of the target's ``rows`` (t,); ``prints`` gives those of a source. A crystal
    becomes unseen only if every data set with its formula (and prototype) in ``seen`` is available, and none of their
    crystals is the same.
    """
    open_ = np.array([k for k, how in enumerate(found.how) if how in ("", "prototype") and found.formula[k]], dtype=int)
    if not len(open_) or not sources:
        return found
    place, source, which, alike = _listed(seen, target, rows[open_], asked[open_], sources, prints)
    crystals = _Crystals([held.data.store for held in sources])
    key = crystals.first[source] + which
    here = _Crystals([target])
    cut = slice(MOST_LISTED)
    result = structure_match.compared(here, crystals, rows[open_][place[cut]], key[cut], alike[cut], MOST_PAIRS)
    unknown = np.ones(len(place), dtype=bool)
    unknown[cut] = ~result.known
    same: dict[int, tuple[str, str]] = {}
    for pair in np.flatnonzero(result.same).tolist():
        held = sources[int(source[pair])]
        ids, mat_ids = names(held.data.store, which[pair : pair + 1])
        same[int(open_[place[pair]])] = (held.name, mat_ids[0] or ids[0])
    complete = {held.name for held in sources if held.complete}
    cleared = []
    for formula, left in ((False, unknown & alike), (True, unknown)):
        told = np.zeros(len(found.how), dtype=bool)
        all_held = [of <= complete for of in crystal_index.holders(seen, asked[open_], formula=formula)]
        told[open_] = np.array(all_held, dtype=bool) & (np.bincount(place[left], minlength=len(open_)) == 0)
        cleared.append(told)
    return crystal_index.settled(found, same, *cleared)


def names(records: Store, rows: Ints) -> tuple[list[str], list[str]]:
    """Return ids and ``mat_id`` tags ("" where there is none) of ``rows``."""
    tags = records.tags.get("mat_id")
    own = origin.own_ids(records)
    ids = [own[int(row)] for row in rows]
    return ids, [tags[int(row)] for row in rows] if tags is not None else [""] * len(ids)


def _listed(
    seen: Index, target: Store, rows: Ints, asked: UInts, sources: Sequence[Held], prints: Callable[[Dataset], UInts]
) -> tuple[Ints, Ints, Ints, "np.ndarray[Any, np.dtype[np.bool_]]"]:
    """Return pairs (p,) with the same formula: index in ``rows``, number of the source, its row, same prototype or not.

    Pairs of one prototype come first.
    """
    parts = []
    for number, held in enumerate(sources):
        known = prints(held.data)
        place, which = _pairs(seen, held, target, rows, asked, known)
        alike = crystal_index.of_one_prototype(known[which], asked[place])
        parts.append((place, np.full(len(place), number), which, alike))
    place, source, which, alike = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(~alike, kind="stable")
    return place[order], source[order], which[order], alike[order]


def _pairs(seen: Index, source: Held, target: Store, rows: Ints, asked: UInts, known: UInts) -> tuple[Ints, Ints]:
    """Return indices in ``rows`` of the target, and training rows of the source, with the same formula."""
    candidates = np.unique(crystal_index.pairs(known, np.unique(asked), formula=True)[1])
    # The source's own test crystals were not seen. Rows show this even if ids have no meaning outside a data set (0).
    codes = crystal_index.named(*names(source.data.store, candidates), known[candidates])
    trained = codes == 0 if source.rows is None else np.isin(candidates, source.rows)
    candidates = candidates[trained | ((codes > 0) & np.isin(codes, seen.id))]
    place, which = crystal_index.pairs(known[candidates], asked, formula=True)
    which = candidates[which]
    # If target and source are one data set, do not compare a crystal with itself.
    other = np.ones(len(place), dtype=bool) if source.data.store is not target else which != rows[place]
    return place[other], which[other]


class _Crystals:
    """The crystals of all stores in one sequence; those of ``stores[k]`` begin at ``first[k]``."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = stores
        self.first = np.cumsum([0, *(len(one) for one in stores)])

    def __getitem__(self, place: int) -> Crystal:
        number = int(np.searchsorted(self.first, place, side="right")) - 1
        return self._stores[number].crystal(place - int(self.first[number]))
