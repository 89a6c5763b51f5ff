"""Which rows train, validate and test."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tltool.data.record import Floats, Ints
from tltool.errors import ConfigError, DataError


class Split(NamedTuple):
    """Row numbers of each part, all different."""

    train: Ints
    val: Ints
    test: Ints

    def items(self) -> list[tuple[str, Ints]]:
        """Return (name, rows) of the three parts."""
        return [("train", self.train), ("val", self.val), ("test", self.test)]


def random(
    ids: Sequence[str], labelled: Floats, /, *, seed: int, val: float, test: float, train_size: int | None
) -> Split:
    """Split the labelled rows by one permutation.

    ``labelled`` (n,) holds the labels, NaN where absent: those rows are left out. ``val`` and ``test`` are fractions.
    ``train_size`` keeps the first so many training rows and validation rows in proportion, so that training sets
    of one seed are nested and test rows never change with the size. Raises DataError for an empty part.
    """
    if not (0 <= val < 1 and 0 < test < 1 and val + test < 1):
        raise ConfigError(f"split: val={val} and test={test} must be fractions that leave something to train on.")
    rows = np.flatnonzero(np.isfinite(labelled))
    rows = rows[np.random.default_rng(seed).permutation(len(rows))]
    n_test, n_val = round(test * len(rows)), round(val * len(rows))
    parts = Split(rows[n_test + n_val :], rows[n_test : n_test + n_val], rows[:n_test])
    if train_size is not None:
        if not 0 < train_size <= len(parts.train):
            raise ConfigError(f"split.train_size={train_size}: there are 1 to {len(parts.train)} training rows.")
        n_val = round(train_size * val / (1 - val - test))
        parts = Split(parts.train[:train_size], parts.val[: max(n_val, 1 if val else 0)], parts.test)
    return checked(parts, len(ids), needs_val=val > 0)


def by_ids(ids: Sequence[str], labelled: Floats, /, *, file: str) -> Split:
    """Split as ``file`` says: a CSV with columns ``id`` and ``split`` (train, val or test), as every run writes one.

    Raises DataError for an unreadable file, an id the data set does not have, or an empty part.
    """
    import csv
    from pathlib import Path

    row_of = {name: row for row, name in enumerate(ids)}
    parts: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    try:
        with Path(file).open(encoding="utf-8", newline="") as handle:
            for line in csv.DictReader(handle):
                if line["id"] not in row_of:
                    raise DataError(
                        f"{file}: the data set has no id {line['id']!r}; use the data that the split is of."
                    )
                if np.isfinite(labelled[row_of[line["id"]]]):
                    parts[line["split"]].append(row_of[line["id"]])
    except (OSError, KeyError) as error:
        raise DataError(
            f"{file}: needs columns id and split (train, val or test); check the file ({error!r})."
        ) from error
    return checked(
        Split(*(np.array(parts[p], dtype=np.int64) for p in ("train", "val", "test"))), len(ids), needs_val=False
    )


def checked(parts: Split, n_records: int, needs_val: bool) -> Split:
    """Return ``parts``; raise DataError if training or test (or validation, if needed) rows are missing or shared."""
    for name, rows in parts.items():
        if not len(rows) and (name != "val" or needs_val):
            labelled = sum(len(r) for _, r in parts.items())
            raise DataError(
                f"The {name} split is empty ({n_records} records, {labelled} of them labelled); add labelled rows or "
                "change split.val and split.test."
            )
    every = np.concatenate([rows for _, rows in parts.items()])
    if len(np.unique(every)) != len(every):
        raise DataError("A row is in two parts of the split; each id may stand in one part only.")
    return parts
