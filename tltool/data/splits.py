"""Split the rows of a data set into training, validation and test rows."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tltool.data import origin
from tltool.data.formats.rows.further_columns import CRYSTAL
from tltool.data.overlap import fingerprint
from tltool.data.record import Floats, Ints, formula
from tltool.data.store import Store
from tltool.errors import ConfigError, DataError

STRATA = "strata"
"""Attribute of a store that names the class whose shares are to be alike in all parts."""

_MORE = "add labelled rows or change split.val and split.test"


class Split(NamedTuple):
    """Row numbers of each part, all different."""

    train: Ints
    val: Ints
    test: Ints

    def items(self) -> list[tuple[str, Ints]]:
        """Return (name, rows) of the three parts."""
        return [("train", self.train), ("val", self.val), ("test", self.test)]


def random(
    records: Store,
    labelled: Floats,
    /,
    *,
    seed: int,
    draw: int | None,
    val: float,
    test: float,
    train_size: int | None,
) -> Split:
    """Split the labelled rows by one random permutation; every part has its share of each class of the ``strata``.

    ``labelled`` (n,) contains the labels; rows with NaN are left out. ``val`` and ``test`` are fractions; a ``test`` of
    1 or above is a number of rows. ``train_size`` keeps the first training rows, and validation rows in proportion, so
    that training sets of one seed are nested and test rows do not depend on the size. ``draw`` shuffles the rows
    outside the test set again: other training rows for the same test rows. If several data sets are combined, crystals
    are permuted instead of rows, so all rows of a crystal are in one part. Raise DataError for an empty part.
    """
    rows = np.flatnonzero(np.isfinite(labelled))
    crystal = crystals(records, rows)
    n = int(crystal.max(initial=-1)) + 1
    if test >= 1:
        test = min(int(test) / max(n, 1), 1.0)
    _check_fractions(val, test)
    n_test, n_val = round(test * n), round(val * n)
    classes = strata(records, rows, crystal, n)
    drawn = spread(np.random.default_rng(seed).permutation(n), classes)
    if draw is not None:
        left = drawn[n_test:][np.random.default_rng([seed, draw]).permutation(n - n_test)]
        drawn[n_test:] = spread(left, classes)
    place = np.empty(n, dtype=np.int64)
    place[drawn] = np.arange(n)
    order = np.argsort(place[crystal], kind="stable")
    tested, validated = np.searchsorted(place[crystal[order]], [n_test, n_test + n_val])
    rows = rows[order]
    parts = Split(rows[validated:], rows[tested:validated], rows[:tested])
    parts = shortened(parts, train_size, val / (1 - val - test))
    return checked(parts, len(records), needs_val=val > 0, remedy=_MORE)


def top_of_range(
    records: Store,
    labelled: Floats,
    /,
    *,
    seed: int,
    draw: int | None,
    val: float,
    test: float,
    train_size: int | None,
) -> Split:
    """Test on the crystals with the largest labels, beyond all that is trained on.

    ``labelled`` (n,) contains the labels; rows with NaN are left out. ``test`` is the fraction of the crystals that are
    tested, those with the largest label; of equal ones the first rows. The others are permuted as in ``random``:
    ``draw`` is another permutation, ``train_size`` keeps the first training rows. Raise ConfigError for classes, which
    have no top, and DataError for an empty part.
    """
    _check_fractions(val, test)
    if records.attributes.get(STRATA):
        raise ConfigError("split=top needs numbers, and these labels are classes; use split=random.")
    rows = np.flatnonzero(np.isfinite(labelled))
    crystal = crystals(records, rows)
    n = int(crystal.max(initial=-1)) + 1
    largest = np.full(n, -np.inf)
    np.maximum.at(largest, crystal, labelled[rows])
    by_label = np.argsort(-largest, kind="stable")
    n_test, n_val = round(test * n), round(val * n)
    others = np.sort(by_label[n_test:])
    chance = np.random.default_rng(seed if draw is None else [seed, draw])
    place = np.empty(n, dtype=np.int64)
    place[np.concatenate([by_label[:n_test], chance.permutation(others)])] = np.arange(n)
    order = np.argsort(place[crystal], kind="stable")
    tested, validated = np.searchsorted(place[crystal[order]], [n_test, n_test + n_val])
    rows = rows[order]
    parts = shortened(
        Split(rows[validated:], rows[tested:validated], rows[:tested]), train_size, val / (1 - val - test)
    )
    return checked(parts, len(records), needs_val=val > 0, remedy=_MORE)


def by_hash(
    records: Store,
    labelled: Floats,
    /,
    *,
    seed: int,
    group: str,
    val: float,
    test: float,
    train_size: int | None,
) -> Split:
    """Split the labelled rows by a hash, so that the part of a row does not depend on the other rows.

    ``group`` is hashed: ``id`` (added rows move no other row), ``composition`` (crystals with one reduced formula are
    in one part) or ``prototype`` (crystals with one structure type are, whatever their elements). If several data sets
    are combined, the id is that of the crystal, without the name of the data set. ``val`` and ``test`` are fractions of
    the groups, reached on average; ``train_size`` as in ``random``. Raise DataError for an empty part.
    """
    _check_fractions(val, test)
    rows = np.flatnonzero(np.isfinite(labelled))
    names = _names(records, rows)
    draws = _draws(names, f"{seed}:order")
    place = draws if group == "id" else _draws(group_names(records, rows, group), f"{seed}:{group}")
    order = rows[np.lexsort((rows, draws))]
    where = dict(zip(rows.tolist(), place.tolist(), strict=True))
    placed = np.array([where[row] for row in order.tolist()])
    parts = Split(order[placed >= val + test], order[(placed >= test) & (placed < val + test)], order[placed < test])
    return checked(shortened(parts, train_size, val / (1 - val - test)), len(records), needs_val=val > 0, remedy=_MORE)


def strata(records: Store, rows: Ints, unit: Ints, n: int) -> Ints | None:
    """Return (n,): the class of each unit of ``rows`` (r,), that of its first row; None without classes.

    ``unit`` (r,) numbers the units, such as crystals. The class is that of the quantity that the attribute
    ``STRATA`` names; a unit without a label is a class of its own.
    """
    name = records.attributes.get(STRATA)
    if not name:
        return None
    found = np.full(n, -1, dtype=np.int64)
    found[unit[::-1]] = np.nan_to_num(records.label(name)[rows][::-1], nan=-1.0).astype(np.int64)
    return found


def spread(order: Ints, classes: Ints | None) -> Ints:
    """Return ``order``, changed so that its beginning has, however long, nearly its share of each of ``classes``.

    Those of one class keep their order among themselves. A class with few rows is not at the beginning.
    """
    if classes is None:
        return order
    place = np.empty(len(order))
    for one in np.unique(classes[order]):
        mine = classes[order] == one
        place[mine] = (np.arange(mine.sum()) + 0.5) / mine.sum()
    return order[np.argsort(place, kind="stable")]


def _names(records: Store, rows: Ints) -> list[str]:
    """Return the names that identify the crystals of ``rows``: ids, or names that several data sets share."""
    if not origin.is_of_several(records):
        names = records.tags.get(CRYSTAL, records.ids)
        return [names[int(row)] or records.ids[int(row)] for row in rows]
    every = list(origin.crystals(records))
    return [every[int(row)] for row in rows]


def crystals(records: Store, rows: Ints) -> Ints:
    """Return (r,): the number of each row's crystal, counted from 0 in order of occurrence."""
    if not origin.is_of_several(records) and CRYSTAL not in records.tags:
        return np.arange(len(rows))
    number: dict[str, int] = {}
    return np.array([number.setdefault(name, len(number)) for name in _names(records, rows)], dtype=np.int64)


