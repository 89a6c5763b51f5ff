"""Find crystals that a model was trained on: build its index, audit a data set with it, and remove overlaps.

The index contains the training and validation rows of every data set that the model was trained on. If the prepared
records of a source are still in the cache, crystals with the same formula are also compared site by site
(``source_crystals.py``).
"""

import csv
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tltool.data import store
from tltool.data.dataset import Dataset
from tltool.data.overlap import crystal_index
from tltool.data.overlap.crystal_index import Index, Matches
from tltool.data.overlap.fingerprint import RECIPE, UInts
from tltool.data.overlap.many_fingerprints import fingerprints
from tltool.data.record import Ints
from tltool.data.store import Store
from tltool.errors import ConfigError, DataError
from tltool.evaluation import source_crystals
from tltool.evaluation.source_crystals import Held, names
from tltool.run_folder.run import Run

Say = Callable[[str], None]

_MANY = 5_000  # number of crystals from which a sentence is printed before their fingerprints are computed
_EVERY = 10.0  # seconds between two lines with the progress

ACTIONS = {
    "pretrain": ("report", "drop_source", "none"),
    "transfer": ("report", "drop_test", "error", "none"),
    "eval": ("report", "none"),
}


class Auditor(NamedTuple):
    """Settings of the overlap audit: action for overlapping crystals, and number of processes for fingerprints."""

    action: str
    workers: int


def auditor(config: Mapping[str, Any], stage: str, workers: int) -> Auditor:
    """Return the audit settings in ``config['overlap']``; raise ConfigError if ``stage`` does not have this action."""
    action = config["overlap"]["action"]
    if action not in ACTIONS[stage]:
        raise ConfigError(f"overlap={action} does not exist for {stage}; use {', '.join(ACTIONS[stage])}.")
    return Auditor(action, workers)


def _silent(text: str) -> None:
    """Say nothing."""


def prints(data: Dataset, workers: int, say: Say = _silent) -> UInts:
    """Return the fingerprints (n,) of all records; they are computed once and saved next to the records in the cache.

    If this takes more than a few seconds, ``say`` prints a sentence before, and the progress.
    """
    file = _file(data)
    if file and file.is_file():
        return store.read_arrays(file)[0]["fingerprint"]
    n = len(data.store)
    crystals = (data.store.crystal(row) for row in range(n))
    # The fingerprint of a formula needs no symmetry search, so it needs no extra process.
    if data.store.amounts is not None:
        found = fingerprints(crystals, 1)
    else:
        if n >= _MANY:
            name = data.store.attributes.get("name", "the data")
            say(
                f"Finding the fingerprints of the {n:,} crystals of {name}, once, for the index of what the model saw "
                "(overlap=none does without)."
            )
        found = fingerprints(crystals, workers, _Progress(n, say))
    if file:
        store.write_arrays(file, {"fingerprint": found}, {}, {})
    return found


class _Progress:
    """Prints every ``_EVERY`` seconds how many of ``n`` fingerprints are done."""

    def __init__(self, n: int, say: Say) -> None:
        self._n, self._say, self._last = n, say, time.monotonic()

    def __call__(self, done: int) -> None:
        if time.monotonic() - self._last >= _EVERY:
            self._last = time.monotonic()
            self._say(f"{done:,} of {self._n:,} fingerprints are found.")


def _file(data: Dataset) -> Path | None:
    return data.folder / f"fingerprints-{RECIPE}-{data.key}.h5" if data.folder else None


def index(data: Dataset, rows: Ints, workers: int, say: Say = _silent) -> Index:
    """Return the index of the records in ``rows``."""
    ids, mat_ids = names(data.store, rows)
    return crystal_index.index(ids, mat_ids, prints(data, workers, say)[rows], data.store.attributes.get("name", ""))


def audit(seen: Index, data: Dataset, rows: Ints, workers: int, sources: Sequence[Held], say: Say = _silent) -> Matches:
    """Look up the records in ``rows`` in the index ``seen``, and compare their sites with the available ``sources``.

    Records that are formulas match by formula only.
    """
    ids, mat_ids = names(data.store, rows)
    asked = prints(data, workers, say)[rows]
    found = crystal_index.audit(seen, ids, mat_ids, asked)
    if data.store.amounts is not None:
        return crystal_index.by_formula(found, seen, asked)
    return source_crystals.compared(
        found, seen, data.store, rows, asked, sources, lambda other: prints(other, workers, say)
    )


