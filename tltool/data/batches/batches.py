"""The batches of a data set and a split, as a fit needs them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from tltool.crystal_graph import Graph
from tltool.data import splits
from tltool.data.batches import row_weights, tensor_table
from tltool.data.dataset import Dataset
from tltool.data.formats.rows.further_columns import CRYSTAL, DEVIATION, WEIGHT
from tltool.data.record import Floats
from tltool.data.splits import Split
from tltool.data.store import Store
from tltool.quantities import Quantities, Quantity, columns_of, shipped

_BLOCK = 65_536


@dataclass(frozen=True)
class Batches:
    """Input of a fit: ``table`` of graphs, ``labels`` (n, v) with NaN for missing ones, the quantities and the split.

    A quantity has one column. A class of more than two has a column for each: 1 in that of the label, 0 in the others
    (``columns``).

    ``base`` (n, q) contains the values from which labels are differences (a cheaper level of theory), None for labels
    themselves. ``bare`` says that the records are formulas, without structures and edges. ``known`` has the definitions
    of the quantities.

    ``weight`` (n,) says how much each row counts in training, ``deviation`` (n,) the standard deviation of its labels
    in their unit; None where the data do not say it (``row_weights``). ``crystal`` (n,) numbers the crystals, where
    several rows are of one, so that folds keep them together.
    """

    table: tensor_table.Table
    labels: Tensor
    quantities: tuple[str, ...]
    split: Mapping[str, Tensor]
    base: Tensor | None = None
    bare: bool = False
    known: Quantities = field(default_factory=shipped)
    weight: Tensor | None = None
    deviation: Tensor | None = None
    crystal: Tensor | None = None

    @property
    def columns(self) -> dict[str, slice]:
        """Which columns of the labels are of each quantity."""
        return columns_of(self.known.named(name) for name in self.quantities)

    @property
    def number_columns(self) -> dict[str, int]:
        """The column of each quantity that is no class."""
        return {name: at.start for name, at in self.columns.items() if not self.known[name].is_class}

    def __iter__(self) -> Iterator[str]:
        return iter(self.split)

    def of(self, part: str, size: int, generator: torch.Generator | None = None) -> Iterator[tensor_table.Batch]:
        """Cut the rows of ``part`` into batches, shuffled if there is a ``generator``."""
        return tensor_table.batches(self.table, self.labels, self.split[part], size, generator)

    def rows(self) -> Tensor:
        """Return the rows of all parts."""
        return torch.cat([self.split[part] for part in self])

    def graph(self, part: str) -> Graph:
        """Return all crystals of ``part`` as one batch."""
        return self.table.select(self.split[part])

    def elements(self, part: str) -> set[int]:
        """Return the atomic numbers that occur in ``part``."""
        found: set[int] = set()
        for rows in torch.split(self.split[part], _BLOCK):
            found |= set(torch.unique(self.table.numbers(rows)).tolist())
        return found

    def to(self, device: torch.device | str) -> "Batches":
        """Return the same with every tensor on ``device``."""
        rows = {name: part.to(device) for name, part in self.split.items()}
        base = None if self.base is None else self.base.to(device)
        weight, deviation = (None if of is None else of.to(device) for of in (self.weight, self.deviation))
        moved = replace(self, table=self.table.to(device), labels=self.labels.to(device), split=rows, base=base)
        return replace(moved, weight=weight, deviation=deviation)


def batches(data: Dataset, quantities: Iterable[str], split: Split, base: Floats | None = None) -> Batches:
    """Return the batches of ``data`` with the labels of ``quantities``, less ``base`` (n, q) where that is given.

    There is no base where a quantity is a class.
    """
    names, kind = tuple(quantities), torch.get_default_dtype()
    abouts = [data.store.known.named(name) for name in names]
    labels = torch.cat([_of(torch.from_numpy(data.store.label(one.name)), one) for one in abouts], dim=1)
    parts = {name: torch.from_numpy(rows) for name, rows in split.items()}
    low = None if base is None else torch.from_numpy(base)
    learned = labels if low is None else labels - low
    low = None if low is None else low.to(kind)
    bare = data.store.amounts is not None
    found = Batches(tensor_table.table(data.graphs), learned.to(kind), names, parts, low, bare, data.store.known)
    weight, deviation = (_column(data.store, tag) for tag in (WEIGHT, DEVIATION))
    crystal = None
    if CRYSTAL in data.store.tags:
        crystal = torch.from_numpy(splits.crystals(data.store, np.arange(len(data.store))))
    return replace(found, weight=weight, deviation=deviation, crystal=crystal)


def _column(records: Store, tag: str) -> Tensor | None:
    """Return the numbers (n,) of a tag; None without it."""
    found = row_weights.column(records, tag)
    return None if found is None else torch.from_numpy(found).to(torch.get_default_dtype())


def _of(label: Tensor, about: Quantity) -> Tensor:
    """Return the columns (n, w) of labels (n,): 1 in that of its class where there are several."""
    if about.width == 1:
        return label[:, None]
    place = torch.arange(about.width, dtype=label.dtype)
    return torch.where(label.isnan()[:, None], label[:, None], (label[:, None] == place).to(label.dtype))
