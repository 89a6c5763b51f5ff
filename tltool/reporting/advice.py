"""What a transfer says at its end: how it compares with the runs before it, and what may have a smaller error."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tltool.data import cheaper_level
from tltool.reporting import finished_runs, next_runs, verdict
from tltool.reporting.finished_runs import command as command_of
from tltool.reporting.next_runs import Advice

_FEW_ROWS = 500


def after_transfer(
    config: Mapping[str, Any], folder: Path, mode: str, quantities: Sequence[str], rows: int, say: Callable[..., None]
) -> None:
    """Say it of the finished run in ``folder``, which transferred to ``quantities`` by ``mode`` on ``rows`` rows."""
    hints = verdict.so_far(folder, Path(config["runs"]) / "transfer")
    for text, command, _ in [*hints, *_difference(folder, config["target"], quantities)]:
        say(text, command)
    if mode not in ("auto", "scratch") and rows < _FEW_ROWS:
        say(f"With fewer than {_FEW_ROWS} training rows, mode=auto often has a smaller error than mode={mode}.")


def _difference(folder: Path, target: Mapping[str, Any], quantities: Sequence[str]) -> list[Advice]:
    """Return the proposal to learn the difference to a cheaper level of theory that the table of ``target`` has."""
    data = target["data"]
    adapter = data.get("adapter") or {}
    if target.get("base") or len(quantities) != 1 or not data.get("root"):
        return []
    columns = cheaper_level.columns_of(Path(str(data["root"])), adapter)
    found = cheaper_level.cheaper_columns(columns, cheaper_level.column_of(adapter, quantities[0]))
    if not found:
        return []
    words = command_of(finished_runs.read(folder.resolve(), str(folder), "transfer"))
    advice = next_runs.difference(words, str(data["name"]), quantities[0], found[0])
    return [advice] if advice else []
