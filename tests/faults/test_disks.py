"""Faults 9, 10 and 26 of the list in docs/reliability.md: full disks, folders that cannot be used, damaged stores."""

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from commands import run
from forks import begin
from support import store_of

from tltool.data import store
from tltool.errors import DamagedError, ResourceError
from tltool.run_folder.run import Run
from tltool.training.saved_state import files

FAST = ["fit.epochs=2", "split.train_size=40", "overlap=none", "kernels=torch", "threads=1"]


def test_09_a_store_is_written_or_it_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "records.h5"
    store.save(path, store_of(["a"]))
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match=r"Cannot write .*records\.h5 \(No space left on device\)"):
        store.save(path, store_of(["a", "b"]))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["records.h5"]


def test_09_a_full_disk_ends_a_run_with_a_sentence_and_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say = Run.say

    def full(self: Run, text: str, command: str = "") -> None:
        say(self, text, command)
        if "Pretraining on" in text:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Run, "say", full)
    done = run(tmp_path, "pretrain", *FAST, "hydra.run.dir=run", code=6)
    assert "tltool: The disk is full; free space or name another folder with runs=." in done.stderr
    assert "Traceback" not in done.stderr
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["code"]) == ("failed", 6)


def test_09_a_state_that_finds_no_space_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each write in turn: of the state, of its list, when they are put in place."""
    files.write(tmp_path, {"epoch": 1, "steps": 0}, {})
    for name in ("fsync", "replace"):
        for call in (1, 2):
            calls = iter(range(1, 100))
            real = getattr(os, name)

            def full(*given: Any, real: Any = real, call: int = call, calls: Iterator[int] = calls) -> Any:
                if next(calls) == call:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return real(*given)

            with monkeypatch.context() as patch:
                patch.setattr(os, name, full)
                with pytest.raises(ResourceError, match="cannot be saved"):
                    files.write(tmp_path, {"epoch": 2, "steps": 0}, {})
            assert files.read(tmp_path, print) == {"epoch": 1, "steps": 0}
    files.write(tmp_path, {"epoch": 3, "steps": 0}, {})
    assert files.read(tmp_path, print)["epoch"] == 3


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB, where that is permitted."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk is not permitted here; the tests above put errors below the writers")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["runs", "cache"])
def test_09_a_small_disk_ends_a_run_with_6(tmp_path: Path, small: Path, key: str) -> None:
    """Of a run folder the state and the model do not fit, of a cache the store and the graphs."""
    process = begin(tmp_path, "pretrain", *FAST, "keep_every=0", f"{key}={small}/x")
    _, said = process.communicate(timeout=240)
    assert process.returncode == 6, said
    assert "Traceback" not in said
    assert "No space left on device" in said or "disk is full" in said
    for status in tmp_path.glob("**/status.json"):
        assert json.loads(status.read_text())["state"] == "failed"
    assert not list(small.rglob("*.tmp"))


def test_10_folders_that_cannot_be_used_are_said_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words, says in (
        (["transfer", "runs=file/below"], "Cannot make the run folder"),
        (["predict", "model=bundled", f"input={tmp_path}", "output=file/x.csv"], "Cannot write output=file/x.csv"),
        (["prepare", "cache=file/below"], "Cannot write to cache=file/below"),
    ):
        done = run(tmp_path, *words, code=6)
        assert says in done.stderr
        assert "Traceback" not in done.stderr


def test_26_a_damaged_store_is_said(tmp_path: Path) -> None:
    path = tmp_path / "records.h5"
    store.save(path, store_of(["a", "b"]))
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole)
        content[random.integers(len(content))] ^= 1 << int(random.integers(8))
        path.write_bytes(content)
        try:
            assert store.load(path).ids == ["a", "b"]
        except DamagedError as error:
            assert "delete it and prepare it again" in str(error)  # noqa: PT017
    with h5py.File(path, "w") as file:
        file.attrs["schema"], file.attrs["complete"] = store.SCHEMA, True
    with pytest.raises(DamagedError, match="holds no records"):
        store.load(path)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["*.graphs.h5", "*-00000.h5"])
def test_26_a_damaged_store_is_made_again_from_its_input(tmp_path: Path, pattern: str) -> None:
    words = ["prepare", "data=dielectric", "cache=cache"]
    run(tmp_path, *words)
    (file,) = (tmp_path / "cache").rglob(pattern)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    done = run(tmp_path, *words)
    assert f"The store {file.relative_to(tmp_path)} is damaged" in done.stderr
    assert "it is made again from its input." in done.stderr
    again = run(tmp_path, *words)
    assert "made again" not in again.stderr


def test_26_records_of_another_kind_are_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge.h5"
    with h5py.File(path, "w") as file:
        file.attrs["schema"], file.attrs["complete"] = store.SCHEMA, True
        file.create_dataset("frac", shape=(10**12,), dtype="f4", chunks=(1024,))
    arrays: dict[str, Any] = {}
    with pytest.raises(DamagedError, match="impossible size"):
        arrays, _ = store.read_arrays(path)
    assert not arrays
