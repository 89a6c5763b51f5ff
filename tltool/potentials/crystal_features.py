"""What a potential says of a crystal as one row of numbers, and where in it each block of features stands.

A row has the mean and the standard deviation over the sites of each level, then the energy. Sizes: w numbers.
"""

from collections.abc import Sequence

import numpy as np

from tltool.data.record import Crystal, Floats
from tltool.potentials.potential import Potential

LABELS = "labels"
Blocks = dict[str, list[int]]
"""Where each block begins and ends in the row."""


def blocks(widths: Sequence[int]) -> Blocks:
    """Return the blocks of a row, of levels with so many features each: ``level_k``, then ``labels``, the energy.

    The first half of a level is the mean, the second the standard deviation.
    """
    ends = np.cumsum([2 * width for width in widths]).tolist()
    found = {f"level_{k}": [end - 2 * width, end] for k, (width, end) in enumerate(zip(widths, ends, strict=True))}
    return found | {LABELS: [ends[-1], ends[-1] + 1]}


def row(potential: Potential, crystal: Crystal, /) -> Floats:
    """Return the row (w,) of ``crystal``; raise ValueError as the ``potential`` does, and for numbers not finite."""
    found = potential.sites(crystal)
    parts = [part for level in found.levels for part in (level.mean(axis=0), level.std(axis=0))]
    made: Floats = np.concatenate([*parts, [found.energy]])
    if not np.isfinite(made).all():
        raise ValueError("its features are not finite")
    return made
