import pytest
from run_folders import make_run

from tltool.errors import DataError
from tltool.reporting.finished_runs import collect


def test_collect_finds_runs_below_once(three_seeds):
    runs = collect([three_seeds, three_seeds / "s0", three_seeds.parent])
    assert len(runs.results) == 6
    assert runs.skipped == []


def test_collect_leaves_out_unfinished_and_damaged_runs(three_seeds):
    make_run(three_seeds / "running", state="running")
    make_run(three_seeds / "failed", state="failed")
    (make_run(three_seeds / "no_metrics") / "metrics.json").unlink()
    (make_run(three_seeds / "torn") / "metrics.json").write_text('{"stage": "trans')
    (make_run(three_seeds / "list") / "metrics.json").write_text("[1]")
    (make_run(three_seeds / "not_text") / "status.json").write_bytes(b"\xff\xfe\x00")
    make_run(three_seeds / "no_quantities", quantities={})
    make_run(three_seeds / "prepare", stage="prepare")
    runs = collect([three_seeds])
    assert len(runs.results) == 6
    states = {run.name: run.state for run in runs.skipped}
    damaged = {"no_metrics", "torn", "list", "not_text", "no_quantities"}
    assert states == {"running": "running", "failed": "failed"} | dict.fromkeys(damaged, "damaged")
    reasons = {run.name: run.reason for run in runs.skipped}
    assert reasons["no_metrics"] == "metrics.json is missing"
    assert "metrics.json is not a JSON object" in reasons["torn"]


def test_no_finished_run_names_the_command(tmp_path):
    make_run(tmp_path / "a", state="failed")
    with pytest.raises(DataError, match="tltool transfer target=bulk_modulus") as error:
        collect([tmp_path])
    assert "1 unfinished or damaged" in str(error.value)
    with pytest.raises(DataError, match="is not a folder"):
        collect([tmp_path / "missing"])
