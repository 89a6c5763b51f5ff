"""The content of a report, section by section, as blocks."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from tltool import metrics
from tltool.plot_style import palette
from tltool.reporting import citations, figures
from tltool.reporting.comparable import Cell, grouped
from tltool.reporting.finished_runs import Result, Runs
from tltool.reporting.next_runs import advice
from tltool.reporting.render.blocks import Block, Bullets, Grid, Heading, Paragraph, Verbatim
from tltool.reporting.statistics import Summary, mode_order, summarise
from tltool.reporting.unpaired import Unpaired, unpaired
from tltool.reporting.wording import NONE, count, fixed, mode, plural, probability, show, styled, where

_HOW_TO_READ = (
    "Errors are errors on the test crystals: mean ± sample standard deviation over runs. MAE/MAD is the MAE divided by "
    "the MAE of a model that always predicts the mean training label; below 1, the model is better than that. Brier is "
    "the Brier score of a class, half the squared distance between the probabilities and the class that is right, and "
    "Brier/shares is that divided by the score of always predicting the shares of the classes in training. {better} "
    "The mean is over runs with the same data, quantity, base, shape of the model, kind of split, training size, fit "
    "and optimiser. A run and a scratch run are a pair if they also have the same seed and the same training and test "
    "crystals with the same labels. The difference to scratch is the test MAE, or Brier score, of the mode minus that "
    "of scratch, with its 95 % confidence interval (Student's t over pairs). Positive transfer: the interval is below "
    "zero. Negative transfer: it is above zero. Neutral: it contains zero. Not known: there are fewer than two pairs. "
    "p is the two-sided probability of a difference at least this large if the true difference is zero. p (t) is from "
    "Student's t-test. p (signs) is from random signs of the differences; it needs no normal distribution, but it "
    "cannot be below 0.25 for three pairs and 0.06 for five pairs. Neither is corrected for the number of modes."
)
_RUN = ["run", "mode", "target", "data", "training crystals", "seed", "split seed", "quantity", "unit"]
_COST = ["trainable parameters", "time (s)", "source model"]


def compose(runs: Runs) -> list[Block]:
    """Return the report on ``runs`` as blocks, without empty sections."""
    rows = summarise(runs.results)
    transfers = [row for row in rows if row.place.stage == "transfer"]
    groups = grouped(transfers, lambda row: row.place._replace(train_size=None)).values()
    colours = palette(sorted({row.mode for row in transfers}, key=mode_order))
    cited = list(dict.fromkeys(text for result in runs.results for text in result.citations))
    sections: dict[str, Iterable[Block]] = {
        "Pretraining runs": _list(runs.results, "pretrain"),
        "Transfer": chain(*map(_comparison, groups)),
        "Runs that are not compared": _unpaired(unpaired(runs.results)),
        "Parity": chain(*map(figures.parity, groups)),
        "Error by element": chain(*map(figures.elements, groups)),
        "Learning curves": figures.curves(rows, colours),
        "Training size": chain(*(figures.sizes(group, colours) for group in groups)),
        "Transfer runs": _list(runs.results, "transfer"),
        "Errors of the source with replay": _replayed(runs.results),
        "Evaluations": _list(runs.results, "eval"),
        "Citations": [Bullets(cited), Verbatim(citations.entries(cited))] if cited else [],
        "How the tables are made": [_how_to_read(transfers)] if groups else [],
        "Runs left out": [Grid(["run", "state", "reason"], "lll", list(map(list, runs.skipped)))]
        if runs.skipped
        else [],
    }
    title = "tltool report: " + ", ".join(sorted({result.target for result in runs.results}))
    blocks = [Heading(1, title), *_overview(runs, rows), *figures.summary(groups, colours)]
    for title, content in sections.items():
        if found := list(content):
            blocks += [Heading(2, title), *found]
    return blocks


def _how_to_read(transfers: Sequence[Summary]) -> Paragraph:
    """Return the explanation of the tables, with the direction of each metric in them."""
    shown = [m for m in metrics.METRICS if any(m.name in row.errors for row in transfers)]
    names = {way: ", ".join(m.name for m in shown if m.better == way) for way in ("smaller", "larger")}
    better = [f"{way.capitalize()} is better for {some}." for way, some in names.items() if some]
    return Paragraph(_HOW_TO_READ.format(better=" ".join(better)))


def _overview(runs: Runs, rows: Sequence[Summary]) -> Iterator[Block]:
    counts = Counter(result.stage for result in runs.results)
    stages = ", ".join(f"{n} {stage}" for stage, n in sorted(counts.items()))
    left = f"; {len(runs.skipped)} unfinished or damaged runs are left out" if runs.skipped else ""
    yield Paragraph(
        f"{plural(len(runs.results), 'finished run')} ({stages}){left}. Folders are relative to {runs.root}."
    )
    if best := [_headline(row) for row in rows if row.place.stage == "transfer" and row.best]:
        yield Bullets(best)
    if notes := [f"{where(row.place)}, {row.mode}: {note}" for row in rows for note in _notes(row)]:
        yield Heading(3, "Warnings")
        yield Bullets(notes)


def _headline(row: Summary) -> str:
    text = f"{where(row.place)}: {row.mode} is best, test {row.judged.error} {show(row.error)}{row.in_unit}"
    if row.plain_MAE and row.plain_MAE.n:
        text += f" ({show(row.plain_MAE)} {row.plain_unit})"
    if row.paired and row.paired.n:
        text += f"; {row.paired.verdict} compared with scratch over {plural(row.paired.n, 'pair')}"
        text += f", p {probability(row.paired.p)}" if row.paired.n > 1 else ""
    return text + "."


def _notes(row: Summary) -> Iterator[str]:
    """Yield warnings about a row that may be misleading."""
    if row.error.n < len(row.runs):
        yield (
            f"{len(row.runs) - row.error.n} of {plural(len(row.runs), 'run')} have no finite test {row.judged.error}."
        )
    if row.place.stage == "transfer":
        if len({(run.seed, run.split_seed, run.draw, run.fold) for run in row.runs}) < len(row.runs):
            yield "two runs have the same seed and split; check whether they are repeats or differ in their settings."
        if len({run.trainable_parameters for run in row.runs if math.isfinite(run.trainable_parameters)}) > 1:
            yield "the runs have different numbers of trainable parameters, so their models may differ."


def _list(results: Sequence[Result], stage: str) -> Iterator[Block]:
    runs = [result for result in results if result.stage == stage]
    about = {run.about(name) for run in runs for name in run.quantities}
    shown = [m for m in metrics.METRICS if m.better and any(m.applies_to(one) for one in about)]
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


def _replayed(results: Sequence[Result]) -> Iterator[Block]:
    """Yield the errors of the source before and after each transfer that replayed rows of it, on its own test rows."""
    rows = []
    for run in results:
        learnt = run.replay.get("quantities")
        for name, one in (learnt if isinstance(learnt, dict) else {}).items():
            errors = [_of_test(one, when) for when in ("before", "after")]
            if all(map(math.isfinite, errors)):
                numbers = [f"{run.replay.get('weight', math.nan):g}", *(fixed(error, errors[0]) for error in errors)]
                rows.append([run.name, run.mode, run.target, name, str(one.get("unit", "")), *numbers])
    if rows:
        header = ["run", "mode", "target", "quantity of the source", "unit", "weight", "before", "after"]
        yield Grid(header, "lllllrrr", rows)


def _of_test(measured: Mapping[str, Any], when: str) -> float:
    """Return the error on the test rows, or else on the validation rows; NaN if there is none."""
    errors = measured.get(when) or {}
    return float(errors.get("test", errors.get("val", math.nan)))


def _comparison(group: Sequence[Summary]) -> Iterator[Block]:
    """Yield, for each training size of one target and quantity, a table of modes and a table of seeds."""
    for place, rows in grouped(group, lambda row: row.place).items():
        best = frozenset(i for i, row in enumerate(rows) if row.best)
        yield Heading(3, where(place))
        header = [name for name, _ in _errors(rows[0])]
        table = [[cell for _, cell in _errors(row)] for row in rows]
        yield Grid(header, "l" + "r" * (len(header) - 1), table, best)
        cells = sorted({cell for row in rows for cell in row.of_cells}, key=lambda cell: [_last(x) for x in cell])
        header = [
            "mode",
            f"difference to scratch{rows[0].of_unit}",
            "95 % interval",
            "pairs",
            "p (t)",
            "p (signs)",
            "transfer",
        ]
        header += [f"{rows[0].judged.error}{rows[0].of_unit}, {name}" for name in _cell_names(cells)]
        table = [
            [*_against_scratch(row), *(fixed(row.of_cells.get(cell, math.nan), row.error.mean) for cell in cells)]
            for row in rows
        ]
        yield Grid(header, "lrrrrrl" + "r" * len(cells), table, best)
        yield from _advised(rows)


def _advised(rows: Sequence[Summary]) -> Iterator[Block]:
    """Yield, for each mode whose difference to scratch is uncertain, the number of further runs and their command."""
    for row in rows:
        if one := advice(row, row.runs[-1]):
            yield Paragraph(f"{row.mode}: {one.text}")
            yield from [Verbatim(one.command)] if one.command else []


def _unpaired(found: Sequence[Unpaired]) -> Iterator[Block]:
    if found:
        yield Paragraph(
            "These runs are similar to other runs, but they are not averaged or paired with them. The table has the "
            "reason."
        )
        cells = [[_several(u.runs), u.mode, u.target, u.quantity, u.other or NONE, u.reason] for u in found]
        yield Grid(["run", "mode", "target", "quantity", "nearest scratch run", "reason"], "llllll", cells)


def _several(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")


def _cell_names(cells: Sequence[Cell]) -> list[str]:
    """Return a name for each cell: its seed, and the other properties that differ between cells."""
    words = {"split_seed": "split", "draw": "draw", "fold": "fold", "file": "file"}
    told = [(key, word) for key, word in words.items() if len({getattr(cell, key) for cell in cells}) > 1]
    names = [
        f"seed\u00a0{cell.seed}" + "".join(f", {word} {_word(getattr(cell, key))}" for key, word in told)
        for cell in cells
    ]
    # Cells with one name have different rows, for example because a split file was written again.
    return [
        name if names.count(name) == 1 else f"{name}, rows {cell.rows[:6]}"
        for name, cell in zip(names, cells, strict=True)
    ]


def _word(value: str | int | None) -> str:
    return value or NONE if isinstance(value, str) else count(value, "")


def _last(value: str | int | None) -> tuple[bool, str | int]:
    """Return a sort key that puts None last; the other values of a field have one type."""
    return value is None, 0 if value is None else value


def _errors(row: Summary) -> list[tuple[str, str]]:
    """Return the columns of one mode as (header, cell)."""
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
    interval = f"[{fixed(low, row.error.mean)}, {fixed(high, row.error.mean)}]" if n > 1 else NONE
    return [mode(row), fixed(mean, row.error.mean), interval, str(n), *map(probability, chances), verdict]
