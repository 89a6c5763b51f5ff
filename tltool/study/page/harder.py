"""What becomes of each mode where the test is harder: the factor between the errors, and materials beyond the range."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from statistics import fmean
from typing import NamedTuple

import numpy as np

from tltool.reporting.comparable import grouped
from tltool.reporting.finished_runs import Result
from tltool.reporting.render.blocks import Block, Grid, Paragraph
from tltool.reporting.wording import fixed
from tltool.study.summary import Line, Summary
from tltool.study.table import Row

_FEW = 5  # test crystals beyond the range, fewer than which say nothing


class Beyond(NamedTuple):
    """Test crystals with a label above all training labels: how many (``n``), and what a model made of them.

    ``error`` is their mean absolute error and ``offset`` the mean of prediction minus label, in the unit of the label.
    ``recall`` is the share of them among the ``n`` largest predictions for validation and test crystals together, which
    is ``chance`` for a model that guesses. ``above`` is the share with a prediction above all training labels.
    """

    n: int
    error: float
    offset: float
    recall: float
    chance: float
    above: float


def factors(found: Summary) -> Iterator[Block]:
    """Yield by which factor the errors of each mode grow from the first kind of split to each other one."""
    easy = next(iter(found.axes.splits))
    lines = [*found.baselines.values(), *found.lines]
    first = {_key(line): line for line in lines if line.place.split == easy}
    rows = []
    for line in lines:
        other = first.get(_key(line))
        if other is None or line.place.split == easy:
            continue
        for (size, after), (_, before) in _sizes(line, other):
            cells = [line.place.target, line.place.split, f"{size:,}", line.mode, line.source]
            rows.append([*cells, fixed(before), fixed(after, before), f"{after / before:.2f}"])
    if rows:
        yield Paragraph(
            f"Test error with the split {easy} and with a harder one, and the factor between them. The test crystals "
            "differ, so that a factor compares modes with each other, not one split with another."
        )
        yield Grid(["target", "split", "rows", "mode", "source", easy, "harder", "factor"], "llrllrrr", sorted(rows))


def beyond(found: Summary, rows: Sequence[Row]) -> Iterator[Block]:
    """Yield errors and recall of test crystals above the range of the training labels, for the harder splits."""
    easy = next(iter(found.axes.splits))
    lines = []
    for kind, some in grouped(rows, lambda row: row.cell.kind).items():
        parts = [] if kind.split == easy else [outside(row.run, row.quantity) for row in some]
        known = [part for part in parts if part is not None and part.n >= _FEW]
        if known and len(known) == len(some):
            error, offset = fmean(part.error for part in known), fmean(part.offset for part in known)
            cells = [kind.target, kind.split, "all" if kind.size is None else f"{kind.size:,}", kind.mode, kind.source]
            cells += [f"{fmean(part.n for part in known):.0f}", fixed(error), fixed(offset, error)]
            cells += [f"{fmean(getattr(part, key) for part in known):.0%}" for key in ("recall", "chance", "above")]
            lines.append(cells)
    if lines:
        yield Paragraph(
            "Test crystals with a label above all training labels. Offset: mean of prediction minus label. Recall: the "
            "share of them among as many largest predictions for the validation and test crystals together; by chance "
            "it is the number beside it. Above: the share with a prediction above all training labels."
        )
        header = [
            "target",
            "split",
            "rows",
            "mode",
            "source",
            "crystals",
            "error",
            "offset",
            "recall",
            "chance",
            "above",
        ]
        yield Grid(header, "llrllrrrrrr", lines)


def outside(run: Result, quantity: str) -> Beyond | None:
    """Return what a run made of the test crystals above its training labels; None without predictions of numbers."""
    import pandas as pd

    with suppress(OSError, ValueError, KeyError):
        table = pd.read_csv(run.folder / "predictions.csv", dtype=str, keep_default_na=False)
        table = table[table["quantity"] == quantity]
        label, found = (pd.to_numeric(table[column], errors="coerce").to_numpy() for column in ("label", "prediction"))
        part = table["split"].to_numpy()
        train = label[(part == "train") & np.isfinite(label)]
        held = (part != "train") & np.isfinite(label) & np.isfinite(found)
        if not len(train) or not held.any():
            return None
        far = (part == "test") & held & (label > train.max())
        n = int(far.sum())
        if not n:
            return Beyond(0, math.nan, math.nan, math.nan, math.nan, math.nan)
        largest = np.argsort(-found[held], kind="stable")[:n]
        error = found[far] - label[far]
        return Beyond(
            n,
            float(np.abs(error).mean()),
            float(error.mean()),
            float(far[held][largest].mean()),
            n / int(held.sum()),
            float((found[far] > train.max()).mean()),
        )
    return None


def _key(line: Line) -> tuple[str, str, str, str]:
    return line.place.target, line.place.quantity, line.mode, line.source


def _sizes(line: Line, other: Line) -> Iterator[tuple[tuple[int, float], tuple[int, float]]]:
    """Yield (rows, mean error) of both lines for each size; a split by groups meets all rows only about."""
    if len(line.errors) == len(other.errors) == 1:
        [(size, after)], [(rows, before)] = line.errors.items(), other.errors.items()
        yield (size, fmean(after)), (rows, fmean(before))
        return
    for size in sorted(line.errors.keys() & other.errors.keys()):
        yield (size, fmean(line.errors[size])), (size, fmean(other.errors[size]))
