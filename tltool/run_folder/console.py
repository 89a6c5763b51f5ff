"""Print the progress of a run on standard error, and tables of results on standard output."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tltool import machine

_LINES_PER_FIT = 8
_SILENCE = 60.0  # seconds after which a run of a sweep shows an epoch


def console(*, stderr: bool, labelled: bool = False) -> Console:
    """Return the console for standard error or standard output; it prints nothing in ranks other than 0."""
    if machine.rank() or (stderr and machine.jobs() > 1 and not labelled):
        # Only rank 0 prints. Lines of runs that share the output need a label.
        return Console(quiet=True)
    # In a file or pipe, lines must not be cut at the 80 columns that rich assumes.
    there = Console(stderr=stderr)
    return there if there.is_terminal else Console(stderr=stderr, width=160)


def show(*shown: Table | Text) -> None:
    """Print tables and lines on standard output, which is for results only; no number is cut."""
    there = console(stderr=False)
    for one in shown:
        if isinstance(one, Table) and not there.is_terminal:
            there.print(one, width=max(there.width, _needed(one)))
        else:
            there.print(fitted(one, there.width) if isinstance(one, Table) else one)


def fitted(table: Table, width: int) -> Table:
    """Return ``table`` if it fits into ``width`` characters; else transposed, or as a list of all its numbers."""
    if _needed(table) <= width:
        return table
    names = [_plain(column.header) for column in table.columns]
    rows = list(zip(*(list(column.cells) for column in table.columns), strict=True))
    turned = Table(title=table.title, title_justify="left", box=table.box)
    for header in (names[0], *(row[0] for row in rows)):
        turned.add_column(header, justify="right" if turned.columns else "left", no_wrap=True)
    for name, cells in zip(names[1:], list(zip(*rows, strict=True))[1:], strict=True):
        turned.add_row(name, *cells)
    return turned if _needed(turned) <= width else _listed(table, names, rows)


def _listed(table: Table, names: list[str], rows: list[tuple[RenderableType, ...]]) -> Table:
    found = Table(title=table.title, title_justify="left", box=None, show_header=False)
    found.add_column(no_wrap=True)
    found.add_column(overflow="fold")
    for row in rows:
        for name, cell in zip(names, row, strict=True):
            found.add_row(name if cell is row[0] else f"  {name}", cell)
    return found


def _needed(table: Table) -> int:
    """Return the number of characters of a line of ``table`` if nothing is cut."""
    wide = Console(width=10_000)
    return Measurement.get(wide, wide.options, table).maximum


def _plain(header: RenderableType) -> str:
    return " ".join(str(header).split())


class Screen:
    """The output of a run for people, on standard error.

    Epochs are shown as a progress bar, or as a few plain lines if the output is not a terminal. A run of a sweep, which
    has a ``label``, shows only what concerns all runs (``for_all``), and an epoch now and then if it takes long.
    """

    def __init__(self, title: str, label: str | None = None) -> None:
        self.console = console(stderr=True, labelled=label is not None)
        self._title, self._label = title, label
        self._progress: Progress | None = None
        self._alone, self._shown = label is None, time.monotonic()
        self._errors: dict[str, str] = {}

    @contextlib.contextmanager
    def for_all(self) -> Iterator[None]:
        """Show what is logged inside, which concerns every run of a sweep."""
        before, self._alone = self._alone, True
        try:
            yield
        finally:
            self._alone = before

    def log(self, event: Mapping[str, Any], /) -> None:
        """Show the part of ``event`` that is for people."""
        kind = event.get("event")
        if kind == "quantities":
            self._errors |= event.get("errors", {})
        if not self._alone:
            if kind == "epoch" and time.monotonic() - self._shown > _SILENCE:
                self._shown = time.monotonic()
                self._print(f"{self._label}  epoch {event['epoch']} of {event['epochs']}, {self._epoch(event)}")
        elif kind == "epoch":
            self._show_epoch(event)
        elif kind == "load_report":
            self._show_report(event)
        elif kind == "say":
            self._print(event["text"])
            if event.get("command"):
                # Print nothing before the command and no line break in it, so that it can be copied into a shell.
                self.console.print(event["command"], markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the progress bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _show_epoch(self, event: Mapping[str, Any]) -> None:
        epoch, epochs = event["epoch"], event["epochs"]
        text = self._epoch(event)
        if self.console.is_terminal:
            if self._progress is None:
                bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
                self._progress = Progress(*bar, console=self.console, transient=True)
                self._progress.add_task(self._title, total=epochs)
                self._progress.start()
            self._progress.update(self._progress.task_ids[0], completed=epoch, total=epochs, description=text)
            if epoch == epochs:
                self.close()
        elif epoch in (1, epochs) or epoch % -(-epochs // _LINES_PER_FIT) == 0:
            self._print(f"epoch {epoch:>4}/{epochs}  {text}")

    def _show_report(self, event: Mapping[str, Any]) -> None:
        self._print(
            f"{len(event['loaded'])} tensors as in the source ({len(event['frozen'])} frozen), {len(event['new'])} "
            f"new, {len(event['dropped'])} dropped; {event['trainable_parameters']:,} parameters train."
        )
        if event["unseen_elements"]:
            self._print(f"Elements that are not in the source's training data: {event['unseen_elements']}.")
        for name, start in event["new_functionals"].items():
            self._print(f"The functional {name} is new to the source; its vector starts from {start}.")
        if errors := self._told(event["step_0_val_MAE"]):
            self._print(f"Before the first update: {errors}")

    def _epoch(self, event: Mapping[str, Any]) -> str:
        return ", ".join(filter(None, [f"loss {event['train_loss']:.4f}", self._told(event["val_MAE"])]))

    def _told(self, errors: Mapping[str, float]) -> str:
        """Return the validation ``errors`` of the quantities, those of one kind together: val MAE a 0.1, b 0.2."""
        by_word: dict[str, list[str]] = {}
        for name, value in errors.items():
            by_word.setdefault(self._errors.get(name, "MAE"), []).append(f"{name} {value:.4g}")
        return ", ".join(f"val {word} {', '.join(of)}" for word, of in by_word.items())

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)
