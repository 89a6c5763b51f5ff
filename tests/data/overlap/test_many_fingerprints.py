"""Parallel processes find what one process finds, whoever asks, and say so when they die."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tltool.data import store
from tltool.data.dataset import BUNDLED
from tltool.data.overlap import many_fingerprints
from tltool.data.overlap.fingerprint import in_order
from tltool.data.overlap.many_fingerprints import fingerprints
from tltool.data.record import Crystal
from tltool.errors import ResourceError

POLONIUM = Crystal(3.35 * np.eye(3), np.zeros((1, 3)), np.array([84]))


def test_workers_change_nothing() -> None:
    demo = store.load(BUNDLED / "demo.h5")
    few = [demo.crystal(row) for row in range(0, 1000, 10)]

    def repeated() -> Iterator[Crystal]:
        for _ in range(41):
            yield from few

    expected = np.tile(in_order(few), 41)
    np.testing.assert_array_equal(fingerprints(repeated(), 2), expected)
    assert fingerprints([], 2).tolist() == []


def test_the_program_that_asks_needs_no_guard(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import numpy as np\n"
        "from tltool.data.overlap.many_fingerprints import fingerprints\n"
        "from tltool.data.record import Crystal\n"
        "crystal = Crystal(3.35 * np.eye(3), np.zeros((1, 3)), np.array([84]))\n"
        "print(len(set(fingerprints([crystal] * 2100, 2).tolist())))\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize("death", ["raise SystemExit(3)", "import sys; sys.stdin.buffer.read(1); raise SystemExit(3)"])
def test_a_worker_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch, death: str) -> None:
    monkeypatch.setattr(many_fingerprints, "_CHILD", death)
    with pytest.raises(ResourceError, match=r"exit code 3.*fewer workers"):
        fingerprints([POLONIUM] * 2000, 2)
