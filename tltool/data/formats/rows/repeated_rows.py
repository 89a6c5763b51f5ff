"""Join several rows of one crystal to one, whose label is their mean, and whose weight may say how sure that is."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from tltool.data.formats.label_columns import Labels
from tltool.data.formats.rows.further_columns import Beside
from tltool.errors import ConfigError, DataError
from tltool.quantities import Quantities

K = TypeVar("K", bound=Hashable)
REPEATED = ("error", "mean", "count", "deviation")
"""What may become of several rows of one crystal: an error, or their mean; this may count as many times as there are
rows, or by the inverse square of its standard deviation."""


class Said(NamedTuple):
    """What a row says: its labels, and what stands ``beside`` them."""

    labels: Labels
    beside: Beside


def require(word: str, names: Sequence[str], uncertain: bool = False) -> None:
    """Raise ConfigError for a value that ``data.adapter.repeated`` cannot have with the quantities ``names``.

    ``uncertain`` says that rows have an uncertainty of their own.
    """
    if word not in REPEATED:
        raise ConfigError(f"data.adapter.repeated={word!r} is not known; use {', '.join(REPEATED)}.")
    if word == "deviation" and len(names) > 1:
        raise ConfigError(
            f"data.adapter.repeated=deviation is that of one quantity, and there are {', '.join(names)}; choose one "
            "with data.quantities=[NAME], or use count."
        )
    if uncertain and word in ("count", "deviation"):
        raise ConfigError(
            f"data.adapter.repeated={word} and data.uncertainty both say how sure a label is; use repeated=mean, which "
            "joins the uncertainties."
        )


def every_joined(every: Mapping[K, Sequence[Said]], known: Quantities, how: str, where: str) -> dict[K, Said]:
    """Return the rows of each key joined to one as ``data.adapter.repeated`` says (``how``); ``where`` is the table."""
    pooled = pooled_deviation(every.values(), where) if how == "deviation" else math.nan
    alone = how not in ("count", "deviation")
    return {
        key: several[0] if alone and len(several) == 1 else joined(several, known, how, pooled)
        for key, several in every.items()
    }


def joined(several: Sequence[Said], known: Quantities, how: str, pooled: float = math.nan) -> Said:
    """Return what rows of one crystal say together: their mean, weighted by what stands beside them.

    The weight is the sum of theirs, with ``how=count`` their number if they have none. An uncertainty is that of the
    weighted mean; with ``how=deviation`` it is that of the mean of n rows, whose variance is estimated from theirs and,
    as from one further row, from the ``pooled`` one of all crystals.
    """
    said = averaged([one.labels for one in several], known, [_weight(one.beside) for one in several])
    first = several[0].beside
    weights = [one.beside.weight for one in several]
    weight, deviation = (sum(weights) if not math.isnan(weights[0]) else math.nan), first.deviation
    if how == "count" and math.isnan(weight):
        weight = float(len(several))
    if not math.isnan(deviation):
        deviation = sum(one.beside.deviation**-2 for one in several) ** -0.5
    elif how == "deviation":
        values = [value for one in several for value in one.labels.good.values()]
        n = max(len(values), 1)
        mean = sum(values) / n
        deviation = math.sqrt((pooled**2 + sum((value - mean) ** 2 for value in values)) / n / n)
    return Said(said, first._replace(weight=weight, deviation=deviation))


def pooled_deviation(every: Iterable[Sequence[Said]], where: str) -> float:
    """Return the standard deviation of the rows of one crystal, of all crystals together; DataError without one."""
    square, degrees = 0.0, 0
    for several in every:
        values = [value for one in several for value in one.labels.good.values()]
        if len(values) > 1:
            mean = sum(values) / len(values)
            square += sum((value - mean) ** 2 for value in values)
            degrees += len(values) - 1
    if not square:
        raise DataError(
            f"{where}: no two rows of one crystal differ, so they have no standard deviation; use "
            "data.adapter.repeated=count or mean."
        )
    return math.sqrt(square / degrees)


def averaged(several: Sequence[Labels], known: Quantities, weights: Sequence[float]) -> Labels:
    """Return the mean of numbers by ``weights``, and the class that most rows name.

    A cell that is no label counts only where no row has one; a class is bad if two are named equally often.
    """
    said = Labels({}, {})
    for name in dict.fromkeys(name for one in several for name in (*one.good, *one.bad)):
        pairs = [(one.good[name], weight) for one, weight in zip(several, weights, strict=True) if name in one.good]
        total = sum(weight for _, weight in pairs)
        if not pairs:
            said.bad[name] = next(one.bad[name] for one in several if name in one.bad)
        elif not known.named(name).is_class:
            even = total <= 0
            said.good[name] = sum(v * (1.0 if even else w) for v, w in pairs) / (len(pairs) if even else total)
        else:
            count: Counter[float] = Counter()
            for value, weight in pairs:
                count[value] += weight  # type: ignore[assignment]
            (first, most), *others = count.most_common()
            if others and others[0][1] == most:
                said.bad[name] = "named differently in its rows", f"{len(pairs)} rows"
            else:
                said.good[name] = first
    return said


def _weight(beside: Beside) -> float:
    if not math.isnan(beside.deviation):
        return beside.deviation**-2
    return 1.0 if math.isnan(beside.weight) else beside.weight
