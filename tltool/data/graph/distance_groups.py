"""Which numbers of a sorted row are one value: close ones together, in groups of a bounded width.

Distances of one crystal, and cosines between its edges, differ in their last digits where symmetry makes them equal.
Sizes: v values.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

_HALVINGS = 30


def begins(
    values: npt.NDArray[Any], apart: npt.NDArray[np.bool_], /, *, tolerance: float, width: float
) -> npt.NDArray[np.bool_]:
    """Return (v,) where a new group begins among ``values`` (v,), ascending between the places ``apart`` (v - 1,).

    Values that follow each other within ``tolerance`` are one group. A chain of them that is wider than ``width`` is
    split at its gaps above half the tolerance, what is still too wide above a quarter, and so on, so that no group is
    wider than ``width`` and the widest gaps part it. Nothing is joined across ``apart``.
    """
    gap = np.diff(values)
    new = np.ones(len(values), dtype=bool)
    new[1:] = (gap > tolerance) | apart
    for step in range(1, _HALVINGS + 2):
        first = np.flatnonzero(new)
        last = np.append(first, len(values))[1:] - 1
        wide = values[last] - values[first] > width
        if not wide.any():
            break
        # Beyond the last halving only equal values stay together.
        least = tolerance / 2**step if step <= _HALVINGS else 0.0
        new[1:] |= np.repeat(wide, last - first + 1)[1:] & (gap > least)
    return new
