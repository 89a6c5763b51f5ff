"""Build the short form of a report that the terminal shows: tables of test errors, and remarks."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tltool.reporting.comparable import grouped
from tltool.reporting.finished_runs import Result
from tltool.reporting.next_runs import Advice, advice
from tltool.reporting.statistics import summarise
from tltool.reporting.unpaired import unpaired
from tltool.reporting.wording import count, fixed, mode, plural, show, where


def tables(results: Sequence[Result]) -> list[Text | Table]:
    """Return tables of test errors, one for each stage, target, quantity and training size, each below its title."""
    shown: list[Text | Table] = [Text("Test errors: mean ± standard deviation over runs")]
    for place, rows in grouped(summarise(results), lambda row: row.place).items():
        plain = [f"MAE\n{rows[0].plain_unit}"] if rows[0].plain_unit else []
        error, relative = rows[0].judged
        header = [
            "mode",
            "runs",
            f"{error}\n{rows[0].unit}".strip(),
            *plain,
            relative,
            "trainable\nparameters",
            "time\ns",
        ]
        part = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)
        for name in [*header, "transfer"]:
            # Text, not str: a "[" in a name is not markup.
            part.add_column(Text(name), justify="left" if name in ("mode", "transfer") else "right")
        for row in rows:
            # A row fits into 80 columns only without the blanks around the sign.
            errors = [show(error).replace(" ± ", "±") for error in (row.error, row.plain_MAE) if error]
            cost = [count(row.trainable_parameters.mean), fixed(row.seconds.mean)]
            verdict = row.paired.verdict.removesuffix(" transfer") if row.paired else ""
            cells = [mode(row), str(len(row.runs)), *errors, fixed(row.errors[relative].mean), *cost, verdict]
            part.add_row(*(Text(cell, style="bold" if row.best else "") for cell in cells))
        shown += [Text(f"\n{place.stage}: {where(place)}", style="bold"), part]
    return shown


def remarks(results: Sequence[Result]) -> list[Advice]:
    """Return the remarks below the tables: runs that are not compared, with the reason, and recommended next runs."""
    found = [
        Advice(f"Not compared: {plural(len(u.runs), f'{u.mode} run')} of {u.target}, {u.quantity}. {u.reason}")
        for u in unpaired(results)
    ]
    shown: set[str] = set()
    for row in summarise(results):
        if one := advice(row, row.runs[-1]):
            # One command is enough for all quantities of a run.
            command = "" if one.command in shown else one.command
            shown.add(one.command)
            found.append(one._replace(text=f"{where(row.place)}, {row.mode}: {one.text}", command=command))
    return found
