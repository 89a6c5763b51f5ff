"""Write a table of the epochs, ``epochs.csv``, that a spreadsheet can open while the run still works."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tltool.quantities import shipped

_COLUMNS = {"epoch": "epoch", "seconds": "time (s)", "learning_rate": "learning rate", "train_loss": "train loss"}
"""Key of the event -> header. The loss is of scaled labels and has no unit."""


class EpochsCsv:
    """The logger: a row for each epoch, with the validation MAE of each quantity in its unit.

    ``file`` is made in the run folder at the first epoch. A mode that fits several times one after another begins
    again at epoch 1 in the same table.
    """

    def __init__(self, folder: Path, /, *, file: str) -> None:
        self._path = folder / file
        self._quantities: list[str] | None = None
        self._errors: dict[str, str] = {}
        self._units = {name: about.unit for name, about in shipped().items()}

    def log(self, event: Mapping[str, Any], /) -> None:
        """Append a row if ``event`` is an epoch."""
        if event.get("event") == "quantities":
            self._units |= event["units"]
            self._errors |= event.get("errors", {})
        if event.get("event") != "epoch":
            return
        if self._quantities is None:
            self._quantities = list(event["val_MAE"])
            self._append([*_COLUMNS.values(), *map(self._header, self._quantities)])
        self._append([*(event[key] for key in _COLUMNS), *(event["val_MAE"].get(q, "") for q in self._quantities)])

    def close(self, state: str, /) -> None:
        """Do nothing: every row is on the disk already."""

    def _header(self, name: str) -> str:
        word = self._errors.get(name, "MAE")
        unit = self._units.get(name, "") if word == "MAE" else ""
        return f"val {word} {name} ({unit})".removesuffix(" ()")

    def _append(self, row: list[Any]) -> None:
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(row)
