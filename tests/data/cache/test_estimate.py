"""What preparing takes is said before it begins, from the list of files and one that was timed."""

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_server import Scripted, autoindex, serving, status, whole
from support import QUOTIENT, config, dump

from tltool.data import dataset
from tltool.data.cache import timed_shard
from tltool.data.cache.estimate import Estimate, estimate
from tltool.data.dataset import Means
from tltool.errors import DataError, ResourceError

FILES = {f"alexandria_{n:03d}.json.bz2": dump(*(f"agm{10 * n + k}" for k in range(6))) for n in range(3)}
TOTAL = sum(map(len, FILES.values()))


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    """A folder of three files of six crystals each."""
    folder = tmp_path / "dumps"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def means(cache: Path, said: list[str] | None = None) -> Means:
    return Means(cache, [], 1, (said if said is not None else []).append)


def estimated(cache: Path, *words: str, said: list[str] | None = None) -> Estimate:
    return estimate(config("pretrain", *words)["data"], QUOTIENT, means(cache, said))


def size_of(folder: Path) -> int:
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".h5", ".bin")]
    return sum(path.stat().st_size for path in files)


def test_what_is_said_is_what_comes(dumps: Path, tmp_path: Path) -> None:
    words, said = ("data=pbe", f"data.root={dumps}"), []
    found = estimated(tmp_path / "cache", *words, said=said)
    assert (found.files, found.done, found.fetch) == (3, 1, 0)
    assert found.timed is not None
    assert found.timed.records == 6
    assert found.timed.seconds > 0
    assert found.memory is not None
    assert found.memory > found.timed.memory > 10e6
    before = size_of(tmp_path / "cache")
    again = estimated(tmp_path / "cache", *words, said=said)
    assert again.timed == found.timed, "it is timed once"
    assert [text for text in said if "to see what a file takes" in text] == said
    assert len(said) == 1
    dataset.opened(config("pretrain", *words)["data"], QUOTIENT, means(tmp_path / "cache"))
    assert found.disk == pytest.approx(size_of(tmp_path / "cache") - before, rel=0.2)
    done = estimated(tmp_path / "cache", *words)
    assert (done.files, done.done, done.disk, done.seconds) == (3, 3, 0, 0.0)


def test_what_another_run_prepared_is_left_alone(dumps: Path, tmp_path: Path) -> None:
    words = ("data=pbe", f"data.root={dumps}")
    data = dataset.opened(config("pretrain", *words)["data"], QUOTIENT, means(tmp_path / "cache"))
    stores = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.h5")}
    assert data.folder is not None
    for place in dataset.joined(data.folder, QUOTIENT):
        (place / "joined.json").unlink()
    found = estimated(tmp_path / "cache", *words)
    assert (found.done, found.timed is not None and found.timed.seconds) == (3, 0.0)
    assert found.disk is not None
    assert found.disk > 0, "the joined table is missing"
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.h5")} == stores
    assert not list((tmp_path / "cache").rglob("*.timed.json"))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # beside threads, from Python 3.12 on
def test_a_killed_process_is_one_sentence(dumps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A fork, which imports nothing anew; test_what_is_said_is_what_comes starts another interpreter.
    forking = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: forking)
    monkeypatch.setattr(timed_shard, "_measured", _killed)
    with pytest.raises(
        ResourceError, match=r"alexandria_001\.json\.bz2 was killed, probably for lack of memory; free some\."
    ):
        estimated(tmp_path / "cache", "data=pbe", f"data.root={dumps}")


def _killed(task: object) -> None:
    os._exit(9)


def test_one_file_is_not_prepared_to_say_what_it_takes(tmp_path: Path) -> None:
    found = estimated(tmp_path / "cache", "data=demo")
    assert (found.files, found.done, found.fetch, found.seconds) == (1, 0, 0, None)
    assert not list((tmp_path / "cache").rglob("*.h5"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("TLTOOL_OFFLINE", raising=False)
    with serving() as scripted:
        yield scripted


def test_the_server_is_asked_for_sizes_and_for_one_file(server: Scripted, tmp_path: Path) -> None:
    address = server.at("/pbe/", autoindex(*FILES))
    for name, content in FILES.items():
        server.at(f"/pbe/{name}", whole(content))
    found = estimated(tmp_path / "cache", "data=pbe", f"data.address={address}")
    first = len(FILES["alexandria_000.json.bz2"])
    assert (found.files, found.done, found.fetch) == (3, 1, TOTAL - first)
    there = [path.name for path in (tmp_path / "cache" / "downloads").rglob("*.bz2")]
    assert there == ["alexandria_000.json.bz2"]
    again = estimated(tmp_path / "cache", "data=pbe", f"data.address={address}")
    assert replace(again, memory=0) == replace(found, memory=0)
    server.at("/pbe/alexandria_002.json.bz2", status(404))
    with pytest.raises(DataError, match=r"^The size of alexandria_002.json.bz2 could not be asked from .*404"):
        estimated(tmp_path / "cache", "data=pbe", f"data.address={address}")


def test_a_query_has_no_size_before_it_is_asked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is known only when it is downloaded"):
        estimated(tmp_path / "cache", "data=mp")
