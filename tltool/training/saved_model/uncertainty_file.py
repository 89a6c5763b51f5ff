"""Whether what a model's file says of its own errors can be used: numbers, of the shapes that belong together.

``tltool/evaluation/uncertainty.py`` has the names and what they mean.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def faults(arrays: Mapping[str, npt.NDArray[Any]], quantities: Sequence[str]) -> str:
    """Return what is wrong with ``arrays`` that came in a file, in words; empty if they can be used."""
    needed = {"of": 1, "mean": 1, "scale": 1, "limit": 1, "embedding": 2}
    for name, dimensions in needed.items():
        if name not in arrays or arrays[name].ndim != dimensions or not np.isfinite(arrays[name]).all():
            return f"{name} is missing or no table of numbers"
    known = {f"{kind}/{name}" for kind in ("score", "rows") for name in quantities} | needed.keys()
    if strange := sorted(set(arrays) - known):
        return f"it has {strange[0]!r}, which is of no quantity of the model"
    if len({arrays["embedding"].shape[1], len(arrays["mean"]), len(arrays["scale"])}) > 1:
        return "embedding, mean and scale do not fit together"
    for name in quantities:
        values, rows = arrays.get(f"score/{name}"), arrays.get(f"rows/{name}")
        if (values is None) != (rows is None):
            return f"score and rows of {name} do not fit together"
        if values is not None and rows is not None:
            sizes = values.ndim == 1 and rows.shape == (1,) and 0 < int(rows[0]) <= len(values)
            if not sizes or np.isnan(values).any() or (values < 0).any():
                return f"the scores of {name} are no distances"
    return ""
