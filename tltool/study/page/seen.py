"""Errors on test crystals that the source was trained on and on those that it was not, apart."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from tltool.reporting.comparable import grouped
from tltool.reporting.render.blocks import Block, Grid, Paragraph
from tltool.reporting.wording import fixed
from tltool.study.summary import Summary
from tltool.study.table import Row


def blocks(found: Summary, rows: Sequence[Row]) -> Iterator[Block]:
    """Yield the errors of all, of seen and of unseen test crystals, for each mode that takes something of a source."""
    once = {mode.name for mode in found.axes.modes if mode.once}
    taken = [row for row in rows if row.cell.kind.mode not in once]
    lines = []
    for kind, some in grouped(taken, lambda row: row.cell.kind).items():
        if not all(map(_both, some)):  # the mean of some draws alone would not be that of the other tables
            continue
        every = fmean(row.error for row in some)
        seen, unseen = (fmean(_both(row)[k] for row in some) for k in (0, 1))
        counts = [f"{fmean(_block(row)[word]['n'] for row in some):.0f}" for word in ("seen", "unseen")]
        size = "all" if kind.size is None else f"{kind.size:,}"
        cells = [kind.target, kind.split, size, kind.mode, kind.source, fixed(every), fixed(seen, every), counts[0]]
        lines.append([*cells, fixed(unseen, every), counts[1], f"{unseen / every:.2f}" if every else "-"])
    if lines:
        yield Paragraph(
            "Test crystals that are in the training data of the source are seen. Where its own label is the one that "
            "is tested, or close to it, only the unseen ones count: a factor well above 1 says that the error of all "
            "test crystals flatters the source."
        )
        header = ["target", "split", "rows", "mode", "source", "error, all", "error, seen", "crystals"]
        yield Grid([*header, "error, unseen", "crystals", "unseen / all"], "llrllrrrrrr", lines)


def _block(row: Row) -> dict[str, dict[str, float]]:
    return row.run.quantities[row.quantity]


def _both(row: Row) -> tuple[float, ...]:
    found = [float(_block(row)[word][row.metric]) for word in ("seen", "unseen") if row.metric in _part(row, word)]
    return tuple(found) if len(found) == 2 else ()


def _part(row: Row, word: str) -> dict[str, float]:
    return _block(row).get(word) or {}
