"""The figures of a report and their captions; tltool.plots draws them."""

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tltool import class_plots, metrics, plots
from tltool.plot_style import Both, limits
from tltool.quantities import Quantity
from tltool.reporting.comparable import grouped
from tltool.reporting.finished_runs import epochs, kept_epoch, predictions
from tltool.reporting.render.blocks import Block, Heading, Paragraph, Picture
from tltool.reporting.statistics import Summary, by_element, mean_curve
from tltool.reporting.wording import fixed, plural, where

_CHANCE = 0.05


def summary(groups: Iterable[Sequence[Summary]], colours: Mapping[str, str]) -> Iterator[Block]:
    """Give the error of every mode, as a fraction of that of the training mean, on the largest training sizes."""
    blocks: dict[str, list[plots.Bar]] = {}
    for group in groups:
        for row in _largest(group):
            error = row.errors.get(row.judged.relative)
            if error is not None and error.n and math.isfinite(error.mean):
                paired = row.paired is not None and row.paired.n > 1 and row.paired.p < _CHANCE
                bar = plots.Bar(row.mode, error.mean, error.sd, paired)
                blocks.setdefault(where(row.place), []).append(bar)
    if sum(map(len, blocks.values())) > 1:
        caption = (
            "Test MAE of each mode, mean and standard deviation over runs, divided by that of always predicting the "
            "mean training label; of classes the Brier score, divided by that of their shares. Filled: the difference "
            "to scratch is larger than chance explains (p below 0.05 over pairs of runs); dotted: scratch"
        )
        yield _draw("summary", caption, "full", plots.summary, blocks, "Error by mode", colours)


def parity(group: Sequence[Summary]) -> Iterator[Block]:
    """Give prediction against label for each mode on the largest training size of ``group``, on the same axes."""
    last = _largest(group)
    yield Heading(3, where(last[0].place))
    about = last[0].runs[0].about(last[0].place.quantity)
    if about is not None and about.is_class:
        yield from _classes(last, about)
        return
    found = [(row, predictions(row.runs, row.place.quantity)) for row in last]
    shown = [np.ravel(rows[["label", "prediction"]]) for _, rows in found if rows is not None]
    ends = limits(np.concatenate(shown)) if shown else None
    for row, rows in found:
        if rows is None:
            yield Paragraph(
                f"{row.mode}: no run has a predictions.csv that can be read and has labelled test crystals."
            )
            continue
        caption = f"{row.mode}: {len(rows):,} test predictions of {plural(len(row.runs), 'run')}"
        given = (rows["label"].to_numpy(), rows["prediction"].to_numpy(), ["test"] * len(rows))
        name = f"parity {row.place.target} {row.mode}"
        named = (row.unit, row.mode, row.place.quantity)
        yield _draw(name, caption, "third", plots.parity, *given, *named, ends=ends)


def _classes(last: Sequence[Summary], about: Quantity) -> Iterator[Block]:
    """Give the confusion matrix and the calibration of each mode."""
    for row in last:
        rows = predictions(row.runs, row.place.quantity)
        if rows is None:
            yield Paragraph(f"{row.mode}: no run has a predictions.csv with probabilities and labelled test crystals.")
            continue
        names = about.class_names
        label = np.eye(len(names))[rows["label"].to_numpy(int)]
        tested = metrics.Rows(label, rows[[f"p_{k}" for k in range(len(names))]].to_numpy(float), None)
        what = f"{len(rows):,} test predictions of {plural(len(row.runs), 'run')}"
        name = f"{row.place.target} {row.mode}"
        table = metrics.confusion(tested)
        caption = f"{row.mode}: {what}; a line is a class, a column is what is predicted"
        yield _draw(f"confusion {name}", caption, "third", class_plots.confusion, table, names, row.mode)
        caption = (
            f"{row.mode}: how often predictions of any class with about this probability are right; with their number"
        )
        tenths = metrics.calibration(tested)
        yield _draw(f"calibration {name}", caption, "third", class_plots.calibration, tenths, row.mode)


