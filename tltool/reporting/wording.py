"""Format numbers and names, in the same way for reports and the terminal."""

import math

from tltool.plots import decimals
from tltool.reporting.comparable import Place
from tltool.reporting.statistics import Spread, Summary

NONE = "-"


def fixed(value: float, like: float | None = None) -> str:
    """Print ``value`` with as many decimals as show three digits of ``like`` (of itself if not given)."""
    return f"{value:.{decimals(value if like is None else like)}f}" if math.isfinite(value) else NONE


def styled(value: float, style: str) -> str:
    """Print ``value`` in a ``style``, a format of Python such as ``.1%``; without one as ``fixed`` does."""
    return format(value, style) if style and math.isfinite(value) else fixed(value)


def show(spread: Spread, style: str = "") -> str:
    """Print mean ± standard deviation in a ``style``, or with the mean's decimals."""
    if style:
        return styled(spread.mean, style) + (f" ± {styled(spread.sd, style)}" if spread.n > 1 else "")
    return fixed(spread.mean) + (f" ± {fixed(spread.sd, like=spread.mean)}" if spread.n > 1 else "")


def count(value: float | None, mark: str = ",") -> str:
    """Print a whole number, its thousands set off by ``mark``."""
    return NONE if value is None or not math.isfinite(value) else f"{value:{mark}.0f}"


def plural(n: int, word: str) -> str:
    """Print ``n`` of ``word``."""
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def probability(p: float) -> str:
    """Print a probability with two digits, small ones as a bound."""
    return NONE if not math.isfinite(p) else "< 0.001" if p < 0.001 else f"{p:.2g}"


def where(place: Place, size: bool = True) -> str:
    """Name target, data, quantity, with ``size`` the training crystals, and what else tells the place from others."""
    of = f" ({place.data})" if place.data != place.target else ""
    crystals = f", {place.train_size:,} training crystals" if size and place.train_size is not None else ""
    note = f"; {place.note}" if place.note else ""
    rule = f"; overlap={place.overlap}" if place.overlap else ""
    return f"{place.target}{of}, {place.quantity}{crystals}{note}{rule}"


def mode(row: Summary) -> str:
    """Name the mode, and say if it is the best."""
    return row.mode + " (best)" * row.best