def told(matches: Matches, target: str) -> str:
    """Return a sentence with the number of crystals of a target that the source was trained on."""
    counts = Counter(how for how in matches.how if how)
    n, unknown = sum(counts.values()), int(matches.unknown.sum())
    open_ = (
        f" For {unknown:,} more it is not known: the training data contain their formulas, but some crystals of these "
        "formulas could not be compared."
        if unknown
        else ""
    )
    if not n:
        none = "None known" if unknown else "None"
        where = "is in the training data of the source"
        return f"{none} of the {len(matches.how):,} test crystals of {target} {where}.{open_}"
    terms = {
        "id": "by id",
        "structure": "same structure, distorted or not",
        "prototype": "same formula and prototype, not compared",
        "formula": "same formula, no structure to compare",
    }
    parts = ", ".join(f"{counts[how]:,} {text}" for how, text in terms.items() if counts[how])
    where = "in the training data of the source"
    return f"{n:,} of the {len(matches.how):,} test crystals of {target} are {where} ({parts}).{open_}"


def write(run: Run, matches: Matches, records: Store, rows: Ints) -> None:
    """Write ``crystal_index.csv``: each crystal of ``rows`` that was seen, how it matched, and the matching crystal."""
    with (run.folder / "overlap.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "how", "source", "source_id"])
        found = zip(rows.tolist(), matches.how, matches.source, matches.source_id, strict=True)
        writer.writerows([records.ids[row], how, source, name] for row, how, source, name in found if how)


def rows_to_drop(data: Dataset, target: Dataset, target_rows: Ints, workers: int, say: Say = _silent) -> Ints:
    """Return the rows of a source that contain a crystal of ``target_rows``, by id or by comparing sites.

    A crystal that cannot be compared stays, unless formula and prototype are the same; ``say`` prints how many stay.
    For a target of formulas, crystals match by formula only.
    """
    shared, unknown = shared_rows(data, np.arange(len(data.store)), target, target_rows, workers, say)
    if n := len(unknown):
        say(
            f"{n:,} source crystals with a formula of the target are too many or too large to compare; they stay in "
            "the source."
        )
    return shared


def shared_rows(
    data: Dataset, rows: Ints, target: Dataset, target_rows: Ints, workers: int, say: Say = _silent
) -> tuple[Ints, Ints]:
    """Return those of the ``rows`` of a source that contain a crystal of ``target_rows``, and those that may do.

    The latter have the formula of one, and cannot be compared.
    """
    if target.store.amounts is not None:
        known, asked = prints(data, workers, say)[rows], prints(target, workers, say)[target_rows]
        return rows[np.unique(crystal_index.pairs(known, asked, formula=True)[1])], rows[:0]
    wanted = index(target, target_rows, workers, say)
    mine = Held(target.store.attributes.get("name", ""), target, target_rows, True)
    found = audit(wanted, data, rows, workers, [mine], say)
    return rows[np.array([bool(how) for how in found.how], dtype=bool)], rows[found.unknown]


def rows_of_ids(records: Store, file: Path) -> Ints:
    """Return the rows whose id, or tag ``mat_id``, is in ``file``.

    ``file`` has one id per line, or is a CSV with a column ``id``. If it also has a column ``split``, like
    ``split.csv`` of a run, only its test rows count. Raise DataError if it cannot be read or names no crystal of the
    data set.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"overlap.ids={file} cannot be read ({error}); name a file with one id per line.") from error
    header = next(csv.reader(lines[:1]), [])
    if "id" in header:
        found = csv.DictReader(lines)
        wanted = {row["id"] for row in found if row["id"] is not None and row.get("split", "test") == "test"}
    else:
        wanted = {line.strip() for line in lines if line.strip()}
    called = zip(records.ids, *names(records, np.arange(len(records))), strict=True)
    rows = [row for row, known in enumerate(called) if wanted.intersection(known)]
    if not rows:
        raise DataError(
            f"overlap.ids={file}: none of its {len(wanted):,} ids is in {records.attributes.get('name', 'the data')}; "
            "check that both use the same ids."
        )
    return np.array(rows, dtype=np.int64)


def counted(matches: Matches) -> dict[str, int]:
    """Return {way of matching: number of crystals}."""
    return dict(sorted(Counter(words(matches, "unseen")).items()))


def kinds(matches: Matches) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which crystals (t,) are "seen", "unseen" and "unknown"; empty if all have the same status."""
    seen = np.array([bool(how) for how in matches.how], dtype=bool)
    parts = {"seen": seen, "unseen": ~seen & ~matches.unknown, "unknown": matches.unknown}
    found = {kind: some for kind, some in parts.items() if some.any()}
    return found if len(found) > 1 else {}


def words(matches: Matches, unseen: str) -> list[str]:
    """Return for each crystal how it matched, "unknown", or ``unseen``."""
    kinds = zip(matches.how, matches.unknown.tolist(), strict=True)
    return [how or ("unknown" if unknown else unseen) for how, unknown in kinds]