def group_names(records: Store, rows: Ints, group: str) -> list[str]:
    """Return the name of the group of each of ``rows``: its reduced formula (``composition``) or its ``prototype``."""
    if group == "composition":
        return [formula(c.numbers, c.amounts) for c in (records.crystal(int(row)) for row in rows)]
    if group == "prototype":
        if records.amounts is not None:
            raise DataError("split.group=prototype needs structures, and these are formulas; use split=composition.")
        types = (str(fingerprint.structure_type(records.crystal(int(row)))) for row in rows)
        # With another functional a crystal may relax to another type; the type of its first row decides the part.
        first: dict[str, str] = {}
        return [first.setdefault(name, kind) for name, kind in zip(_names(records, rows), types, strict=True)]
    raise ConfigError(f"split.group={group!r} is not known; use id, composition or prototype.")


def _draws(words: Iterable[str], salt: str) -> Floats:
    """Return for each word a number in [0, 1) that depends only on it and ``salt``."""
    digests = (hashlib.blake2b(word.encode(), digest_size=8, salt=_salt(salt)).digest() for word in words)
    return np.array([int.from_bytes(digest, "big") / 2**64 for digest in digests], dtype=np.float64)


def _salt(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _check_fractions(val: float, test: float) -> None:
    if not (0 <= val < 1 and 0 < test < 1 and val + test < 1):
        raise ConfigError(f"split: val={val} and test={test} must be fractions that leave something to train on.")


def by_ids(records: Store, labelled: Floats, /, *, file: str) -> Split:
    """Split as ``file`` says: a CSV with columns ``id`` and ``split`` (train, val or test), as every run writes one.

    Raise DataError for an unreadable file, an id that the data set does not have, or an empty part.
    """
    import csv
    from pathlib import Path

    row_of = {name: row for row, name in enumerate(records.ids)}
    parts: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    try:
        with Path(file).open(encoding="utf-8", newline="") as handle:
            for line in csv.DictReader(handle, strict=True):
                if line["id"] not in row_of:
                    raise DataError(
                        f"{file}: the data set has no id {line['id']!r}; use the data that the split is of."
                    )
                if np.isfinite(labelled[row_of[line["id"]]]):
                    parts[line["split"]].append(row_of[line["id"]])
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{file}: needs columns id and split (train, val or test); check the file ({error!r})."
        ) from error
    found = Split(*(np.array(parts[name], dtype=np.int64) for name in ("train", "val", "test")))
    return checked(found, len(records), needs_val=False, remedy=f"add rows to split.file={file}")


