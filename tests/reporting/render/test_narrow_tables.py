"""Tables of results on a narrow screen: every number whole, at any width and in a pipe."""

import io
import re

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tltool.evaluation.result_tables import show_errors
from tltool.quantities import described, shipped
from tltool.reporting.finished_runs import collect
from tltool.reporting.render.terminal import tables
from tltool.run_folder import console
from tltool.run_folder.console import fitted

SUMMARY = {
    "stage": "transfer", "mode": "freeze", "target": "bulk_modulus", "seed": 3, "train_size": 1100,
    "quantities": {"log10_K_VRH": {"unit": "log10(GPa)", "definition": described(shipped()["log10_K_VRH"]), "test": {
        "n": 118, "MAE": 0.123456, "RMSE": 0.234567, "R2": 0.876543, "MAD": 0.345678, "MAE/MAD": 0.456789,
        "MAE_K_VRH": 12.3456,
    }}},
}  # fmt: skip


def printed(table: Table | Text, width: int) -> str:
    screen = Console(width=width, file=io.StringIO())
    screen.print(fitted(table, width) if isinstance(table, Table) else table)
    return screen.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("width", [40, 58, 80, 160])
def test_no_number_of_a_report_is_cut(width: int, three_seeds) -> None:  # type: ignore[no-untyped-def]
    text = "".join(printed(one, width) for one in tables(collect([three_seeds]).results))
    for number in ("0.120±0.020", "12.0±2.0", "0.480", "12,345", "4.20", "positive"):
        assert number in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(("columns", "terminal"), [("58", "1"), ("80", "1"), ("58", ""), ("200", "")])
def test_no_number_of_a_run_is_cut(
    columns: str, terminal: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    if terminal:
        monkeypatch.setattr(
            console,
            "console",
            lambda **_: Console(force_terminal=True, width=int(columns), no_color=True, color_system=None),
        )
    show_errors(SUMMARY, "test")
    text = capsys.readouterr().out
    for number in ("0.1235", "0.2346", "0.8765", "0.3457", "118", "12.35", "log10(GPa)", "GPa"):
        assert number in text
    assert "…" not in text
    assert "freeze bulk_modulus, seed 3, 1,100 training crystals" in " ".join(re.sub(r"\x1b\[\d*m", "", text).split())


def test_a_table_that_fits_stays_as_it_is() -> None:
    table = Table("a", "b")
    table.add_row("1", "2")
    assert fitted(table, 40) is table
