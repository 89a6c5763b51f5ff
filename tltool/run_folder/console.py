"""The screen: who may write to it, and tables of results."""

from rich.console import Console
from rich.table import Table

from tltool import machine


def console(*, stderr: bool, labelled: bool = False) -> Console:
    """Return the screen: standard error for news, standard output for results; quiet where another process speaks."""
    if machine.rank() or (stderr and machine.jobs() > 1 and not labelled):
        # Another rank says it all; of cells side by side nobody could tell whose lines they are without a label.
        return Console(quiet=True)
    # Into a file or pipe, lines must not be cut at the 80 columns that rich assumes there.
    there = Console(stderr=stderr)
    return there if there.is_terminal else Console(stderr=stderr, width=160)


def show(table: Table) -> None:
    """Print ``table`` on standard output, which holds results and nothing else."""
    console(stderr=False).print(table)
