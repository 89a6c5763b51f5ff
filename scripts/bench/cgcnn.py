"""CGCNN of tltool beside the published CGCNN method on bundled crystals.

Both sides do the same work: graphs from crystals in memory, batch assembly, training with the same optimiser, loss
and split, prediction. The two take turns and best turns are compared, since on a shared machine the median measures
the other jobs. If several thread counts are given, they take turns as well, and each side is given its best.
"""

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from bench.rows import Row, faster, smaller
from bench.sides import Ours, Published
from bench.tasks import task_of
from bench.workers import Ask, worker

SPEED = "structures/s"
OF_A_BATCH = ("assembly", "training", "peak memory", "test MAE")


def names(options: Namespace) -> list[str]:
    """Return the names of the rows."""
    of_batches = [f"{what}, batch {size}" for size in options.batch for what in OF_A_BATCH]
    return ["graphs, shared shells", "graphs, strict", *of_batches, "prediction"]


def rows(options: Namespace) -> Iterator[Row]:
    """Yield every comparison."""
    task = task_of(options.store, options.crystals, options.sample, options.seed)
    with worker(Published, task) as published, worker(Ours, task) as ours:
        yield from measure(published, ours, options)


def measure(published: Ask, ours: Ask, options: Namespace) -> Iterator[Row]:
    """Yield every comparison of two workers."""
    turns = [
        (published("graphs", "strict"), ours("graphs", "shared"), ours("graphs", "strict"))
        for _ in range(options.rounds)
    ]
    theirs, shared, strict = ((max(column), 1) for column in zip(*turns, strict=True))
    yield faster("graphs, shared shells", SPEED, theirs, shared)
    yield faster("graphs, strict", SPEED, theirs, strict)
    for side in (published, ours):
        side("load")
    several = options.rounds * len(options.threads)
    for size in options.batch:
        best = _best(published, ours, options.threads, "assembly", several, size)
        yield faster(f"assembly, batch {size}", SPEED, *best)
        for side in (published, ours):
            side("begin", size, options.epochs, options.seed)
        best = _best(published, ours, options.threads, "epoch", options.epochs)
        yield faster(f"training, batch {size}", SPEED, *best)
        yield smaller(f"peak memory, batch {size}", "MB", published("peak"), ours("peak"))
        yield smaller(f"test MAE, batch {size}", "eV/atom", published("error"), ours("error"))
    yield faster("prediction", SPEED, *_best(published, ours, options.threads, "prediction", several))


def _best(
    published: Ask, ours: Ask, threads: list[int], method: str, turns: int, *arguments: Any
) -> tuple[tuple[float, int], tuple[float, int]]:
    """Return the best speed of each side in ``turns`` turns, and its number of threads."""
    counts = [threads[k % len(threads)] for k in range(turns)]
    speeds = [((published(method, n, *arguments), n), (ours(method, n, *arguments), n)) for n in counts]
    theirs, mine = zip(*speeds, strict=True)
    return max(theirs), max(mine)