def shortened(parts: Split, train_size: int | None, val_per_train: float) -> Split:
    """Return ``parts`` with the first ``train_size`` training rows, and validation rows in proportion; None keeps all.

    Raise ConfigError if there are fewer training rows.
    """
    if train_size is None:
        return parts
    if not 0 < train_size <= len(parts.train):
        raise ConfigError(f"split.train_size={train_size}: there are 1 to {len(parts.train)} training rows.")
    n_val = max(round(train_size * val_per_train), 1 if val_per_train else 0)
    return parts._replace(train=parts.train[:train_size], val=parts.val[:n_val])


def checked(parts: Split, n_records: int, *, needs_val: bool, remedy: str) -> Split:
    """Return ``parts``; raise DataError, which ends with ``remedy``, if training or test rows are missing or shared.

    Missing validation rows are an error if ``needs_val``.
    """
    for name, rows in parts.items():
        if not len(rows) and (name != "val" or needs_val):
            labelled = sum(len(r) for _, r in parts.items())
            raise DataError(f"The {name} split is empty ({n_records} records, {labelled} of them labelled); {remedy}.")
    every = np.concatenate([rows for _, rows in parts.items()])
    if len(np.unique(every)) != len(every):
        raise DataError("A row is in two parts of the split; each id may occur in one part only.")
    return parts
