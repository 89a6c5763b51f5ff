"""Measure tltool beside the published CGCNN method on the bundled crystals: what ``make bench`` runs.

Each side lives in a process of its own, so that its peak memory is its own, and does the same work: graphs from
crystals in memory, batch assembly, training with the same optimiser, loss and split, prediction. The two take turns
and best turns are compared, since on a shared machine the median measures the neighbours. Thread counts take turns
as well, and each side is given its best. Every ratio is larger than one where tltool is ahead.
``bench_last.json`` holds the ratios that were last worth keeping (``--save``); the table compares with them, and a
ratio that fell by more than a tenth is named below it.
"""

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tltool.data import store
from tltool.data.record import Crystal, Floats

if TYPE_CHECKING:
    from tltool.data.graph.crystal_graphs import GraphSettings

HERE = Path(__file__).parent
LAST = HERE / "bench_last.json"
DEMO = HERE.parent / "tltool" / "data" / "bundled" / "demo.h5"
PREDICT_BATCH = 256
NOISE = 0.1
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.01


class Task(NamedTuple):
    """What both sides work on: crystals, their formation energies (n,) in eV/atom, train and test row numbers.

    ``sample`` are the rows whose graphs the published method is timed on.
    """

    crystals: list[Crystal]
    labels: Floats
    train: list[int]
    test: list[int]
    sample: list[int]


class Row(NamedTuple):
    """One line of the table; ``ratio`` is above one where tltool is ahead.

    ``threads`` are those of the best turn of the published side and of ours.
    """

    name: str
    unit: str
    published: float
    ours: float
    ratio: float
    threads: tuple[int, ...] = ()


class Side(Protocol):
    """One of the two methods. ``rows`` are row numbers of the task; a batch is whatever the side makes of them."""

    def use_threads(self, count: int) -> None:
        """Compute on ``count`` threads."""

    def graphs(self, kind: str) -> int:
        """Make graphs in the way called ``kind`` and throw them away; return how many."""

    def load(self) -> dict[str, float]:
        """Make the graphs to work with and keep them; return their sizes."""

    def network(self) -> nn.Module:
        """Return a network with fresh weights."""

    def optimiser(self, network: Any) -> torch.optim.Optimizer:
        """Return AdamW with ``LEARNING_RATE`` and ``WEIGHT_DECAY``."""

    def batches(self, rows: list[int], size: int, generator: torch.Generator | None) -> Iterable[Any]:
        """Return batches of ``size``, shuffled by ``generator`` if one is given."""

    def loss(self, network: Any, batch: Any) -> Tensor:
        """Return the mean squared error of the standardised formation energy."""

    def predict(self, network: Any, batch: Any) -> Tensor:
        """Return formation energies (c,) in eV/atom."""


class Published:
    """The published method, from pymatgen structures."""

    def __init__(self, task: Task) -> None:
        import bench_published
        from pymatgen.core.structure import Structure

        self.graph_settings = bench_published
        structures = [Structure(c.lattice, c.numbers.tolist(), c.frac) for c in task.crystals]
        self.sample = [structures[row] for row in task.sample]
        self.data = bench_published.Crystals(structures, task.labels.tolist())
        self.mean, self.spread = task.labels[task.train].mean(), task.labels[task.train].std()

    def use_threads(self, count: int) -> None:
        """Give them to PyTorch."""
        torch.set_num_threads(count)

    def graphs(self, kind: str) -> int:
        """Make the graphs of the sample."""
        return len(self.graph_settings.graphs(self.sample))

    def load(self) -> dict[str, float]:
        """Fill the cache of the data set."""
        items = [self.data[row][0] for row in range(len(self.data))]
        sites = sum(len(item.atoms) for item in items)
        return {"nodes": sites, "edges": sum(item.neighbours.numel() for item in items)}

    def network(self) -> nn.Module:
        """Return the published network."""
        return self.graph_settings.Network()

    def optimiser(self, network: Any) -> torch.optim.Optimizer:
        """Return PyTorch's fused optimiser."""
        return torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)

    def batches(self, rows: list[int], size: int, generator: torch.Generator | None) -> Iterable[Any]:
        """Return the published loader."""
        return self.graph_settings.loader(self.data, rows, size, generator)

    def loss(self, network: Any, batch: Any) -> Tensor:
        """Return the loss on standardised labels."""
        inputs, labels = batch
        return F.mse_loss(network(inputs), (labels - self.mean) / self.spread)

    def predict(self, network: Any, batch: Any) -> Tensor:
        """Return predictions in eV/atom."""
        return network(batch[0]) * self.spread + self.mean  # type: ignore[no-any-return]


