"""Which crystals a model has seen: the index it carries, the audit of a data set against it, and what follows.

The index is made of the training and validation rows of every data set the model was trained on. Where a source's
prepared records are still in the cache, crystals of one formula and prototype are compared site by site as well.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tltool.data import dataset, marks, overlap, store, structure_match
from tltool.data.dataset import Dataset
from tltool.data.fingerprinting import fingerprints
from tltool.data.overlap import Index, Matches
from tltool.data.prototype import RECIPE
from tltool.data.record import Crystal, Ints
from tltool.data.store import Store
from tltool.errors import ConfigError, DataError
from tltool.training.run import Run

MOST_PAIRS = 2_000
"""Pairs of crystals whose sites are compared in one audit; the rest stay as "prototype"."""

_MANY = 50_000  # crystals, from which a word is due before their fingerprints are found

ACTIONS = {
    "pretrain": ("report", "drop_source", "none"),
    "transfer": ("report", "drop_test", "error", "none"),
    "eval": ("report", "none"),
}


class Auditor(NamedTuple):
    """How to audit: what to do about an overlap, and in how many processes to find fingerprints."""

    action: str
    workers: int


def auditor(config: Mapping[str, Any], stage: str, workers: int) -> Auditor:
    """Return what ``config['overlap']`` asks for; raise ConfigError for what ``stage`` cannot do."""
    action = config["overlap"]["action"]
    if action not in ACTIONS[stage]:
        raise ConfigError(f"overlap={action} is nothing that {stage} can do; use {', '.join(ACTIONS[stage])}.")
    return Auditor(action, workers)


def prints(data: Dataset, workers: int) -> npt.NDArray[np.uint64]:
    """Return the fingerprints (n,) of all records, found once and kept beside them in the cache."""
    file = _file(data)
    if file and file.is_file():
        return store.read_arrays(file)[0]["fingerprint"]
    crystals = (data.store.crystal(row) for row in range(len(data.store)))
    # A formula has no symmetry to search for, so its fingerprint is not worth a process.
    found = fingerprints(crystals, workers if data.store.amounts is None else 1)
    if file:
        store.write_arrays(file, {"fingerprint": found}, {}, {})
    return found


def awaited(data: Dataset) -> str:
    """Return a sentence where ``prints`` is going to take minutes; empty where it is not."""
    file = _file(data)
    if len(data.store) < _MANY or data.store.amounts is not None or (file and file.is_file()):
        return ""
    return (
        f"Fingerprints of {len(data.store):,} crystals, found once for the index of what the model saw, take up to a "
        "minute for every 60,000 (overlap=none does without)."
    )


def _file(data: Dataset) -> Path | None:
    return data.folder / f"fingerprints-{RECIPE}-{data.key}.h5" if data.folder else None


def index(data: Dataset, rows: Ints, workers: int) -> Index:
    """Return the index of the records in ``rows``."""
    ids, mat_ids = _names(data.store, rows)
    return overlap.index(ids, mat_ids, prints(data, workers)[rows], data.store.attributes.get("name", ""))


class Held(NamedTuple):
    """A data set of an index whose records are at hand; ``rows`` of it that were trained on, None if only ids tell.

    ``complete``: no other data set of this name stands in the index without its records.
    """

    name: str
    data: Dataset
    rows: Ints | None
    complete: bool


def audit(seen: Index, data: Dataset, rows: Ints, workers: int, sources: Sequence[Held]) -> Matches:
    """Look up the records in ``rows`` in the index ``seen``, and compare sites with the ``sources`` at hand.

    A crystal whose formula and prototype the index holds is cleared only if every data set that has them there is at
    hand, and none of its crystals is the same. Of records that are formulas the formula decides.
    """
    ids, mat_ids = _names(data.store, rows)
    asked = prints(data, workers)[rows]
    found = overlap.audit(seen, ids, mat_ids, asked)
    if data.store.amounts is not None:
        return overlap.by_formula(found, seen, asked)
    open_ = np.array([k for k, how in enumerate(found.how) if how == "prototype"], dtype=np.int64)
    if not len(open_) or not sources:
        return found
    complete = {source.name for source in sources if source.complete}
    holders = _holders(seen, asked[open_])
    certain = {int(k) for k, names in zip(open_, holders, strict=True) if names <= complete}
    places, same, names, origins = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=bool)], list[str](), list[str]()
    for source in sources:
        place, which = _pairs(seen, source, data.store, rows[open_], asked[open_], workers)
        left = MOST_PAIRS - sum(map(len, places))
        certain -= set(open_[place[left:]].tolist())
        place, which = place[:left], which[:left]
        crystals = _Crystals(source.data.store, np.arange(len(source.data.store)))
        places.append(open_[place])
        same.append(structure_match.compared(_Crystals(data.store, rows[open_]), crystals, place, which))
        names += [mat_id or id for id, mat_id in zip(*_names(source.data.store, which), strict=True)]
        origins += [source.name] * len(which)
    where, equal = np.concatenate(places), np.concatenate(same)
    told_ = np.flatnonzero(equal | np.isin(where, list(certain)))
    return overlap.settled(found, where[told_], equal[told_], [names[k] for k in told_], [origins[k] for k in told_])


def _holders(seen: Index, asked: npt.NDArray[np.uint64]) -> list[set[str]]:
    """Return for each fingerprint the names of the data sets that have it in the index."""
    begin, end = (np.searchsorted(seen.fingerprint, asked, side) for side in ("left", "right"))
    return [{seen.sources[k] for k in seen.origin[a:b].tolist()} for a, b in zip(begin, end, strict=True)]


def at_hand(spec: Mapping[str, Any], own: Dataset | None = None, own_rows: Ints | None = None) -> list[Held]:
    """Return the data sets that a model was trained on and that are still in the cache.

    ``own`` is one that is open already, with the rows of it that the model was trained on.
    """
    places = {(str(o.get("name")), o.get("prepared")): None for o in spec.get("provenance", ())}
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


def _pairs(
    seen: Index, source: Held, target: Store, rows: Ints, asked: npt.NDArray[np.uint64], workers: int
) -> tuple[Ints, Ints]:
    """Return places among ``rows`` of the target, and rows of the source, of one formula and prototype."""
    known = prints(source.data, workers)
    candidates = np.flatnonzero(np.isin(known, asked))
    # A source's own test crystals were not seen. An id that means nothing elsewhere (0) cannot tell, but rows can.
    codes = overlap.named(*_names(source.data.store, candidates), known[candidates])
    trained = codes == 0 if source.rows is None else np.isin(candidates, source.rows)
    candidates = candidates[trained | ((codes > 0) & np.isin(codes, seen.id))]
    place, which = overlap.pairs(known[candidates], asked, formula=False)
    which = candidates[which]
    # A crystal is no news to itself, where target and source are one data set.
    other = np.ones(len(place), dtype=bool) if source.data.store is not target else which != rows[place]
    return place[other], which[other]


class _Crystals:
    """Crystals of a store by their place among ``rows``."""

    def __init__(self, records: Store, rows: Ints) -> None:
        self._records, self._rows = records, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> Crystal:
        return self._records.crystal(int(self._rows[place]))


def _names(records: Store, rows: Ints) -> tuple[list[str], list[str]]:
    tags = records.tags.get("mat_id")
    own = marks.own_ids(records)
    ids = [own[int(row)] for row in rows]
    return ids, [tags[int(row)] for row in rows] if tags is not None else [""] * len(ids)


def told(matches: Matches, target: str) -> str:
    """Return in words how much of a target was seen."""
    counts = Counter(how for how in matches.how if how)
    n = sum(counts.values())
    if not n:
        return f"None of the {len(matches.how):,} test crystals of {target} is in the training data of the source."
    words = {
        "id": "by id",
        "structure": "same structure",
        "prototype": "same formula and prototype, not compared",
        "formula": "same formula, all that is known of them",
    }
    parts = ", ".join(f"{counts[how]:,} {text}" for how, text in words.items() if counts[how])
    where = "in the training data of the source"
    return f"{n:,} of the {len(matches.how):,} test crystals of {target} are {where} ({parts})."


def write(run: Run, matches: Matches, records: Store, rows: Ints) -> None:
    """Write ``overlap.csv``: each crystal of ``rows`` that was seen, how that is known, and as which crystal."""
    with (run.folder / "overlap.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "how", "source", "source_id"])
        found = zip(rows.tolist(), matches.how, matches.source, matches.source_id, strict=True)
        writer.writerows([records.ids[row], how, source, name] for row, how, source, name in found if how)


def rows_to_drop(data: Dataset, target: Dataset, target_rows: Ints, workers: int) -> Ints:
    """Return the rows of a source that hold a crystal of ``target_rows``, by id or by comparing sites.

    Where there are more pairs than are compared, formula and prototype decide; where the target is formulas, these.
    """
    if target.store.amounts is not None:
        known, asked = prints(data, workers), prints(target, workers)[target_rows]
        return np.unique(overlap.pairs(known, asked, formula=True)[1])
    wanted = index(target, target_rows, workers)
    rows = np.arange(len(data.store))
    held = Held(target.store.attributes.get("name", ""), target, target_rows, True)
    found = audit(wanted, data, rows, workers, [held])
    return np.array([row for row, how in enumerate(found.how) if how], dtype=np.int64)


def rows_of_ids(records: Store, file: Path) -> Ints:
    """Return the rows whose id, or tag ``mat_id``, stands in ``file``.

    ``file`` has an id a line, or is a CSV with a column ``id``; with a column ``split`` as well, as a run's
    ``split.csv``, its test rows count. Raises DataError if it cannot be read or names no crystal of the data set.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"overlap.ids={file} cannot be read ({error}); name a list of ids.") from error
    header = next(csv.reader(lines[:1]), [])
    if "id" in header:
        found = csv.DictReader(lines)
        wanted = {row["id"] for row in found if row.get("split", "test") == "test"}
    else:
        wanted = {line.strip() for line in lines if line.strip()}
    names = zip(records.ids, *_names(records, np.arange(len(records))), strict=True)
    rows = [row for row, known in enumerate(names) if wanted.intersection(known)]
    if not rows:
        raise DataError(
            f"overlap.ids={file}: none of its {len(wanted):,} ids is in {records.attributes.get('name', 'the data')}; "
            "check that both use the same ids."
        )
    return np.array(rows, dtype=np.int64)


def counted(matches: Matches) -> dict[str, int]:
    """Return how many crystals matched in which way."""
    return dict(sorted(Counter(how or "unseen" for how in matches.how).items()))
