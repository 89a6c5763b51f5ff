"""Groups of nearly equal numbers in a sorted array, with a limited width of each group.

Distances in one crystal, and cosines between its edges, differ in the last digits even if they are equal by symmetry.
Sizes: v values.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

_HALVINGS = 30


def begins(
    values: npt.NDArray[Any], apart: npt.NDArray[np.bool_], /, *, tolerance: float, width: float
) -> npt.NDArray[np.bool_]:
    """Return (v,): True at the start of a group; ``values`` (v,) ascend between the places ``apart`` (v - 1,).

    Consecutive values that differ by at most ``tolerance`` are in one group. A chain that is wider than ``width`` is
    split at its gaps above half the tolerance, parts that are still too wide at gaps above a quarter, and so on. So no
    group is wider than ``width``, and the splits are at the largest gaps. Nothing is joined across ``apart``.
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
        # After the last halving only equal values stay together.
        least = tolerance / 2**step if step <= _HALVINGS else 0.0
        new[1:] |= np.repeat(wide, last - first + 1)[1:] & (gap > least)
    return new