class Ours:
    """The same network from the parts of tltool."""

    def __init__(self, task: Task) -> None:
        from tltool.data.graph.crystal_graphs import GraphSettings
        from tltool.training import backend

        # As the command line does it: where there is no compiler, this measures plain PyTorch.
        self.backend = backend.choose("auto", "cpu", 1, lambda text: print(text, file=sys.stderr))

        def graph_settings(shells: str) -> "GraphSettings":
            return GraphSettings(cutoff=8.0, max_neighbours=12, shells=shells, quotient=True)

        self.graph_settings = {shells: graph_settings(shells) for shells in ("shared", "strict")}
        self.crystals = task.crystals
        self.labels = torch.tensor(task.labels[:, None], dtype=torch.float32)
        self.train = torch.tensor(task.train)

    def use_threads(self, count: int) -> None:
        """Give them to the compiled kernels, as the command line does; without those, to PyTorch."""
        cpp = self.backend.kernels.cpp if self.backend.kernels else None
        torch.set_num_threads(count if cpp is None else 1)
        if cpp is not None:
            cpp.wanted = count

    def graphs(self, kind: str) -> int:
        """Make the graphs of all crystals."""
        from tltool.data.graph.crystal_graphs import build

        return len(build(self.crystals, self.graph_settings[kind]))

    def load(self) -> dict[str, float]:
        """Make the table that batches are cut from."""
        from tltool.data.batches.tensor_table import table
        from tltool.data.graph.crystal_graphs import build

        self.table = table(build(self.crystals, self.graph_settings["shared"]))
        return {"nodes": len(self.table.number), "edges": len(self.table.neighbour)}

    def network(self) -> nn.Module:
        """Return the same network from our parts."""
        from tltool.model.encoders.cgcnn import CGCNN
        from tltool.model.layers.mlp import Trunk
        from tltool.model.property_model import PropertyModel
        from tltool.model.readouts.pool import Pool
        from tltool.model.scaler import composition, fit_scaler

        scaler = fit_scaler(
            self.labels[self.train, 0], composition(self.table.select(self.train)), reference=False, logarithmic=False
        )
        model = PropertyModel(
            CGCNN(dim=64, blocks=3, n_basis=41, basis_stop=8.0, elements="descriptors"),
            Pool(64, 4, levels=[-1], statistics=["mean"]),
            Trunk(64, width=128, depth=1, dropout=0.0),
            {"e_form": nn.Linear(128, 1)},
            {"e_form": scaler},
            {},
        )
        # Scaled once, as training does it.
        with torch.no_grad():
            self.goals = model.targets(self.labels, self.table.select(torch.arange(len(self.labels))))
        return self.backend.prepare(model)

    def optimiser(self, network: Any) -> torch.optim.Optimizer:
        """Return the optimiser that training takes."""
        return torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)

    def batches(self, rows: list[int], size: int, generator: torch.Generator | None) -> Iterable[Any]:
        """Cut batches from the table."""
        from tltool.data.batches.tensor_table import batches

        return batches(self.table, self.labels, torch.tensor(rows), size, generator)

    def loss(self, network: Any, batch: Any) -> Tensor:
        """Return the loss on standardised labels."""
        return F.mse_loss(network.values(network.embed(batch.graph)), self.goals[batch.rows])

    def predict(self, network: Any, batch: Any) -> Tensor:
        """Return predictions in eV/atom."""
        return network(batch.graph)[:, 0]  # type: ignore[no-any-return]


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


