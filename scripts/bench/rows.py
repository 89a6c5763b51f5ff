"""The rows that a bench prints, one as soon as it is measured, and what became of the ratios that were kept last."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

LAST = Path(__file__).with_name("last.json")
NOISE = 0.1
"""By how much a ratio may fall before it is named."""


class Row(NamedTuple):
    """One line of the table: ``other`` is what tltool is compared with, and ``ratio`` above one where tltool is ahead.

    ``other`` and ``ratio`` are None where there is nothing to compare with. ``threads`` are those of the best turn of
    the other side and of ours.
    """

    name: str
    unit: str
    other: float | None
    ours: float
    ratio: float | None
    threads: tuple[int, ...] = ()


def faster(name: str, unit: str, other: tuple[float, int], ours: tuple[float, int]) -> Row:
    """Return the row of two speeds, each with its number of threads."""
    return Row(name, unit, other[0], ours[0], ours[0] / other[0], (other[1], ours[1]))


def smaller(name: str, unit: str, other: float, ours: float) -> Row:
    """Return the row of two numbers of which the smaller is better."""
    return Row(name, unit, other, ours, other / ours)


def heading() -> str:
    """Return the line above the rows."""
    return _line("", "unit", "other", "tltool", "ratio", "last", "change")


def line(row: Row, last: dict[str, float]) -> str:
    """Return ``row`` as it is printed; ``last`` has the ratios kept last, ``change`` is the new one over it."""
    digits = ".3f" if row.unit == "eV/atom" else ".2f" if row.unit == "s" else ",.0f"
    other = "-" if row.other is None else f"{row.other:{digits}}"
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
    before = None if row.ratio is None else last.get(row.name)
    change = "-" if row.ratio is None or before is None else f"{row.ratio / before:.2f}"
    return _line(
        row.name, row.unit, other, f"{row.ours:{digits}}", ratio, "-" if before is None else f"{before:.2f}", change
    )


def _line(name: str, unit: str, *cells: str) -> str:
    return f"{name:<31}{unit:<13}" + "".join(f"{cell:>9}" for cell in cells)


def verdict(rows: Sequence[Row], last: dict[str, float]) -> str:
    """Return a line for each ratio that fell by more than ``NOISE`` since the last, or one that says that none did."""
    known = [(row.name, row.ratio, last[row.name]) for row in rows if row.ratio is not None and row.name in last]
    fallen = [
        f"WORSE: {name}: ratio {ratio:.2f}, last {before:.2f} ({ratio / before - 1:+.0%})"
        for name, ratio, before in known
        if ratio < before * (1 - NOISE)
    ]
    return "\n".join(fallen) or f"Of {len(known)} ratios that were kept none has fallen by more than {NOISE:.0%}."


def kept() -> dict[str, Any]:
    """Return what ``last.json`` holds: ``ratios`` by name, and how and where they were measured."""
    return dict(json.loads(LAST.read_text(encoding="utf-8"))) if LAST.is_file() else {"ratios": {}}


def keep(rows: Sequence[Row], how: dict[str, Any]) -> None:
    """Write the ratios of ``rows`` to ``last.json``, and ``how`` they were measured; other ratios there stay."""
    new = {row.name: float(f"{row.ratio:.3g}") for row in rows if row.ratio is not None}
    LAST.write_text(json.dumps(how | {"ratios": kept()["ratios"] | new}, indent=2) + "\n", encoding="utf-8")
