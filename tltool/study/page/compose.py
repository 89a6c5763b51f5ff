"""The page of a study: the figure first, then verdicts, slopes, what the source had seen, citations."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from tltool.reporting import citations
from tltool.reporting.comparable import grouped
from tltool.reporting.render.blocks import Block, Bullets, Grid, Heading, Paragraph, Picture, Verbatim
from tltool.reporting.wording import fixed, probability
from tltool.study.cells import State, Task
from tltool.study.page import harder, leaderboard, names, seen, slopes, wording
from tltool.study.summary import Line, Place, Summary
from tltool.study.table import Row

CLAIM_COLUMNS = (
    "study", "claim", "verdict", "target", "split", "rows", "mode", "source", "draws", "difference", "low", "high",
    "p_holm", "verdict_of_comparison",
)  # fmt: skip

_HOW_TO_READ = (
    "A draw is another choice of training rows; all draws, sizes and modes of a target have the same test rows, and "
    "small training sets are parts of larger ones. A difference is the error of a mode minus that of {baseline} with "
    "the same rows and seed. Its first interval says how it varies with other training rows (bootstrap over draws, "
    "below ten draws Student's t), the second with other test rows (bootstrap over test rows, trainings as they are); "
    "both hold 95 %. p is of Student's "
    "t-test over draws, corrected by Holm's method for the {n} comparisons of this page; better and worse need a "
    "corrected p below 0.05. Equal rows are the training rows with which {baseline} has the same error, between its "
    "sizes by interpolation. The planning figure is the number of draws that would settle a difference of 5 % of the "
    "error of {baseline}, with a power of 80 %, from the deviation between the draws here. Draws share test rows and, "
    "where they are a large part of all rows, training rows too, so that the interval over draws is for this data set "
    "alone."
)


def compose(
    found: Summary,
    rows: Sequence[Row],
    tasks: Sequence[Task],
    states: Mapping[Path, State],
    pictures: Sequence[Picture],
) -> list[Block]:
    """Return the page as blocks, without empty sections."""
    axes = found.axes
    cited = list(dict.fromkeys(text for row in rows for text in row.run.citations))
    failed = [[task.name, states[task.folder].message] for task in tasks if states[task.folder].word == "failed"]
    counts = {word: sum(state.word == word for state in states.values()) for word in ("done", "failed", "left")}
    about = (
        f"{wording.cells(len(tasks))}: {counts['done']:,} done, {counts['failed']:,} failed, {counts['left']:,} left."
    )
    blocks: list[Block] = [Heading(1, f"Study {axes.name}"), Paragraph(f"{axes.question} {about}".strip())]
    blocks += [*pictures]
    sections: dict[str, list[Block]] = {
        "In short": [Bullets(heads)] if (heads := list(wording.heads(found))) else [],
        "Names": list(names.blocks(found)),
        "Claims": _claims(found),
        "Verdicts": list(_verdicts(found)),
        "Slopes": slopes.blocks(found),
        "Harder tests": [*harder.factors(found), *harder.beyond(found, rows)],
        "Matbench": list(leaderboard.blocks(rows)),
        "Seen and unseen crystals": list(seen.blocks(found, rows)),
        "How to read this page": [Paragraph(_HOW_TO_READ.format(baseline=axes.baseline, n=len(found.differences)))],
        "Failed cells": [Grid(["cell", "why"], "ll", failed)] if failed else [],
        "Citations": [Bullets([*axes.works, *cited]), Verbatim(citations.entries([*axes.works, *cited]))],
    }
    for title, content in sections.items():
        if content:
            blocks += [Heading(2, title), *content]
    return blocks


def differences(found: Summary) -> pd.DataFrame:
    """Return the table of differences, one row for each comparison, with the intervals in the unit of the error."""
    return pd.DataFrame(
        [
            {
                **one.kind._asdict(),
                "quantity": one.quantity,
                "unit": one.unit,
                "draws": one.n,
                "baseline_error": one.baseline,
                "error": one.error,
                "difference": one.mean,
                "low_over_draws": one.over_draws.low,
                "high_over_draws": one.over_draws.high,
                "low_over_test_rows": one.over_rows.low,
                "high_over_test_rows": one.over_rows.high,
                "p": one.p,
                "p_holm": one.p_holm,
                "spread_between_draws": one.spread,
                "draws_needed_for_5_percent": one.draws_needed,
                "verdict": one.verdict,
            }
            for one in found.differences
        ]
    )


def curves(found: Summary) -> pd.DataFrame:
    """Return the numbers behind the figures: mean error and standard deviation over draws, by line and rows."""
    lines: list[Line] = [*found.baselines.values(), *found.lines]
    return pd.DataFrame(
        [
            {
                **line.place._asdict(),
                "mode": line.mode,
                "source": line.source,
                "rows": rows,
                "draws": len(errors),
                "mean": float(pd.Series(errors).mean()),
                "standard_deviation": line.spread(rows),
            }
            for line in lines
            for rows, errors in line.errors.items()
        ]
    )


def claims(found: Summary) -> pd.DataFrame:
    """Return the claims, a row for each comparison that one is about, as shares of the error of the baseline."""
    lines: list[dict[str, object]] = []
    for judged in found.claims:
        about: dict[str, object] = {"study": found.axes.name, "claim": judged.claim.says, "verdict": judged.verdict}
        for one in judged.found:
            low, high = (end / one.baseline if one.baseline else math.nan for end in one.over_draws)
            own = {"target": one.kind.target, "split": one.kind.split, "rows": one.kind.size, "mode": one.kind.mode}
            values = {"source": one.kind.source, "draws": one.n, "difference": one.relative, "low": low, "high": high}
            last = {"p_holm": one.p_holm, "verdict_of_comparison": one.verdict}
            lines.append({**about, **own, **values, **last})
        if not judged.found:
            lines.append(about)
    return pd.DataFrame(lines, columns=CLAIM_COLUMNS).astype({"rows": "Int64", "draws": "Int64"})


def _claims(found: Summary) -> list[Block]:
    return [Bullets([wording.claim(judged) for judged in found.claims])] if found.claims else []


def _verdicts(found: Summary) -> Iterator[Block]:
    for place, laws in grouped(found.laws, lambda law: law.line.place).items():
        yield Heading(3, _title(place))
        unit = f" ({place.unit})" if place.unit else ""
        header = [
            "rows",
            "mode",
            "source",
            "verdict",
            "difference",
            "over draws",
            "over test rows",
            "draws",
            "p (Holm)",
        ]
        header += ["equal rows", wording.planned(), f"{place.metric}{unit}", f"{found.axes.baseline}{unit}"]
        rows, sizes = [], list(found.baselines[place].errors)
        for law in laws:
            source = found.source_of(law.line.mode, law.line.source)
            for size, one in law.line.differences.items():
                equal = next((each for each in law.equal if each.at == size), None)
                cells = [
                    f"{size:,}",
                    law.line.mode,
                    source,
                    one.verdict,
                    f"{one.relative:+.1%}",
                ]
                cells += [_share(one.over_draws, one.baseline), _share(one.over_rows, one.baseline), str(one.n)]
                cells += [probability(one.p_holm), wording.rows_equal(equal, sizes), wording.planning(one)]
                rows.append([*cells, fixed(one.error), fixed(one.baseline, one.error)])
        yield Grid(header, "rlll" + "r" * 9, rows)


def _share(interval: tuple[float, float], baseline: float) -> str:
    low, high = (end / baseline if baseline else math.nan for end in interval)
    return f"{low:+.1%} to {high:+.1%}" if math.isfinite(low) else "-"


def _title(place: Place) -> str:
    return f"{place.target}, {place.quantity}" + ("" if place.split == "random" else f", {place.split}")
