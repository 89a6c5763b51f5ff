"""What this process may use: its place beside those of ``torchrun`` or of a sweep, and the cores that are free."""

import os


def ranks() -> int:
    """Return how many processes work on this run, as ``torchrun`` says in the environment; 1 without it."""
    there = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"))
    return _number("WORLD_SIZE", 1) if there else 1


def rank() -> int:
    """Return which of them this is; 0 writes and speaks for all."""
    return _number("RANK", 0) if ranks() > 1 else 0


def local_rank() -> int:
    """Return which of the processes on this machine this is."""
    return _number("LOCAL_RANK", rank()) if ranks() > 1 else 0


def jobs() -> int:
    """Return how many cells of a sweep run beside each other on this machine, this one counted."""
    return _number("TLTOOL_JOBS", 1)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_cores() -> int:
    """Return how many of ``cores`` are this process's to take, 1 at least.

    What other work took in the last minute is not free, and those that belong together share.
    """
    try:
        idle = (os.cpu_count() or 1) - round(os.getloadavg()[0])
    except OSError:
        idle = cores()
    together = jobs() * (_number("LOCAL_WORLD_SIZE", ranks()) if ranks() > 1 else 1)
    return max(1, min(idle, cores() // together))


def _number(name: str, otherwise: int) -> int:
    word = os.environ.get(name, "")
    return int(word) if word.isdigit() else otherwise
