"""Find again which rows of its data set a source was trained, validated and tested on: its run wrote ``split.csv``."""

import csv
from pathlib import Path

import numpy as np

from tltool.data.splits import Split
from tltool.data.store import Store
from tltool.errors import DataError


def of_run(model: Path, records: Store) -> Split:
    """Return the rows of ``records`` in each part of the split that the run of the folder ``model`` made.

    Raise DataError if its ``split.csv`` is missing or damaged, or names crystals that ``records`` do not have.
    """
    file = model.parent / "split.csv"
    instead = "name the run folder of a source whose data have not changed, or use mode.replay=0."
    places = {name: row for row, name in enumerate(records.ids)}
    found: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            for line in csv.DictReader(lines):
                found[line["split"]].append(places.get(line["id"], -1))
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise DataError(
            f"mode.replay needs the rows that the source was trained on, and {file}, which says them, cannot be read "
            f"({type(error).__name__}); {instead}"
        ) from error
    parts = {name: np.array(rows, dtype=np.int64) for name, rows in found.items()}
    if lost := sum(int((rows < 0).sum()) for rows in parts.values()):
        raise DataError(
            f"mode.replay: {file} names {lost:,} crystals that the prepared records no longer have; {instead}"
        )
    return Split(**parts)
