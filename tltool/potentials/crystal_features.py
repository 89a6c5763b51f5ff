"""What a potential says of a crystal as one row of numbers, and where in it each block of features stands.

A row has the mean and the standard deviation over the sites of each level, then the energy, then the numbers of the
recipes of ``physics`` that were asked for. Sizes: w numbers.
"""

from collections.abc import Sequence

import numpy as np

from tltool.data.record import Crystal, Floats
from tltool.potentials import physics
from tltool.potentials.potential import Potential

LABELS = "labels"
Blocks = dict[str, list[int]]
"""Where each block begins and ends in the row."""


def blocks(widths: Sequence[int], recipes: Sequence[str] = ()) -> Blocks:
    """Return the blocks of a row, of levels with so many features each and of ``recipes`` of ``physics``.

    They are ``level_k``, whose first half is the mean and whose second the standard deviation; ``labels``, the energy;
    and those of ``physics.BLOCKS``.
    """
    ends = np.cumsum([2 * width for width in widths]).tolist()
    found = {f"level_{k}": [end - 2 * width, end] for k, (width, end) in enumerate(zip(widths, ends, strict=True))}
    found[LABELS] = [ends[-1], ends[-1] + 1]
    first = own_width(widths)
    for recipe in recipes:
        own = {name: (begin, end) for name, (of, begin, end) in physics.BLOCKS.items() if of == recipe}
        found |= {name: [first + begin, first + end] for name, (begin, end) in own.items()}
        first += physics.WIDTHS[recipe]
    return found


def own_width(widths: Sequence[int]) -> int:
    """Return how many numbers of a row are levels and energy."""
    return 2 * sum(widths) + 1


def row(potential: Potential, crystal: Crystal, /) -> Floats:
    """Return the row (w,) of ``crystal``; raise ValueError as the ``potential`` does, and for numbers not finite."""
    found = potential.sites(crystal)
    parts = [part for level in found.levels for part in (level.mean(axis=0), level.std(axis=0))]
    made: Floats = np.concatenate([*parts, [found.energy]])
    if not np.isfinite(made).all():
        raise ValueError("its features are not finite")
    return made
