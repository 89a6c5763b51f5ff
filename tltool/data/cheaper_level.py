"""Labels of a cheaper level of theory: which columns of a table hold them, and the labels themselves, matched by id."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tltool.data.formats import tables
from tltool.data.origin import crystals
from tltool.data.record import Floats
from tltool.data.store import Store
from tltool.errors import DataError

_LEVELS = (
    ("lda", "pz"),
    ("pbe", "pbesol", "rpbe", "pw91", "gga", "dft"),
    ("scan", "rscan", "r2scan", "mbj", "tbmbj", "gllbsc"),
    ("hse", "hse03", "hse06", "pbe0", "b3lyp"),
    ("gw", "gw0", "g0w0", "qsgw"),
    ("exp", "expt", "experiment", "experimental", "measured"),
)
"""Words of column names that name a level of theory, from cheap to expensive; an experiment costs most."""
_RANK = {word: rank for rank, words in enumerate(_LEVELS) for word in words}


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


def cheaper_columns(columns: Sequence[str], learnt: str) -> list[str]:
    """Return those of ``columns`` that hold the quantity of the column ``learnt`` at a cheaper level of theory.

    Names say so: gap_pbe is cheaper than gap_hse. The most expensive of them comes first.
    """
    what, level = _level(learnt)
    if level is None:
        return []
    found = [(rank, name) for name in columns for stem, rank in [_level(name)] if stem == what and rank is not None]
    return [name for rank, name in sorted(found, key=lambda one: -one[0]) if rank < level]


def _level(column: str) -> tuple[str, int | None]:
    """Return the name of ``column`` without the words of a level and without a unit, and the rank of that level."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"gllb[-_ ]?sc", "gllbsc", re.sub(r"\(.*?\)", " ", column.lower())))
    ranks = [_RANK[word] for word in words if word in _RANK]
    return " ".join(word for word in words if word not in _RANK), ranks[0] if len(ranks) == 1 else None


def column_of(adapter: Mapping[str, Any], quantity: str) -> str:
    """Return the column in which the table of ``adapter`` holds ``quantity``."""
    columns, labels = adapter.get("columns") or [], adapter.get("labels") or [quantity]
    return str(dict(zip(labels, columns, strict=False)).get(quantity, quantity))


def columns_of(root: Path, adapter: Mapping[str, Any]) -> list[str]:
    """Return the columns of the table that ``adapter`` reads at ``root``; none of another kind of input."""
    kind = str(adapter.get("_target_", "")).removeprefix("tltool.data.adapters.")
    if kind not in ("table.read", "folder.read"):
        return []
    file = root / str(adapter.get("table") or "id_prop.csv") if kind == "folder.read" else root
    if not file.is_file() or not tables.is_table(file):
        return []
    for _, row in tables.rows(file, (), adapter.get("header_line")):
        return [str(name) for name in row]
    return []
