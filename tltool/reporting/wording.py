"""Format numbers and names, in the same way for reports and the terminal."""

import math

from tltool.plot_style import decimals
from tltool.reporting.comparable import Place
from tltool.reporting.statistics import Spread, Summary

NONE = "-"


def fixed(value: float, like: float | None = None) -> str:
    """Return ``value`` as text, with the decimals that show three digits of ``like`` (default: of ``value``)."""
    return f"{value:.{decimals(value if like is None else like)}f}" if math.isfinite(value) else NONE


def styled(value: float, style: str) -> str:
    """Return ``value`` as text in a ``style``, a format of Python such as ``.1%``; without a style as ``fixed``."""
    return format(value, style) if style and math.isfinite(value) else fixed(value)


def show(spread: Spread, style: str = "") -> str:
    """Return mean ± standard deviation as text, in a ``style`` or with the decimals of the mean."""
    if style:
        return styled(spread.mean, style) + (f" ± {styled(spread.sd, style)}" if spread.n > 1 else "")
    return fixed(spread.mean) + (f" ± {fixed(spread.sd, like=spread.mean)}" if spread.n > 1 else "")


def count(value: float | None, mark: str = ",") -> str:
    """Return a whole number as text, with ``mark`` between thousands."""
    return NONE if value is None or not math.isfinite(value) else f"{value:{mark}.0f}"


def plural(n: int, word: str) -> str:
    """Return ``n`` and ``word``, with an s unless ``n`` is 1."""
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def probability(p: float) -> str:
    """Return a probability as text with two digits; below 0.001, an upper bound."""
    return NONE if not math.isfinite(p) else "< 0.001" if p < 0.001 else f"{p:.2g}"


def where(place: Place, size: bool = True) -> str:
    """Return the name of a place: target, data, quantity, number of training crystals if ``size``, and its note."""
    of = f" ({place.data})" if place.data != place.target else ""
    crystals = f", {place.train_size:,} training crystals" if size and place.train_size is not None else ""
    note = f"; {place.note}" if place.note else ""
    rule = f"; overlap={place.overlap}" if place.overlap else ""
    return f"{place.target}{of}, {place.quantity}{crystals}{note}{rule}"


def mode(row: Summary) -> str:
    """Return the name of the mode, marked if it is the best."""
    return row.mode + " (best)" * row.best
