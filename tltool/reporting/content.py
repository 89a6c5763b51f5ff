"""The content of a report, section by section, as blocks."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from tltool import metrics, plots
from tltool.quantities import QUANTITIES
from tltool.reporting import citations, figures
from tltool.reporting.comparable import Cell, grouped
from tltool.reporting.finished_runs import Result, Runs
from tltool.reporting.next_runs import advice
from tltool.reporting.render.blocks import Block, Bullets, Grid, Heading, Paragraph, Verbatim
from tltool.reporting.statistics import Summary, mode_order, summarise
from tltool.reporting.unpaired import Unpaired, unpaired
from tltool.reporting.wording import NONE, count, fixed, mode, plural, probability, show, styled, where

_HOW_TO_READ = (
    "Errors are those of the test crystals: mean ± sample standard deviation over runs. MAE/MAD divides the MAE by "
    "that of always predicting the mean training label; below 1 the model has learnt something. {better} Runs are "
    "averaged if they share data, quantity, base, shape of the model, kind of split, training size, fit and "
    "optimiser. The difference to scratch is the test MAE of a mode minus that of such a scratch run with the same "
    "seed and the same test and training crystals with their labels, with its 95 % interval (Student's t over the "
    "pairs). Positive transfer: the interval lies below zero; negative transfer: above zero; neutral: it holds zero; "
    "not known: fewer than two pairs. p is the two-sided probability of a difference at least so large if there were "
    "none: by Student's t, and by flipping signs of the differences at random, which asks for no normal distribution "
    "but cannot fall below 0.25 for three pairs and 0.06 for five. Neither is corrected for the number of modes "
    "looked at."
)
_RUN = ["run", "mode", "target", "data", "training crystals", "seed", "split seed", "quantity", "unit"]
_COST = ["trainable parameters", "time (s)", "source model"]


def compose(runs: Runs) -> list[Block]:
    """Return the report on ``runs``; a section without content is left out."""
    rows = summarise(runs.results)
    transfers = [row for row in rows if row.place.stage == "transfer"]
    groups = grouped(transfers, lambda row: row.place._replace(train_size=None)).values()
    colours = plots.palette(sorted({row.mode for row in transfers}, key=mode_order))
    cited = list(dict.fromkeys(text for result in runs.results for text in result.citations))
    sections: dict[str, Iterable[Block]] = {
        "Pretraining runs": _list(runs.results, "pretrain"),
        "Transfer": chain([_how_to_read(transfers)] if groups else [], *map(_comparison, groups)),
        "Runs that are not compared": _unpaired(unpaired(runs.results)),
        "Parity": chain(*map(figures.parity, groups)),
        "Error by element": chain(*map(figures.elements, groups)),
        "Learning curves": figures.curves(rows, colours),
        "Training size": chain(*(figures.sizes(group, colours) for group in groups)),
        "Transfer runs": _list(runs.results, "transfer"),
        "Evaluations": _list(runs.results, "eval"),
        "Citations": [Bullets(cited), Verbatim(citations.entries(cited))] if cited else [],
        "Left out": [Grid(["run", "state", "reason"], "lll", list(map(list, runs.skipped)))] if runs.skipped else [],
    }
    title = "tltool report: " + ", ".join(sorted({result.target for result in runs.results}))
    blocks = [Heading(1, title), *_overview(runs, rows)]
    for title, content in sections.items():
        if found := list(content):
            blocks += [Heading(2, title), *found]
    return blocks


def _how_to_read(transfers: Sequence[Summary]) -> Paragraph:
    """Return what the tables mean, and of the metrics in them which way they point."""
    shown = [m for m in metrics.METRICS if any(m.name in row.errors for row in transfers)]
    names = {way: ", ".join(m.name for m in shown if m.better == way) for way in ("smaller", "larger")}
    better = [f"{way.capitalize()} is better for {some}." for way, some in names.items() if some]
    return Paragraph(_HOW_TO_READ.format(better=" ".join(better)))


def _overview(runs: Runs, rows: Sequence[Summary]) -> Iterator[Block]:
    counts = Counter(result.stage for result in runs.results)
    stages = ", ".join(f"{n} {stage}" for stage, n in sorted(counts.items()))
    left = f"; {len(runs.skipped)} unfinished or damaged left out" if runs.skipped else ""
    yield Paragraph(
        f"{plural(len(runs.results), 'finished run')} ({stages}){left}. Folders are relative to {runs.root}."
    )
    if best := [_headline(row) for row in rows if row.place.stage == "transfer" and row.best]:
        yield Bullets(best)
    if notes := [f"{where(row.place)}, {row.mode}: {note}" for row in rows for note in _notes(row)]:
        yield Heading(3, "To bear in mind")
        yield Bullets(notes)


def _headline(row: Summary) -> str:
    text = f"{where(row.place)}: {row.mode} is best, test MAE {show(row.MAE)} {row.unit}"
    if row.plain_MAE and row.plain_MAE.n:
        text += f" ({show(row.plain_MAE)} {row.plain_unit})"
    if row.paired and row.paired.n:
        text += f"; {row.paired.verdict} against scratch over {plural(row.paired.n, 'pair')}"
        text += f", p {probability(row.paired.p)}" if row.paired.n > 1 else ""
    return text + "."


def _notes(row: Summary) -> Iterator[str]:
    """Say what may make a row mean less than it seems to."""
    if row.MAE.n < len(row.runs):
        yield f"{len(row.runs) - row.MAE.n} of {plural(len(row.runs), 'run')} have no finite test MAE."
    if row.place.stage == "transfer":
        if len({(run.seed, run.split_seed, run.draw, run.fold) for run in row.runs}) < len(row.runs):
            yield "a seed and split occur more than once; repeats, or runs with different settings?"
        if len({run.trainable_parameters for run in row.runs if math.isfinite(run.trainable_parameters)}) > 1:
            yield "the runs differ in trainable parameters, so they may not be of one model."


def _list(results: Sequence[Result], stage: str) -> Iterator[Block]:
    runs = [result for result in results if result.stage == stage]
    names = {name for run in runs for name in run.quantities}
    shown = [m for m in metrics.METRICS if m.better and any(m.applies_to(QUANTITIES.get(name)) for name in names)]
    rows = []
    for run in runs:
        numbers = [count(run.train_size), count(run.seed, ""), count(run.split_seed, "")]
        cost = [count(run.trainable_parameters), fixed(run.seconds), run.source]
        for name, block in run.quantities.items():
            errors = [styled(run.metric(name, metric.name), metric.style) for metric in shown]
            what = [name, str(block.get("unit", ""))]
            rows.append([run.name, run.mode, run.target, run.data, *numbers, *what, *errors, *cost])
    if rows:
        header = [*_RUN, *(f"test {metric.name}" for metric in shown), *_COST]
        yield Grid(header, "llllrrrll" + "r" * len(shown) + "rrl", rows)


def _comparison(group: Sequence[Summary]) -> Iterator[Block]:
    """Give, for one target and quantity, a table over modes and one over seeds for each training size."""
    for place, rows in grouped(group, lambda row: row.place).items():
        unit = rows[0].unit
        best = frozenset(i for i, row in enumerate(rows) if row.best)
        yield Heading(3, where(place))
        header = [name for name, _ in _errors(rows[0])]
        table = [[cell for _, cell in _errors(row)] for row in rows]
        yield Grid(header, "l" + "r" * (len(header) - 1), table, best)
        cells = sorted({cell for row in rows for cell in row.of_cells}, key=lambda cell: [_last(x) for x in cell])
        header = ["mode", f"difference to scratch ({unit})", "95 % interval", "pairs", "p (t)", "p (signs)", "transfer"]
        header += [f"MAE ({unit}), {name}" for name in _cell_names(cells)]
        table = [
            [*_against_scratch(row), *(fixed(row.of_cells.get(cell, math.nan), row.MAE.mean) for cell in cells)]
            for row in rows
        ]
        yield Grid(header, "lrrrrrl" + "r" * len(cells), table, best)
        yield from _advised(rows)


def _advised(rows: Sequence[Summary]) -> Iterator[Block]:
    """Say of each mode whose difference to scratch is not settled what would settle it, with the command."""
    for row in rows:
        if one := advice(row, row.runs[-1]):
            yield Paragraph(f"{row.mode}: {one.text}")
            yield from [Verbatim(one.command)] if one.command else []


def _unpaired(found: Sequence[Unpaired]) -> Iterator[Block]:
    if found:
        yield Paragraph(
            "These runs look like others, but are neither averaged nor paired with them, for the reason given."
        )
        cells = [[_several(u.runs), u.mode, u.target, u.quantity, u.other or NONE, u.reason] for u in found]
        yield Grid(["run", "mode", "target", "quantity", "nearest scratch run", "reason"], "llllll", cells)


def _several(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")


def _cell_names(cells: Sequence[Cell]) -> list[str]:
    """Name each cell by its seed and by what else differs between them."""
    words = {"split_seed": "split", "draw": "draw", "fold": "fold", "file": "file"}
    told = [(key, word) for key, word in words.items() if len({getattr(cell, key) for cell in cells}) > 1]
    names = [
        f"seed\u00a0{cell.seed}" + "".join(f", {word} {_word(getattr(cell, key))}" for key, word in told)
        for cell in cells
    ]
    # What is left over are rows that differ under one name, such as a split file that was written again.
    return [
        name if names.count(name) == 1 else f"{name}, rows {cell.rows[:6]}"
        for name, cell in zip(names, cells, strict=True)
    ]


def _word(value: str | int | None) -> str:
    return value or NONE if isinstance(value, str) else count(value, "")


def _last(value: str | int | None) -> tuple[bool, str | int]:
    """Return a key that sorts what is not known last; the kinds of one field do not mix."""
    return value is None, 0 if value is None else value


def _errors(row: Summary) -> list[tuple[str, str]]:
    """Return the columns of one mode: each header and what stands below it."""
    found = [("mode", mode(row)), ("runs", str(len(row.runs)))]
    for metric in (metric for metric in metrics.METRICS if metric.name in row.errors):
        found.append((metric.header(row.unit), show(row.errors[metric.name], metric.style)))
        if metric.name == "MAE" and row.plain_MAE:
            found.append((metric.header(row.plain_unit), show(row.plain_MAE, metric.style)))
    return [*found, ("trainable parameters", count(row.trainable_parameters.mean)), ("time (s)", show(row.seconds))]


def _against_scratch(row: Summary) -> list[str]:
    if not row.paired:
        return [mode(row), "baseline", NONE, NONE, NONE, NONE, NONE]
    n, mean, low, high, verdict, *chances, _ = row.paired
    interval = f"[{fixed(low, row.MAE.mean)}, {fixed(high, row.MAE.mean)}]" if n > 1 else NONE
    return [mode(row), fixed(mean, row.MAE.mean), interval, str(n), *map(probability, chances), verdict]
