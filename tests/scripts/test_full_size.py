"""The dump of ``make full-size`` is read as a genuine one; the whole of it runs in small, killed and resumed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import ROOT

from tltool.data import store
from tltool.data.adapters import alexandria
from tltool.data.download.locate import BUNDLED
from tltool.data.record import Record

SCRIPT = ROOT / "scripts" / "full_size.py"


def test_entries_are_bundled_crystals_at_other_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import full_size

    place = tmp_path / "alexandria_00000.json.bz2"
    demo = store.load(BUNDLED / "demo.h5")
    begin = len(demo) - 2
    full_size.write(place, begin, begin + 5)
    found = list(alexandria.read(place, pattern="*", min_elements=1))
    assert [record.id for record in found] == [f"agm{number:09d}" for number in range(begin, begin + 5)]
    for number, record in enumerate(found, begin):
        assert isinstance(record, Record)
        original = demo.record(number % len(demo))
        np.testing.assert_array_equal(record.crystal.numbers, original.crystal.numbers)
        np.testing.assert_allclose(record.crystal.frac, original.crystal.frac, atol=1e-7)
        lattice = original.crystal.lattice * (1 + 0.03 * np.sin(number))
        np.testing.assert_allclose(record.crystal.lattice, lattice, atol=1e-6)
        assert record.labels["e_form"] == pytest.approx(original.labels["e_form"], abs=1e-6)
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.slow
@pytest.mark.long
def test_the_whole_of_it_in_small(tmp_path: Path) -> None:
    words = [
        "--count",
        "60",
        "--per-file",
        "10",
        "--workers",
        "1",
        "--keep-every",
        "1",
        "--folder",
        str(tmp_path / "all"),
    ]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["entries"], found["files"]) == (60, 6)
    assert min(found[name]["memory"] for name in ("prepare", "epoch")) > 10e6
    assert found["prepare"]["disk"] == pytest.approx(found["estimate"]["disk"], rel=0.3)
    assert not (tmp_path / "all").exists()
