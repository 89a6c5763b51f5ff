"""How much the rows of a user's table count in training: a weight, or the standard deviation of the labels of a row.

Adapters write both as tags. A weight counts as so many rows of the same crystal and label; a standard deviation makes a
row count by the inverse of its square.
"""

import numpy as np

from tltool.data.formats.rows.further_columns import WEIGHT
from tltool.data.record import Floats, Ints
from tltool.data.split_folds import Folds
from tltool.data.splits import Split
from tltool.data.store import Store
from tltool.errors import DataError


def column(records: Store, tag: str) -> Floats | None:
    """Return the numbers (n,) of the ``tag`` of ``records``, NaN where a row has none; None if no row has it."""
    words = records.tags.get(tag)
    if words is None:
        return None
    return np.array([float(word) if word else np.nan for word in words])


def learnt(parts: Split | Folds, records: Store) -> tuple[Split | Folds, int]:
    """Return ``parts`` without rows of weight zero in training and validation, and how many rows have that weight.

    They are still tested. Raise DataError if none is left to train on.
    """
    weight = column(records, WEIGHT)
    if weight is None:
        return parts, 0
    none = np.flatnonzero(weight == 0)
    if isinstance(parts, Split):
        return _less(parts, none), len(none)
    folds = [part._replace(split=_less(part.split, none)) for part in parts.parts]
    return parts._replace(parts=folds, whole=_less(parts.whole, none)), len(none)


def _less(split: Split, none: Ints) -> Split:
    train, val = (rows[~np.isin(rows, none)] for rows in (split.train, split.val))
    if not len(train):
        raise DataError("Every training row has the weight zero; give some of them a weight above zero.")
    return split._replace(train=train, val=val)
