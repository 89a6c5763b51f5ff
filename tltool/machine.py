"""The resources of this process: its rank under ``torchrun`` or in a sweep, the free cores, locks, and who it is."""

import os
import re
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

_STAT = Path("/proc/stat")
_SHORTEST, _LONGEST = 0.2, 10.0  # seconds over which the machine is looked at


_MOST_PER_GPU = 64
_TRIES, _PAUSE = 5, 0.02  # seconds; whoever looks at a lock holds it for some microseconds


class Process(NamedTuple):
    """A process: ``started`` is in clock ticks since the ``boot``, which no change of the clock moves."""

    host: str
    boot: str
    pid: int
    started: str


class _Look(NamedTuple):
    """Seconds: the clock's, those that all processes of the machine have computed, and those of this process."""

    clock: float
    all: float
    own: float


def ranks() -> int:
    """Return how many processes work on this run, as ``torchrun`` says in the environment; 1 without it."""
    there = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"))
    return _number("WORLD_SIZE", 1) if there else 1


def rank() -> int:
    """Return the rank of this process; only rank 0 writes files and messages."""
    return _number("RANK", 0) if ranks() > 1 else 0


def local_rank() -> int:
    """Return which of the processes on this machine this is."""
    return _number("LOCAL_RANK", rank()) if ranks() > 1 else 0


def jobs() -> int:
    """Return how many cells of a sweep run in parallel on this machine, including this one."""
    return _number("TLTOOL_JOBS", 1)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_parts(*names: str) -> bool:
    """Return whether these optional folders of tltool, such as ``sweep``, are there."""
    return all(find_spec(f"tltool.{name}") is not None for name in names)


def free_cores() -> int:
    """Return how many of ``cores`` this process may use, at least 1.

    Cores that other work uses are not free. Processes that belong together share the free cores.
    """
    idle = (os.cpu_count() or 1) - round(taken())
    together = jobs() * (_number("LOCAL_WORLD_SIZE", ranks()) if ranks() > 1 else 1)
    return max(1, min(idle, cores() // together))


def taken() -> float:
    """Return how many cores other work takes: since this process began, later over the last ten seconds or so.

    Where the system does not tell, that is the load of the last minute, in which this process and what ran before it
    are counted too; 0 where it does not tell that either.
    """
    global _since, _last
    now = _look()
    if now is None or _since is None:
        try:
            return os.getloadavg()[0]
        except (OSError, AttributeError):
            return 0.0
    passed = now.clock - _since.clock
    if passed >= _SHORTEST:
        _last = max(0.0, (now.all - _since.all - (now.own - _since.own)) / passed)
        if passed > _LONGEST:
            _since = now
    return _last


def _look() -> _Look | None:
    try:
        user, nice, system, _, _, *interrupts = map(int, _STAT.read_text().split("\n", 1)[0].split()[1:9])
    except (OSError, ValueError):
        return None
    spent = (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
    return _Look(time.monotonic(), spent, sum(os.times()[:4]))


def gpus() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` calls them; CUDA is not begun for it."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        names = [word.strip() for word in given.split(",")]
        # CUDA takes those before the first that is none.
        return list(dict.fromkeys(takewhile(lambda name: name not in ("", "-1"), names)))
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(n) for n, _ in enumerate(re.findall(r"^GPU \d+:", done.stdout, re.MULTILINE))]


def take_gpu(folder: Path, number: int) -> None:
    """Let this process use one GPU alone, of several: the first that no process of the sweep in ``folder`` has.

    Where all are taken, it shares one, those first that fewest have. Without locks it takes that of cell ``number``.
    Must be called before CUDA begins. A process keeps its GPU for all its cells.
    """
    global _gpu
    there = gpus()
    if _gpu is not None or len(there) < 2:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for turn in range(_MOST_PER_GPU):
        for gpu in there:
            held = os.open(folder / f"{gpu.replace('/', '_')}.{turn}.lock", os.O_RDWR | os.O_CREAT, 0o644)
            got = lock(held)
            if got is not False:
                _gpu = gpu if got else there[number % len(there)]
                os.environ["CUDA_VISIBLE_DEVICES"] = _gpu
                return
            os.close(held)


def this_process() -> Process:
    """Return who this process is."""
    return Process(socket.gethostname(), _boot(), os.getpid(), _started(os.getpid()))


def is_running(process: Process) -> bool | None:
    """Say if ``process`` still runs; None if it is one of another machine, which cannot be asked."""
    if process.host != socket.gethostname():
        return None
    return process.boot == _boot() and bool(process.started) and process.started == _started(process.pid)


def lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool | None:
    """Lock an open file until it is closed, unless another process has locked it.

    Return False if another one has and this is not to ``wait``, and None where the system or the file system has no
    locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        except OSError:
            return None
        else:
            return True
    return False


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    import psutil

    return f"{psutil.boot_time():.0f}"


def _started(pid: int) -> str:
    """Return when a process started, in ticks since the boot; empty if there is none."""
    with suppress(OSError):
        # The name of the program may hold spaces and brackets; the start is the 20th number after it.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    import psutil

    with suppress(psutil.Error):
        return f"{psutil.Process(pid).create_time():.2f}"
    return ""


def _number(name: str, otherwise: int) -> int:
    word = os.environ.get(name, "")
    return int(word) if word.isdigit() else otherwise


def _begin() -> None:
    """Forget what was seen: a forked process has computed nothing yet, and its parent is other work to it."""
    global _since, _last
    _since, _last = _look(), 0.0


_gpu: str | None = None
_since: _Look | None
_last: float
_begin()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin)