def elements(group: Sequence[Summary]) -> Iterator[Block]:
    """Yield the error by element of the best (or only) mode at the largest training size of ``group``."""
    last = _largest(group)
    row = next((row for row in last if row.best), last[0])
    rows = predictions(row.runs, row.place.quantity)
    if rows is None or not (row.best or len(last) == 1):
        return
    yield Heading(3, f"{where(row.place)}: {row.mode}")
    found = by_element(rows)
    errors = {symbol: error for symbol, (error, _) in found.items()}
    counts = {symbol: n for symbol, (_, n) in found.items()}
    word, unit = ("Mean absolute error", row.unit) if row.unit else ("Probability of wrong classes", "probability")
    caption = f"{word}{row.of_unit} of the test crystals that contain the element; n is their number, "
    caption += "hatched for fewer than 3; colours end at the 95th percentile"
    title = f"Test error by element: {row.place.target}, {row.mode}"
    name = f"elements {row.place.target} {row.mode}"
    yield _draw(name, caption, "full", plots.periodic_table, errors, unit, title, counts=counts)
    unseen = rows["unseen_elements"].str.strip() != ""
    if unseen.any():
        of, others = (
            f"{fixed(float(rows['error'][part].mean()))}{row.in_unit} ({plural(int(part.sum()), 'prediction')})"
            for part in (unseen, ~unseen)
        )
        yield Paragraph(
            f"{'MAE' if row.unit else word} of the crystals with an element that is not in the training crystals: "
            f"{of}; of the others: {others}."
        )


def curves(rows: Sequence[Summary], colours: Mapping[str, str]) -> Iterator[Block]:
    """Yield a learning curve per quantity: the validation MAE, or the training loss if there was no validation."""
    for group in grouped(rows, lambda row: row.place._replace(train_size=None)).values():
        last = _largest(group)
        place, transfer = last[0].place, last[0].place.stage == "transfer"
        pairs = [(row.mode if transfer else run.name, epochs(run, place.quantity)) for row in last for run in row.runs]
        logs = grouped(pairs, lambda pair: pair[0]).items()
        alone = {
            row.mode if transfer else run.name: run
            for row in last
            for run in row.runs
            if len(row.runs) == 1 or not transfer
        }
        kept = {name: epoch for name, run in alone.items() if (epoch := kept_epoch(run))}
        for which, (what, unit) in enumerate(
            [("validation MAE", last[0].unit or "probability"), ("training loss", "scaled labels")]
        ):
            lines = {name: line for name, found in logs if (line := mean_curve([log[which] for _, log in found]))}
            if lines:
                mean = ", mean over the runs of a mode, up to the last epoch that all of them reached" * transfer
                how = {"what": what, "colours": colours if transfer else None, "kept": kept}
                mean += ", ring: the epoch whose weights were kept" * bool(kept)
                name = f"curves {place.stage} {place.target}"
                caption = f"{place.stage}: {what} ({unit}){mean}"
                yield _draw(name, caption, "half", plots.learning_curves, lines, unit, where(place), **how)
                break


def sizes(group: Sequence[Summary], colours: Mapping[str, str]) -> Iterator[Block]:
    """Yield a plot of the test error against training size if ``group`` has several sizes."""
    known = [row for row in group if row.place.train_size and row.error.n and row.error.mean > 0]
    if len({row.place.train_size for row in known}) < 2:
        return
    series = {
        mode: [(row.place.train_size, row.error.mean, row.error.sd) for row in rows]
        for mode, rows in grouped(known, lambda row: row.mode).items()
    }
    place, what = known[0].place, f"{known[0].judged.error}{known[0].of_unit}"
    caption = f"Test {what} against the number of training crystals: mean and standard deviation over runs"
    title = where(place, size=False)
    yield _draw(f"sizes {place.target}", caption, "half", plots.sizes, series, what, title, colours=colours)


def _draw(name: str, caption: str, width: str, draw: Callable[..., None], *given: Any, **named: Any) -> Picture:
    files = Both(io.BytesIO(), io.BytesIO())
    draw(files, *given, **named)
    return Picture(name, files.png.getvalue(), files.svg.getvalue().decode(), caption, width)


def _largest(group: Sequence[Summary]) -> list[Summary]:
    """Return the rows of the largest training size; rows are sorted by it."""
    return [row for row in group if row.place == group[-1].place]
