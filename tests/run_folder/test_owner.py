"""A folder has one owner: a process that works, whatever the clock says."""

import json
import os
from pathlib import Path

import pytest

from tltool import machine
from tltool.run_folder import owner


def test_a_folder_is_taken_once(tmp_path: Path) -> None:
    lock = owner.take(tmp_path, again=False)
    assert lock is not None
    assert owner.take(tmp_path, again=True) is None, "another descriptor, as another process has it"
    assert owner.is_alive(tmp_path)
    os.utime(tmp_path / owner.NAME, (0, 0))
    assert owner.is_alive(tmp_path), "whatever the clock says"
    os.close(lock)
    assert not owner.is_alive(tmp_path)
    assert owner.take(tmp_path, again=False) is None
    lock = owner.take(tmp_path, again=True)
    assert lock is not None
    os.close(lock)


@pytest.mark.parametrize(
    ("changed", "alive"),
    [
        # Another process of the same number: it began at another time.
        ({"pid": os.getppid(), "started": f"{machine._started(os.getppid())}0"}, False),
        ({"host": "another"}, True),  # it cannot be asked, and its status says that it works
        ({"boot": "before"}, False),
    ],
)
def test_where_there_is_no_lock_the_process_counts(tmp_path: Path, changed: dict[str, object], alive: bool) -> None:
    lock = owner.take(tmp_path, again=False)
    assert lock is not None
    os.close(lock)
    file = tmp_path / owner.NAME
    facts = json.loads(file.read_text())
    file.write_text(json.dumps(facts | changed))
    (tmp_path / "status.json").write_text(json.dumps({"state": "running"}))
    assert owner.is_alive(tmp_path) is alive
    (tmp_path / "status.json").write_text(json.dumps({"state": "interrupted"}))
    assert not owner.is_alive(tmp_path)


def test_a_process_that_exists_counts_where_there_is_no_lock(tmp_path: Path) -> None:
    facts = machine.this_process()._asdict()
    facts |= {"pid": os.getppid(), "started": machine._started(os.getppid())}
    (tmp_path / owner.NAME).write_text(json.dumps(facts))
    assert owner.is_alive(tmp_path)
    assert owner.take(tmp_path, again=True) is None
    assert owner.told(tmp_path) == f"process {os.getppid()} on {facts['host']}"


@pytest.mark.parametrize("text", ["", "no number", "[1]", "{}", "[" * 100_000])
def test_a_lock_of_another_kind_is_nobodys(tmp_path: Path, text: str) -> None:
    (tmp_path / owner.NAME).write_text(text)
    assert not owner.is_alive(tmp_path)
    assert owner.told(tmp_path) == "an unknown process"
