"""The short form of a report for the terminal."""

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


def table(results: Sequence[Result]) -> Table:
    """Return the test errors over runs, a table for each stage, target, quantity and training size."""
    shown = Table.grid()
    shown.title, shown.title_justify = "Test errors: mean ± standard deviation over runs", "left"
    for place, rows in grouped(summarise(results), lambda row: row.place).items():
        plain = [f"MAE\n{rows[0].plain_unit}"] if rows[0].plain_unit else []
        header = ["mode", "runs", f"MAE\n{rows[0].unit}", *plain, "MAE/MAD", "trainable\nparameters", "time\ns"]
        part = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)
        for name in [*header, "transfer"]:
            # Text, not str: a "[" in a name is no markup.
            part.add_column(Text(name), justify="left" if name in ("mode", "transfer") else "right")
        for row in rows:
            # 80 columns hold a row only without the blanks around the sign.
            errors = [show(error).replace(" ± ", "±") for error in (row.MAE, row.plain_MAE) if error]
            cost = [count(row.trainable_parameters.mean), fixed(row.seconds.mean)]
            verdict = row.paired.verdict.removesuffix(" transfer") if row.paired else ""
            cells = [mode(row), str(len(row.runs)), *errors, fixed(row.errors["MAE/MAD"].mean), *cost, verdict]
            part.add_row(*(Text(cell, style="bold" if row.best else "") for cell in cells))
        shown.add_row(Text(f"\n{place.stage}: {where(place)}", style="bold"))
        shown.add_row(part)
    return shown


def remarks(results: Sequence[Result]) -> list[Advice]:
    """Return what to say below the table: runs that are not compared, by reason, and what would settle the others."""
    found = [
        Advice(f"Not compared: {plural(len(u.runs), f'{u.mode} run')} of {u.target}, {u.quantity}. {u.reason}")
        for u in unpaired(results)
    ]
    shown: set[str] = set()
    for row in summarise(results):
        if one := advice(row, row.runs[-1]):
            # One command serves all quantities of a run.
            command = "" if one.command in shown else one.command
            shown.add(one.command)
            found.append(one._replace(text=f"{where(row.place)}, {row.mode}: {one.text}", command=command))
    return found
