"""``tltool prepare dry_run=true`` prints what preparing takes, and refuses what the disk cannot hold."""

import json
import shutil
from pathlib import Path

import pytest
from commands import run
from support import dump

from tltool.data.cache import estimate


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    folder = tmp_path / "dumps"
    folder.mkdir()
    for n in range(3):
        (folder / f"alexandria_{n:03d}.json.bz2").write_bytes(dump(*(f"agm{10 * n + k}" for k in range(6))))
    return folder


def test_a_dry_run_says_what_it_takes_and_a_small_disk_is_refused(
    dumps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("prepare", "data=pbe", f"data.root={dumps}", "dry_run=true", "cache=c", "workers=1")
    done = run(tmp_path, *words)
    assert "What preparing pbe takes" in done.stdout
    assert "3, 1 of them prepared" in done.stdout
    assert "6 records in" in done.stdout
    (file,) = (tmp_path / "runs" / "prepare").glob("*/metrics.json")
    metrics = json.loads(file.read_text())
    assert metrics["dry_run"]
    assert 0 < metrics["disk"] < metrics["free"]
    monkeypatch.setattr(estimate, "free", lambda cache: 1000)
    refused = run(tmp_path, *words, code=6)
    assert "tltool: Preparing pbe needs" in refused.stderr
    assert "free disk space, or name a folder on another disk with cache=DIR." in refused.stderr
    assert "where 0.0 MB are free" in refused.stderr


def test_several_parts_have_a_column_each(dumps: Path, tmp_path: Path) -> None:
    shutil.copytree(dumps, tmp_path / "more")
    parts = {"pbe": "dumps", "pbesol": "more", "scan": "more"}
    words = [f"data.parts.{name}.root={root}" for name, root in parts.items()]
    words += [f"data.parts.{name}.pattern=*.json.bz2" for name in parts]
    done = run(tmp_path, "prepare", "data=functionals", *words, "dry_run=true", "cache=c", "workers=1")
    assert all(name in done.stdout for name in parts)
    assert done.stdout.count("3, 1 of them prepared") == 3


def test_a_single_file_is_not_prepared_for_it(tmp_path: Path) -> None:
    done = run(tmp_path, "prepare", "data=demo", "dry_run=true", "cache=c")
    assert "demo is a single file; what it takes is known when it has been prepared." in done.stderr
    assert "unknown" in done.stdout


def test_the_key_takes_true_or_false(tmp_path: Path) -> None:
    assert "dry_run=maybe is not known; use true or false." in run(tmp_path, "prepare", "dry_run=maybe", code=2).stderr
