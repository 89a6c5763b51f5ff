"""What a process may use: its place among others, and the free cores."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forks import fork

from tltool import machine
from tltool.errors import ConfigError
from tltool.training.setup import threads

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Eight cores of which other work takes one."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setattr(machine, "taken", lambda: 1.2)
    return monkeypatch


def test_alone_there_is_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    assert (machine.ranks(), machine.rank(), machine.local_rank()) == (1, 0, 0)
    monkeypatch.setenv("RANK", "1")  # of something else
    assert (machine.ranks(), machine.rank()) == (1, 0)


def test_ranks_are_those_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert (machine.ranks(), machine.rank(), machine.local_rank()) == (4, 3, 1)


def test_busy_cores_are_not_free(eight: pytest.MonkeyPatch) -> None:
    assert machine.free_cores() == 7
    eight.setattr(machine, "cores", lambda: 3)  # by affinity
    assert machine.free_cores() == 3
    eight.setattr(machine, "taken", lambda: 20.0)
    assert machine.free_cores() == 1


def test_what_others_take_is_what_is_computed_now(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [machine._Look(*seconds) for seconds in ((10.0, 50.0, 5.0), (10.1, 50.9, 5.0), (12.0, 55.0, 7.0))]
    looks += [machine._Look(*seconds) for seconds in ((30.0, 75.0, 9.0), (30.1, 76.0, 9.0), (40.0, 76.0, 10.0))]
    looks += [machine._Look(50.0, 76.0, 11.0)]
    monkeypatch.setattr(machine, "_since", looks[0])
    monkeypatch.setattr(machine, "_last", 0.0)
    found = iter(looks[1:])
    monkeypatch.setattr(machine, "_look", lambda: next(found))
    # A tenth of a second says nothing; 5 s of all in 2 s, 2 of them its own; since the beginning; then anew.
    assert machine.taken() == 0.0
    assert machine.taken() == pytest.approx(1.5)
    assert machine.taken() == pytest.approx((25.0 - 4.0) / 20.0)
    assert machine.taken() == pytest.approx((25.0 - 4.0) / 20.0)
    assert machine.taken() == 0.0, "the clock of all and its own are not read at once"
    assert machine.taken() == 0.0


def test_without_a_word_from_the_system_the_load_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_STAT", tmp_path / "none")
    monkeypatch.setattr(os, "getloadavg", lambda: (1.2, 5.0, 5.0))
    assert machine.taken() == 1.2
    (tmp_path / "none").write_text("no numbers\n")
    assert machine.taken() == 1.2
    monkeypatch.delattr(os, "getloadavg")
    assert machine.taken() == 0.0


@pytest.mark.skipif(machine._look() is None, reason="this system does not tell")
def test_a_process_beside_is_seen_and_the_own_work_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_since", machine._look())
    before = machine._look()
    beside = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            pass
        after = machine._look()
        assert before is not None
        assert after is not None
        assert after.own - before.own > 0.3
        assert after.all - before.all > after.own - before.own + 0.1
        assert machine.taken() > 0.1
    finally:
        beside.kill()
        beside.wait()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_process_begins_to_look_anew() -> None:
    code = (
        "import os; from tltool import machine; machine._last = 5.0; pid = os.fork()\n"
        "print(machine._last, flush=True) if not pid else os.waitpid(pid, 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["0.0"]


def test_processes_that_belong_together_share_the_cores(eight: pytest.MonkeyPatch) -> None:
    eight.setenv("TLTOOL_JOBS", "4")
    assert machine.free_cores() == 2
    for name, value in TORCHRUN.items():
        eight.setenv(name, value)
    assert machine.free_cores() == 1


def test_threads_are_free_cores_as_far_as_they_pay(eight: pytest.MonkeyPatch) -> None:
    assert threads("auto", angles=False) == 1
    assert threads("auto", angles=True) == 2
    eight.setattr(machine, "taken", lambda: 7.0)
    assert threads("auto", angles=True) == 1
    assert threads(5, angles=False) == 5
    with pytest.raises(ConfigError, match="threads='many' is not known"):
        threads("many", angles=False)


@pytest.mark.parametrize(("given", "found"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_wait_passively_unless_told_otherwise(given: dict[str, str], found: str) -> None:
    code = (
        "import os, sys, importlib.abc\n"
        "class Watch(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torch': print(os.environ['OMP_WAIT_POLICY']); os._exit(0)\n"
        "sys.meta_path.insert(0, Watch())\n"
        "from tltool.command_line.launch import launch\n"
        "launch('pretrain', ['fit.epochs=0'])\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | given
    done = subprocess.run([sys.executable, "-u", "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == found, done.stderr


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("4,7", ["4", "7"]),
        (" GPU-1 , MIG-2", ["GPU-1", "MIG-2"]),
        ("", []),
        ("-1", []),
        ("0,-1,2", ["0"]),
        ("3,3", ["3"]),
    ],
)
def test_the_gpus_of_this_process(given: str, found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert machine.gpus() == found


def test_without_a_word_the_driver_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpus() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho '  MIG 1g Device 0: (UUID: y)'\necho 'GPU 1: A'\n")
    program.chmod(0o755)
    assert machine.gpus() == ["0", "1"]


def test_processes_of_a_sweep_take_gpus_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    for number in range(5):
        monkeypatch.setattr(machine, "_gpu", None)  # another process
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
        machine.take_gpu(tmp_path, number)
        machine.take_gpu(tmp_path, number + 1)  # its next cell
        taken.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert taken == ["4", "7", "4", "7", "4"]


def test_without_locks_the_number_of_the_cell_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert machine.lock(0) is None
    for number, gpu in ((0, "4"), (1, "7"), (2, "4")):
        monkeypatch.setattr(machine, "_gpu", None)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
        machine.take_gpu(tmp_path, number)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu


def test_one_gpu_or_none_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_gpu", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    machine.take_gpu(tmp_path / "none", 3)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    assert not (tmp_path / "none").exists()


@pytest.mark.long
@pytest.mark.slow
def test_training_needs_nothing_that_only_linux_has(tmp_path: Path) -> None:
    """As on a system without file locks, ``/proc``, processes by fork, and signals of users."""
    code = """
