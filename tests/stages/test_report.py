import io

import pytest
from rich.console import Console
from run_folders import make_run

from tltool import plots
from tltool.errors import DataError, ResourceError
from tltool.run_folder.run import Run
from tltool.stages import report
from tltool.training.backend import CPU


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    def drawn(files, *_, **__):
        files.png.write(b"\x89PNG")
        files.svg.write(b"<svg></svg>")

    monkeypatch.setattr(plots, "periodic_table", drawn)


@pytest.fixture
def folder(tmp_path):
    """The open run folder of the stage, under the same runs/ as those it reports on."""
    run = Run(tmp_path / "runs" / "report" / "now", "report")
    run.screen.console = Console(file=io.StringIO(), width=1000)
    yield run
    run.close("finished", 0, "")


def said(folder):
    return folder.screen.console.file.getvalue().splitlines()


def test_the_stage_writes_both_pages_and_says_where(tmp_path, folder, capsys):
    make_run(tmp_path / "runs" / "transfer" / "a")
    report.run({"inputs": [str(tmp_path / "runs")], "output": None}, folder, CPU)
    out = folder.folder / "report"
    first, advice, *others = said(folder)
    assert first == "Finished runs: 1. Left out: 0."
    assert "about 20 draws are needed to detect a difference of 0.0100 log10(GPa) (a tenth of the error)" in advice
    assert others == [f"Markdown: {out / 'report.md'}", f"HTML: {out / 'report.html'}"]
    assert (out / "report.md").read_text().startswith("# tltool report: bulk_modulus\n")
    assert (out / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert "finetune" in capsys.readouterr().out


def test_the_stage_says_what_it_left_out_and_does_not_count_itself(tmp_path, folder):
    runs = tmp_path / "runs" / "transfer"
    make_run(runs / "a")
    make_run(runs / "b", state="running")
    make_run(runs / "c", state="running")
    (make_run(runs / "d") / "metrics.json").unlink()
    report.run({"inputs": [str(tmp_path / "runs")], "output": str(tmp_path / "out" / "deep")}, folder, CPU)
    why = "2 running (not finished), 1 damaged (metrics.json is missing)"
    assert said(folder)[0] == f"Finished runs: 1. Left out: 3: {why}."
    page = (tmp_path / "out" / "deep" / "report.html").read_text()
    assert "1 finished run (1 transfer); 3 unfinished or damaged runs are left out" in page
    assert "report/now" not in page


def test_no_run_and_no_place_to_write_are_named(tmp_path, folder):
    with pytest.raises(DataError, match="tltool transfer target=bulk_modulus"):
        report.run({"inputs": [str(tmp_path / "runs")], "output": None}, folder, CPU)
    make_run(tmp_path / "runs" / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"cannot be written to .*file"):
        report.run({"inputs": [str(tmp_path / "runs")], "output": str(tmp_path / "file")}, folder, CPU)