def start(side: Callable[[Task], Side], task: Task) -> None:
    """Set this process up as a worker."""
    global _worker
    _worker = Worker(side(task), task)


def call(method: str, *arguments: Any) -> Any:
    """Do one thing in this worker."""
    return getattr(_worker, method)(*arguments)


Ask = Callable[..., Any]


def measure(published: Ask, ours: Ask, options: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Run every comparison on two workers; return the rows of the table and the sizes of the graphs."""
    rows: list[Row] = []
    threads = options.threads

    def faster(name: str, theirs: tuple[float, int], mine: tuple[float, int]) -> None:
        rows.append(Row(name, "structures/s", theirs[0], mine[0], mine[0] / theirs[0], (theirs[1], mine[1])))

    def smaller(name: str, unit: str, theirs: float, mine: float) -> None:
        rows.append(Row(name, unit, theirs, mine, theirs / mine))

    def by_turns(name: str, method: str, turns: int, *arguments: Any) -> None:
        counts = [threads[k % len(threads)] for k in range(turns)]
        speeds = [((published(method, n, *arguments), n), (ours(method, n, *arguments), n)) for n in counts]
        faster(name, *(max(column) for column in zip(*speeds, strict=True)))

    turns = [(published("graphs", "strict"), ours("graphs", "shared"), ours("graphs", "strict"))
             for _ in range(options.rounds)]  # fmt: skip
    theirs, shared, strict = ((max(column), 1) for column in zip(*turns, strict=True))
    faster("graphs, shared shells", theirs, shared)
    faster("graphs, strict", theirs, strict)
    sizes = {"published": published("load"), "ours": ours("load")}
    for size in options.batch:
        by_turns(f"assembly, batch {size}", "assembly", options.rounds * len(threads), size)
        for side in (published, ours):
            side("begin", size, options.epochs, options.seed)
        by_turns(f"training, batch {size}", "epoch", options.epochs)
        smaller(f"peak memory, batch {size}", "MB", published("peak"), ours("peak"))
        smaller(f"test MAE, batch {size}", "eV/atom", published("error"), ours("error"))
    by_turns("prediction", "prediction", options.rounds * len(threads))
    return rows, sizes


def busy_seconds() -> float:
    """Return the CPU seconds that all processes of this machine have used, NaN where Linux does not say."""
    if not Path("/proc/stat").is_file():
        return float("nan")
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """Return the CPU seconds that this process and its finished workers have used."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def task_of(path: Path, crystals: int, sample: int, seed: int) -> Task:
    """Draw ``crystals`` records with a formation energy, four in five to train on and the others to test on."""
    source = store.load(path)
    labels = source.label("e_form")
    draw = np.random.RandomState(seed)
    chosen = draw.permutation(np.flatnonzero(np.isfinite(labels)))[:crystals]
    order = np.argsort(source.first_site[chosen + 1] - source.first_site[chosen], kind="stable")
    # Every k-th by size: a small sample whose sizes are spread as those of the whole.
    spread = order[np.linspace(0, len(order) - 1, min(sample, len(order))).round().astype(np.int64)]
    n_train = len(chosen) // 10 * 8
    rows = list(range(len(chosen)))
    return Task(
        [source.crystal(int(row)) for row in chosen], labels[chosen], rows[:n_train], rows[n_train:], spread.tolist()
    )


def show(rows: list[Row], last: dict[str, float], title: str) -> None:
    """Print the table; ``last`` is the ratio kept last, ``change`` the new one over it."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("", "unit", "published", "tltool", "ratio", "last", "change"):
        table.add_column(heading, justify="left" if heading in ("", "unit") else "right", no_wrap=True)
    for row in rows:
        digits = ".3f" if row.unit == "eV/atom" else ",.0f"
        before = last.get(row.name)
        compared = ("-", "-") if before is None else (f"{before:.2f}", f"{row.ratio / before:.2f}")
        table.add_row(
            row.name, row.unit, f"{row.published:{digits}}", f"{row.ours:{digits}}", f"{row.ratio:.2f}", *compared
        )
    screen = Console()
    # A file is told 80 columns, and a figure that is cut off is none.
    screen.width = max(screen.width, 100)
    screen.print(table)
    print(verdict(rows, last))


def verdict(rows: list[Row], last: dict[str, float]) -> str:
    """Return a line for each ratio that fell by more than ``NOISE`` since the last, or one that says that none did."""
    known = [(row, last[row.name]) for row in rows if row.name in last]
    fallen = [
        f"WORSE: {row.name}: ratio {row.ratio:.2f}, last {before:.2f} ({row.ratio / before - 1:+.0%})"
        for row, before in known
        if row.ratio < before * (1 - NOISE)
    ]
    return "\n".join(fallen) or f"Of {len(known)} ratios that were kept none has fallen by more than {NOISE:.0%}."


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--store", type=Path, default=DEMO, help="store with e_form labels [the bundled crystals]")
    parser.add_argument("--crystals", type=int, default=1500, help="how many of its crystals to use [%(default)s]")
    parser.add_argument("--sample", type=int, default=150, help="published graphs timed per turn [%(default)s]")
    parser.add_argument("--epochs", type=int, default=20, help="training epochs of each side [%(default)s]")
    parser.add_argument("--rounds", type=int, default=8, help="turns at everything but training [%(default)s]")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256], help="batch sizes, ascending [64 256]")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts taking turns [1 2]")
    parser.add_argument("--seed", type=int, default=0, help="of split, weights and shuffling [%(default)s]")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--save", action="store_true", help=f"keep the ratios in {LAST.name}")
    parser.add_argument("--quick", action="store_true", help="a few seconds' run that only shows that it runs")
    options = parser.parse_args(argv)
    if options.quick:
        if options.save:
            parser.error("--quick gives no ratios worth keeping; leave --save out.")
        options.crystals, options.sample, options.epochs, options.rounds = 80, 8, 2, 1
        options.batch, options.threads = [32], [1]
    if options.batch != sorted(options.batch):
        parser.error("--batch must ascend: peak memory is the most held so far.")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the files that were asked for."""
    options = parsed(argv)
    begin, others = time.perf_counter(), busy_seconds() - own_seconds()
    task = task_of(options.store, options.crystals, options.sample, options.seed)
    context = get_context("spawn")
    with (
        ProcessPoolExecutor(1, context, start, (Published, task)) as theirs,
        ProcessPoolExecutor(1, context, start, (Ours, task)) as mine,
    ):
        # Both start up at once; after this only one works at a time.
        for waiting in [pool.submit(call, "peak") for pool in (theirs, mine)]:
            waiting.result()
        rows, sizes = measure(
            lambda *wish: theirs.submit(call, *wish).result(), lambda *wish: mine.submit(call, *wish).result(), options
        )
    seconds = time.perf_counter() - begin
    # Two threads of the published side suffer more from a busy core than one of ours: such ratios flatter us.
    share = (busy_seconds() - own_seconds() - others) / seconds
    ratios = {row.name: row.ratio for row in rows}
    settings = {
        name: getattr(options, name) for name in ("crystals", "sample", "epochs", "rounds", "batch", "threads", "seed")
    }
    report = {
        "settings": settings,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "torch": str(torch.__version__)},
        "seconds": seconds,
        "cores_taken_by_others": share,
        "sizes": sizes,
        "rows": [row._asdict() for row in rows],
        "ratios": ratios,
    }
    last = json.loads(LAST.read_text(encoding="utf-8"))["ratios"] if LAST.is_file() and not options.quick else {}
    title = f"{len(task.labels)} crystals, {options.epochs} epochs, best of turns, {seconds:.0f} s"
    show(rows, last, f"{title}; other work took {share:.2f} cores")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.save:
        kept = {
            "settings": settings,
            "cores_taken_by_others": round(share, 2),
            "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
        }
        LAST.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
