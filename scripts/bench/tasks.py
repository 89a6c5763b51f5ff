"""The crystals that both sides of a comparison work on."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tltool.data import store
from tltool.data.record import Crystal, Floats

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "tltool" / "data" / "bundled" / "demo.h5"


class Task(NamedTuple):
    """What both sides work on: crystals, their formation energies (n,) in eV/atom, train and test row numbers.

    ``sample`` are the rows whose graphs the published method is timed on.
    """

    crystals: list[Crystal]
    labels: Floats
    train: list[int]
    test: list[int]
    sample: list[int]


def task_of(path: Path, crystals: int, sample: int, seed: int) -> Task:
    """Draw ``crystals`` records with a formation energy, four in five to train on and the others to test on."""
    source = store.load(path)
    labels = source.label("e_form")
    draw = np.random.RandomState(seed)
    chosen = draw.permutation(np.flatnonzero(np.isfinite(labels)))[:crystals]
    order = np.argsort(source.first_site[chosen + 1] - source.first_site[chosen], kind="stable")
    # Every k-th by size: a small sample whose sizes are spread as those of the whole.
    spread = order[np.linspace(0, len(order) - 1, min(sample, len(order))).round().astype(np.int64)]
    n_train = len(chosen) // 10 * 8
    rows = list(range(len(chosen)))
    return Task(
        [source.crystal(int(row)) for row in chosen], labels[chosen], rows[:n_train], rows[n_train:], spread.tolist()
    )
