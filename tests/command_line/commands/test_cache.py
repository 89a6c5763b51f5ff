"""``tltool cache`` lists what the cache and the runs hold, and removes what no run uses, after a question."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import run
from forks import fork
from support import QUOTIENT, config

from tltool.command_line.commands.cache import cache
from tltool.data import dataset
from tltool.data.cache import contents, users
from tltool.data.dataset import Means
from tltool.errors import ConfigError, ResourceError
from tltool.run_folder import disk, owner
from tltool.run_folder.run import Run


def data_in(cache: Path) -> None:
    dataset.opened(config("pretrain", "data=dielectric")["data"], QUOTIENT, Means(cache, [], 1, lambda text: None))


@pytest.fixture(scope="module")
def data_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a prepared data set, which nobody uses."""
    folder = tmp_path_factory.mktemp("cache") / "c"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "_mine", set())
        data_in(folder)
        users._gone(os.getpid())
    return folder


@pytest.fixture
def home(tmp_path: Path, data_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a prepared data set, a download and kernels, and two runs of which one is of a sweep."""
    monkeypatch.setattr(users, "_mine", set())
    shutil.copytree(data_cache, tmp_path / "c")
    data_in(tmp_path / "c")
    for name in ("downloads/pbe-0a1b2c3d", "kernels"):
        (tmp_path / "c" / name).mkdir(parents=True)
        (tmp_path / "c" / name / "file").write_bytes(b"x" * 2_000_000)
    for name in ("transfer/one", "transfer/two/0", "transfer/two/1"):
        Run(tmp_path / "r" / name, "transfer").close("finished", 0, "")
    (tmp_path / "r" / "transfer" / "two" / "1" / "status.json").write_text('{"state": "failed"}')
    return tmp_path


def words(home: Path, *more: str) -> list[str]:
    return [f"cache={home / 'c'}", f"runs={home / 'r'}", *more]


def prepared(home: Path) -> Path:
    (found,) = (path for path in (home / "c").iterdir() if path.name.startswith("dielectric-") and path.is_dir())
    return found


@contextmanager
def another(code: str) -> Iterator[None]:
    """Another process that has run ``code``, until it is left."""

    def work() -> None:
        names = {"Path": Path, "sys": sys}  # and what the code holds, as long as this process lives
        exec(code, names)
        print("ready", flush=True)
        signal.pause()

    process = fork(work, Path.cwd())
    try:
        until = time.monotonic() + 60
        while process.said()[0] != "ready\n":
            assert process.poll() is None, process.said()
            assert time.monotonic() < until
            time.sleep(0.01)
        yield
    finally:
        process.kill()
        process.wait(timeout=60)


def test_it_lists_what_is_there_what_it_is_and_how_large(home: Path) -> None:
    text = cache(words(home))
    assert "data=dielectric, prepared, 1,056 records; used by process" in text, "this process uses it"
    assert "download of data=pbe" in text
    assert "  2.0 MB  " in text
    assert "sweep of 2 runs (1 finished, 1 failed)" in text
    found = {entry.name: entry for entry in contents.entries(home / "c")}
    assert set(found) == {prepared(home).name, "downloads/pbe-0a1b2c3d", "kernels"}
    assert found["kernels"].size == 2_000_000
    assert abs(found[prepared(home).name].used - time.time()) < 60
    assert {entry.name for entry in disk.entries(home / "r")} == {"transfer/one", "transfer/two"}
    assert cache([f"cache={home / 'none'}", f"runs={home / 'none'}"]).count("nothing") == 2


def test_removing_asks_and_without_a_terminal_wants_yes(home: Path) -> None:
    name, questions = "downloads/pbe-0a1b2c3d", []

    def no(question: str) -> bool:
        questions.append(question)
        return False

    assert cache(words(home, f"remove={name}"), no) == "Nothing was removed."
    assert questions == [f"Remove {home / 'c' / name} (download of data=pbe, 2.0 MB)?"]
    with pytest.raises(ConfigError, match=r"Nobody can be asked here, since this is no terminal; add yes=true\."):
        cache(words(home, f"remove={name}"))
    assert (home / "c" / name).is_dir()
    assert cache(words(home, f"remove={name}"), lambda question: True).startswith("Removed ")
    assert not (home / "c" / name).exists()
    assert cache(words(home, "remove=transfer/two", "yes=true")).startswith("Removed ")
    assert [path.name for path in (home / "r" / "transfer").iterdir()] == ["one"]


def test_a_data_set_goes_with_its_lock_once_nobody_uses_it(home: Path) -> None:
    place = prepared(home)
    with pytest.raises(ResourceError, match=f"^{place.name} is used by process {os.getpid()} on "):
        cache(words(home, f"remove={place.name}", "yes=true"))
    with pytest.raises(ResourceError, match=r"^kernels is used by process"):
        cache(words(home, "remove=kernels", "yes=true"))
    users._gone(os.getpid())
    cache(words(home, f"remove={place.name}", "yes=true"))
    assert sorted(path.name for path in (home / "c").iterdir()) == ["downloads", "kernels"]


def test_features_of_potentials_stay_while_a_run_uses_them(home: Path) -> None:
    folder = home / "c" / "potentials"
    opens = "from tltool.potentials import catalogue, placement; catalogue.opened = lambda name, cache: sys.exit(name)"
    code = (
        f"{opens}\ntry:\n    placement.opened({{'potentials': [{{'name': 'tiny'}}]}}, Path({str(home / 'c')!r}))\n"
        "except SystemExit:\n    pass"
    )
    with another(code):
        (process,) = users.of(folder)
        with pytest.raises(ResourceError, match=f"^potentials is used by process {process.pid} on "):
            cache(words(home, "remove=potentials", "yes=true"))
    cache(words(home, "remove=potentials", "yes=true"))
    assert not folder.exists()


def test_what_another_process_uses_stays_until_it_ends(home: Path) -> None:
    users._gone(os.getpid())
    place = prepared(home)
    with another(f"from tltool.data.cache import users; users.note(Path({str(place)!r}))"):
        (process,) = users.of(place)
        with pytest.raises(ResourceError, match=f"is used by process {process.pid} on "):
            cache(words(home, f"remove={place.name}", "yes=true"))
    assert users.of(place) == [], "it was killed and took nothing away"
    assert list((place / "users").iterdir()) == []
    hold = "from tltool.data.cache import users; lock = users.locked(Path({!r}), print); lock.__enter__()"
    with another(hold.format(str(place))):
        for name, who in ((place.name, "prepares it"), ("kernels", "prepares it")):
            with pytest.raises(ResourceError, match=f"{name} is used by a process that {who}"):
                cache(words(home, f"remove={name}", "yes=true"))
    (home / "c" / "downloads" / "dielectric-0a1b2c3d").mkdir()
    with another(hold.format(str(place))), pytest.raises(ResourceError, match="process that prepares dielectric-"):
        cache(words(home, "remove=downloads/dielectric-0a1b2c3d", "yes=true"))


def test_what_a_run_takes_between_the_question_and_the_answer_stays(home: Path) -> None:
    users._gone(os.getpid())
    users._mine.clear()
    place = prepared(home)

    def meanwhile(question: str) -> bool:
        users.note(place)
        return True

    with pytest.raises(ResourceError, match="has been taken by a run meanwhile"):
        cache(words(home, f"remove={place.name}"), meanwhile)
    users._gone(os.getpid())
    hold = f"from tltool.data.cache import users; lock = users.locked(Path({str(place)!r}), print); lock.__enter__()"
    (entry,) = (entry for entry in contents.entries(home / "c") if entry.path == place)
    with another(hold), pytest.raises(ResourceError, match="has been taken by a run meanwhile"):
        contents.removed(entry)
    contents.removed(entry)
    assert not place.exists()


def test_a_run_that_works_and_its_sweep_stay(home: Path) -> None:
    lock = owner.take(home / "r" / "transfer" / "two" / "1", again=True)
    assert lock is not None
    with pytest.raises(ResourceError, match=f"^transfer/two is used by process {os.getpid()} on .* has ended"):
        cache(words(home, "remove=transfer/two", "yes=true"))
    os.close(lock)
    cache(words(home, "remove=transfer/two", "yes=true"))


def test_a_user_of_another_machine_counts(home: Path) -> None:
    users._gone(os.getpid())
    place = prepared(home)
    about = {"host": "another", "boot": "b", "pid": 7, "started": "1"}
    (place / "users" / "another-7.json").write_text(json.dumps(about))
    (place / "users" / "broken.json").write_text("{")
    with pytest.raises(ResourceError, match="used by process 7 on another"):
        cache(words(home, f"remove={place.name}", "yes=true"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["cach=x"], r"tltool cache takes .*Did you mean 'cache'\?"),
        (["yes=true"], "no effect without remove=NAME"),
        (["remove=kernels", "yes=maybe"], "use true or false"),
        (["remove=kernel"], r"There is no 'kernel' .*Did you mean 'kernels'\?"),
        (["remove=../../etc"], "There is no"),
        (["remove=transfer/.."], "There is no"),
    ],
)
def test_mistakes(home: Path, given: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        cache(words(home, *given))


def test_from_the_command_line(home: Path) -> None:
    done = run(home, "cache", "cache=c", "runs=r")
    assert "kernels" in done.stdout
    done = run(home, "cache", "cache=c", "runs=r", "remove=transfer/one", code=2)
    assert done.stderr.startswith("tltool: Remove r/transfer/one (finished, ")
    done = run(home, "cache", "cache=c", "runs=r", f"remove={prepared(home).name}", "yes=true", code=6)
    assert "remove it when that has ended" in done.stderr
    assert "Removed r/transfer/one" in run(home, "cache", "cache=c", "runs=r", "remove=transfer/one", "yes=true").stdout
