"""The screen: news of a run on standard error, tables of results on standard output."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tltool import machine

_LINES_PER_FIT = 8


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


class Screen:
    """What a person sees of a run while it works, on standard error.

    Epochs are a progress bar, or a few plain lines where the screen is no terminal or several runs share it. A run that
    shares it begins each line with its ``label``.
    """

    def __init__(self, title: str, label: str | None = None) -> None:
        self.console = console(stderr=True, labelled=label is not None)
        self._title, self._label = title, label
        self._progress: Progress | None = None

    def log(self, event: Mapping[str, Any], /) -> None:
        """Show what of ``event`` a person wants to see."""
        kind = event.get("event")
        if kind == "epoch":
            self._show_epoch(event)
        elif kind == "load_report":
            self._show_report(event)
        elif kind == "say":
            self._print(event["text"])
            if event.get("command"):
                # Nothing before it and no break within it, so that it can be copied into a shell.
                self.console.print(event["command"], markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the progress bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _show_epoch(self, event: Mapping[str, Any]) -> None:
        epoch, epochs = event["epoch"], event["epochs"]
        errors = ", ".join(f"{name} {value:.4g}" for name, value in event["val_MAE"].items())
        text = f"loss {event['train_loss']:.4f}" + (f", val MAE {errors}" if errors else "")
        if self.console.is_terminal and self._label is None:
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
            self._print(f"Elements that the source never saw: {event['unseen_elements']}.")
        for name, start in event["new_functionals"].items():
            self._print(f"The functional {name} is new to the source; its vector starts as {start}.")
        errors = ", ".join(f"{name} {value:.4g}" for name, value in event["step_0_val_MAE"].items())
        if errors:
            self._print(f"Before the first update: val MAE {errors}")

    def _print(self, text: str) -> None:
        label = f"[{self._label}] " if self._label else ""
        self.console.print(f"{label}{text}", markup=False, highlight=False)
