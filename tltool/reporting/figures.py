"""The figures of a report and their captions; tltool.plots draws them."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tltool import plots
from tltool.reporting.comparable import grouped
from tltool.reporting.finished_runs import epochs, predictions
from tltool.reporting.render.blocks import Block, Heading, Paragraph, Picture
from tltool.reporting.statistics import Summary, by_element, mean_curve
from tltool.reporting.wording import fixed, plural, where


def parity(group: Sequence[Summary]) -> Iterator[Block]:
    """Give prediction against label for each mode on the largest training size of ``group``."""
    last = _largest(group)
    yield Heading(3, where(last[0].place))
    for row in last:
        rows = predictions(row.runs, row.place.quantity)
        if rows is None:
            yield Paragraph(f"{row.mode}: no run has a readable predictions.csv with labelled test crystals.")
            continue
        caption = f"{row.mode}: {len(rows):,} test predictions of {plural(len(row.runs), 'run')}"
        given = (rows["label"].to_numpy(), rows["prediction"].to_numpy(), ["test"] * len(rows))
        name = f"parity {row.place.target} {row.mode}"
        yield _draw(name, caption, "third", plots.parity, *given, row.unit, row.mode, row.place.quantity)


def elements(group: Sequence[Summary]) -> Iterator[Block]:
    """Give the error by element of the best mode, or the only one, on the largest training size of ``group``."""
    last = _largest(group)
    row = next((row for row in last if row.best), last[0])
    rows = predictions(row.runs, row.place.quantity)
    if rows is None or not (row.best or len(last) == 1):
        return
    yield Heading(3, f"{where(row.place)}: {row.mode}")
    found = by_element(rows)
    errors = {symbol: error for symbol, (error, _) in found.items()}
    counts = {symbol: n for symbol, (_, n) in found.items()}
    caption = f"Mean absolute error ({row.unit}) of the test crystals that contain the element; n = such crystals"
    title = f"Test error by element: {row.place.target}, {row.mode}"
    name = f"elements {row.place.target} {row.mode}"
    yield _draw(name, caption, "full", plots.periodic_table, errors, row.unit, title, counts=counts)
    unseen = rows["unseen_elements"].str.strip() != ""
    if unseen.any():
        of, others = (
            f"{fixed(float(rows['error'][part].mean()))} {row.unit} ({plural(int(part.sum()), 'prediction')})"
            for part in (unseen, ~unseen)
        )
        yield Paragraph(f"Crystals with an element that was not seen in training: MAE {of}; the others: {others}.")


def curves(rows: Sequence[Summary], colours: Mapping[str, str]) -> Iterator[Block]:
    """Give a picture for each quantity fitted: validation MAE, or the training loss where nothing was validated."""
    for group in grouped(rows, lambda row: row.place._replace(train_size=None)).values():
        last = _largest(group)
        place, transfer = last[0].place, last[0].place.stage == "transfer"
        pairs = [(row.mode if transfer else run.name, epochs(run, place.quantity)) for row in last for run in row.runs]
        logs = grouped(pairs, lambda pair: pair[0]).items()
        for which, (what, unit) in enumerate([("validation MAE", last[0].unit), ("training loss", "scaled labels")]):
            lines = {name: line for name, found in logs if (line := mean_curve([log[which] for _, log in found]))}
            if lines:
                mean = ", mean over the runs of a mode up to the last epoch that all of them reached" * transfer
                how = {"what": what, "colours": colours if transfer else None}
                name = f"curves {place.stage} {place.target}"
                caption = f"{place.stage}: {what} ({unit}){mean}"
                yield _draw(name, caption, "half", plots.learning_curves, lines, unit, where(place), **how)
                break


def sizes(group: Sequence[Summary], colours: Mapping[str, str]) -> Iterator[Block]:
    """Give test MAE against training size, if ``group`` has several sizes."""
    known = [row for row in group if row.place.train_size and row.MAE.n and row.MAE.mean > 0]
    if len({row.place.train_size for row in known}) < 2:
        return
    series = {
        mode: [(row.place.train_size, row.MAE.mean, row.MAE.sd) for row in rows]
        for mode, rows in grouped(known, lambda row: row.mode).items()
    }
    place, unit = known[0].place, known[0].unit
    caption = f"Test MAE ({unit}) against the number of training crystals: mean and standard deviation over runs"
    title = where(place, size=False)
    yield _draw(f"sizes {place.target}", caption, "half", plots.sizes, series, unit, title, colours=colours)


def _draw(name: str, caption: str, width: str, draw: Callable[..., None], *given: Any, **named: Any) -> Picture:
    buffer = io.BytesIO()
    draw(buffer, *given, **named)
    return Picture(name, buffer.getvalue(), caption, width)


def _largest(group: Sequence[Summary]) -> list[Summary]:
    """Return the rows of the largest training size; rows are sorted by it."""
    return [row for row in group if row.place == group[-1].place]
