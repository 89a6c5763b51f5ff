"""Labels of a cheaper level of theory, matched to the crystals of a data set by id."""

from collections.abc import Sequence

import numpy as np

from tltool.data.origin import crystals
from tltool.data.record import Floats
from tltool.data.store import Store
from tltool.errors import DataError


def base_labels(records: Store, base: Store, quantities: Sequence[str]) -> Floats:
    """Return (n, q): the labels of ``base`` for the crystals of ``records``, NaN for a crystal without a label.

    Two crystals are the same if they have the same tag ``mat_id``, or the same id if a store has no such tag. Raise
    DataError if ``base`` lacks a quantity or shares no crystal.
    """
    row_of = {key: row for row, key in enumerate(crystals(base))}
    rows = np.array([row_of.get(key, -1) for key in crystals(records)], dtype=np.int64)
    if not (rows >= 0).any():
        names = [store.attributes.get("name", "") for store in (records, base)]
        raise DataError(
            f"The data sets {names[0]!r} and {names[1]!r} have no id in common (tag mat_id, or id), so there is no "
            "difference to learn; name a base of the same crystals."
        )
    columns = [np.where(rows >= 0, base.label(name)[rows], np.nan) for name in quantities]
    return np.stack(columns, axis=1)
