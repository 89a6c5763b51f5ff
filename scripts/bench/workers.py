"""A side of a comparison in a process of its own, which does one thing after another when it is asked."""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.sides import LEARNING_RATE, Side
from bench.tasks import Task

PREDICT_BATCH = 256
Ask = Callable[..., Any]


@contextmanager
def worker(side: Callable[[Task], Side], task: Task) -> Iterator[Ask]:
    """Give a function that asks a new process for a method of ``Worker``, by name and with arguments."""
    with ProcessPoolExecutor(1, get_context("spawn"), _start, (side, task)) as pool:
        yield lambda method, *arguments: pool.submit(_call, method, *arguments).result()


class Worker:
    """One side with its crystals and its network, in a process of its own. Speeds are structures/s."""

    def __init__(self, side: Side, task: Task) -> None:
        self.side, self.task = side, task

    def graphs(self, kind: str) -> float:
        """Make graphs on one thread."""
        self.side.use_threads(1)
        begin = time.perf_counter()
        return self.side.graphs(kind) / (time.perf_counter() - begin)

    def load(self) -> dict[str, float]:
        """Make the graphs to work with."""
        return self.side.load()

    def assembly(self, threads: int, size: int) -> float:
        """Put together one epoch of shuffled batches."""
        self.side.use_threads(threads)
        begin = time.perf_counter()
        for batch in self.side.batches(self.task.train, size, torch.Generator()):
            getattr(batch, "graph", None)  # ours is put together when it is asked for
        return len(self.task.train) / (time.perf_counter() - begin)

    def begin(self, size: int, epochs: int, seed: int) -> None:
        """Take a fresh network and its optimiser, the same on both sides but for how it is written."""
        torch.manual_seed(seed)
        self.size, self.generator = size, torch.Generator().manual_seed(seed)
        self.network = self.side.network()
        self.optimiser = self.side.optimiser(self.network)
        steps = epochs * -(-len(self.task.train) // size)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimiser, LEARNING_RATE, steps)

    def epoch(self, threads: int) -> float:
        """Train for one epoch."""
        self.side.use_threads(threads)
        self.network.train()
        begin = time.perf_counter()
        for batch in self.side.batches(self.task.train, self.size, self.generator):
            loss = self.side.loss(self.network, batch)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            self.schedule.step()
        return len(self.task.train) / (time.perf_counter() - begin)

    def prediction(self, threads: int) -> float:
        """Predict all crystals."""
        self.side.use_threads(threads)
        begin = time.perf_counter()
        return len(self._predicted(list(range(len(self.task.labels))))) / (time.perf_counter() - begin)

    def error(self) -> float:
        """Return the mean absolute error on the test rows in eV/atom."""
        labels = torch.tensor(self.task.labels[self.task.test])
        return float((self._predicted(self.task.test) - labels).abs().mean())

    def peak(self) -> float:
        """Return the most memory that this process has held so far, in MB."""
        # Linux hands a parent's ru_maxrss down to its children; the high-water mark in /proc is the child's own.
        status = Path("/proc/self/status")
        for line in status.read_text().splitlines() if status.is_file() else ():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)

    def _predicted(self, rows: list[int]) -> Tensor:
        self.network.eval()
        with torch.no_grad():
            batches = self.side.batches(rows, PREDICT_BATCH, None)
            return torch.cat([self.side.predict(self.network, batch) for batch in batches])


_worker: Worker


def _start(side: Callable[[Task], Side], task: Task) -> None:
    """Set this process up as a worker."""
    global _worker
    _worker = Worker(side(task), task)


def _call(method: str, *arguments: Any) -> Any:
    """Do one thing in this worker."""
    return getattr(_worker, method)(*arguments)
