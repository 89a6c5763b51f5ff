"""The bench of the start-up runs both commands; how fast is never tested."""

import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import pytest
from forks import fork

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from bench import startup

from tltool import cli

pytestmark = pytest.mark.slow


def test_a_process_is_timed_and_has_to_end_well(tmp_path: Path) -> None:
    began = time.perf_counter()
    found = startup.seconds(["-m", "tltool", "--version"], tmp_path)
    assert 0 < found < time.perf_counter() - began
    with pytest.raises(subprocess.CalledProcessError):
        startup.seconds(["-c", "raise SystemExit(2)"], tmp_path)


def test_both_figures_are_there(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In forks of this process, which need not start."""
    ran = []

    def seconds(words: Sequence[str], folder: Path) -> float:
        def work() -> None:
            if words[0] == "-m":
                sys.argv = list(words[1:])
                cli.main()
            else:
                sys.argv = ["-c", *words[2:]]
                exec(words[1], {})
                raise AssertionError("there was no first batch")

        began = time.perf_counter()
        process = fork(work, folder)
        said = process.communicate(timeout=240)
        assert process.returncode == 0, said
        ran.append((said, sorted(path.name for path in folder.iterdir())))
        return time.perf_counter() - began

    whole = startup.first_batch
    monkeypatch.setattr(startup, "seconds", seconds)
    monkeypatch.setattr(startup, "first_batch", lambda folder, cache, starts: whole(folder, cache_folder, starts))
    found = list(startup.rows(Namespace(starts=1)))
    assert [row.name for row in found] == startup.names(Namespace())
    (helped, none), (prepared, one), (timed, two) = ran
    assert "usage: tltool STAGE" in helped[0]
    assert prepared[1].endswith("first batch\n")
    assert timed[1].endswith("first batch\n")
    assert (none, one, two) == ([], ["prepare"], ["prepare", "run-0"])
    assert all(row.ours > 0 for row in found)