import multiprocessing.spawn, os, pathlib, signal, sys
import matplotlib.pyplot, pandas, psutil, sklearn, torch  # which look at the system when they are imported
sys.modules["fcntl"] = sys.modules["resource"] = None
sys.platform = "other"
for name in ("SIGUSR1", "SIGUSR2"):
    delattr(signal, name)
for name in ("fork", "register_at_fork", "sched_getaffinity", "pwrite", "getloadavg"):
    delattr(os, name)
for name in [name for name in sys.modules if name.split(".")[0] == "tltool"]:
    del sys.modules[name]
read = pathlib.Path.read_text
def no_proc(path, *words, **more):
    if str(path).startswith("/proc"):
        raise FileNotFoundError(path)
    return read(path, *words, **more)
pathlib.Path.read_text = no_proc
from tltool.cli import main
for words in COMMANDS:
    sys.argv = ["tltool", *words]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""
    own = ["data=dielectric", "quantities=[gap]"]
    pretrain = ["pretrain", *own, "split.train_size=64", "fit.epochs=1", "overlap=none", "cache=c"]
    sweep = ["transfer", "-m", "target=refractive_index", "mode=scratch", "seed=0,1", "fit.epochs=1", "cache=c"]
    prepare = ["prepare", "data=dielectric", "dry_run=true", "cache=c"]
    every = [pretrain, [*sweep, "split.train_size=40", "overlap=none"], prepare, ["cache", "cache=c"]]

    def work() -> None:
        exec(compile(code, "code", "exec"), {"__name__": "code", "COMMANDS": every})

    process = fork(work, tmp_path)
    out, err = process.communicate(timeout=480)
    assert process.returncode == 0, err
    assert "data=dielectric, prepared, 1,056 records" in out
    assert len(list((tmp_path / "runs").rglob("metrics.json"))) == 4
    assert {json.loads(p.read_text())["state"] for p in tmp_path.rglob("status.json")} == {"finished"}
