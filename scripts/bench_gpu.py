"""Check and measure training on a GPU: one script, under eight minutes, no DGL.

    python scripts/bench_gpu.py                  checks, then a table of structures/s
    python scripts/bench_gpu.py --check          checks only; on a machine without CUDA, what a CPU can check
    python scripts/bench_gpu.py --save FILE      write the graphs to FILE, for a machine without pymatgen
    python scripts/bench_gpu.py --graphs FILE    take them from there

It needs torch, numpy, h5py, requests and tltool's own folder (``PYTHONPATH=.``); triton for its kernels, pymatgen to
make graphs. Crystals are the bundled ones, repeated to an epoch long enough to time. Times are of whole epochs of
``training.fit.train``, the optimiser and the running average of the weights included, and end when the device is done.
Bytes moved are what the operations of one step read and write: of a gather what is gathered, of the Triton gate what
its programs load and store. Their share of the device's bandwidth, which a copy measures, is an upper bound of what
reached memory, since tables this small stay in its cache.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tltool.crystal_graph import Graph
from tltool.data import store
from tltool.data.batches import padded, tensor_table
from tltool.data.batches.batches import Batches
from tltool.data.batches.padded import Padded
from tltool.data.graph import crystal_graphs
from tltool.model.encoders.alignn import ALIGNN
from tltool.model.encoders.cgcnn import CGCNN
from tltool.model.encoders.megnet import MEGNet
from tltool.model.kernels import cgcnn_gate, install
from tltool.model.layers.mlp import Trunk
from tltool.model.norm import WeightedBatchNorm
from tltool.model.property_model import PropertyModel
from tltool.model.readouts.pool import Pool
from tltool.training import cuda_graphs, fit, loss, scaled_labels, single_fit
from tltool.training.backend import Backend
from tltool.training.settings import Epoch

DEMO = Path(__file__).parents[1] / "tltool" / "data" / "bundled" / "demo.h5"
RECIPES = {
    "cgcnn": crystal_graphs.GraphSettings(cutoff=8.0, max_neighbours=12, shells="shared", quotient=True),
    "alignn": crystal_graphs.GraphSettings(cutoff=8.0, max_neighbours=12, shells="mutual", quotient=True, angles=True),
}
RECIPES["megnet"] = RECIPES["cgcnn"]
ROWS = {"cgcnn": 65_536, "megnet": 65_536, "alignn": 8_192}
MARKS = {("cgcnn", 256): 150_000, ("alignn", 64): 5_000, ("alignn", 256): 5_000, ("alignn", 512): 5_000}
"""Structures/s to reach on one H100: of CGCNN, and of ALIGNN at its best batch."""
_GATHERS = ("aten::index", "aten::index_select", "aten::embedding", "aten::gather")


class Line(NamedTuple):
    """One way to train: ``kernels`` as in ``tltool.model``, ``half`` for bfloat16, ``graphs`` for CUDA graphs."""

    encoder: str
    batch: int
    kernels: str
    half: bool
    graphs: bool


LINES = [
    Line("cgcnn", 256, "triton", False, True),
    Line("alignn", 64, "torch", False, True),
    Line("alignn", 256, "torch", False, True),
    Line("cgcnn", 64, "triton", False, True),
    Line("cgcnn", 1024, "triton", False, True),
    Line("megnet", 256, "torch", False, True),
    Line("alignn", 512, "torch", False, True),
    Line("alignn", 256, "torch", True, True),
    Line("cgcnn", 256, "triton", True, True),
    Line("megnet", 256, "torch", True, True),
    Line("cgcnn", 256, "torch", False, True),
    Line("cgcnn", 256, "torch", False, False),
    Line("alignn", 64, "torch", False, False),
]


def tables(count: int, encoders: list[str]) -> tuple[dict[str, crystal_graphs.GraphTable], Tensor]:
    """Return the graphs of ``count`` bundled crystals, of 200 to 1,000 with angles, and their e_form (n, 1)."""
    demo = store.load(DEMO)
    crystals = [demo.crystal(row) for row in range(0, len(demo), len(demo) // count)][:count]
    labels = torch.from_numpy(demo.label("e_form"))[:: len(demo) // count][:count, None].float()
    made = {
        name: crystal_graphs.build(crystals[: 1000 if name == "alignn" else None], RECIPES[name]) for name in encoders
    }
    return made, labels


def saved(path: Path, made: dict[str, crystal_graphs.GraphTable], labels: Tensor) -> None:
    """Write graphs and labels to ``path`` as .npz."""
    arrays = {f"{name}/{key}": values for name, table in made.items() for key, values in table.arrays().items()}
    np.savez_compressed(path, labels=labels.numpy(), **arrays)  # type: ignore[arg-type]


def read(path: Path) -> tuple[dict[str, crystal_graphs.GraphTable], Tensor]:
    """Return what ``saved`` wrote."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    labels = torch.from_numpy(arrays.pop("labels"))
    parts: dict[str, dict[str, Any]] = {}
    for name, values in arrays.items():
        encoder, key = name.split("/")
        parts.setdefault(encoder, {})[key] = values
    return {name: crystal_graphs.from_arrays(own) for name, own in parts.items()}, labels


def data_of(table: crystal_graphs.GraphTable, labels: Tensor, rows: int, device: torch.device) -> Batches:
    """Return the crystals of ``table``, repeated to so many ``rows``, all to train on."""
    every = torch.arange(rows) % len(table)
    none = every[:0]
    split = {"train": every, "val": none, "test": none}
    return Batches(tensor_table.table(table), labels[: len(table)], ("e_form",), split).to(device)


def model_of(encoder: str, data: Batches, dim: int | None = None) -> PropertyModel:
    """Return a fresh CGCNN or MEGNet of the published size, or ALIGNN with 4 + 4 blocks of 256 features."""
    torch.manual_seed(0)
    network: nn.Module
    if encoder == "cgcnn":
        network = CGCNN(dim=dim or 64, blocks=3, n_basis=41, basis_stop=8.0, elements="descriptors")
    elif encoder == "megnet":
        network = MEGNet(
            dim=dim or 32, hidden=64, blocks=3, n_basis=100, basis_stop=6.0, basis_width=0.5, element_dim=16,
            elements="descriptors", state_inputs=0,
        )  # fmt: skip
    else:
        network = ALIGNN(
            dim=dim or 256, line_blocks=4, blocks=4, n_basis=80, basis_stop=8.0, n_angles=40, width=64,
            elements="descriptors",
        )  # fmt: skip
    readout = Pool(network.dim, network.n_levels, levels=[-1], statistics=["mean"])
    trunk = Trunk(readout.dim, width=128, depth=1, dropout=0.0)
    model = PropertyModel(
        network, readout, trunk, {"e_form": nn.Linear(128, 1)}, scaled_labels.scalers(data, False, "linear"), {}
    )
    return model.to(data.labels.device)


def a_fit(line: Line, epochs: int, events: list[dict[str, Any]], device: torch.device) -> fit.Fit:
    """Return a fit as ``tltool pretrain`` has it, of so many ``epochs``."""
    settings = fit.Settings(
        epochs=epochs, batch_size=line.batch, loss="l1", schedule="onecycle", period=None, warmup=0.3, clip=1.0,
        patience=None, select="last", ema=0.99, mixed_precision=line.half, cuda_graphs=line.graphs, reference=False,
        scale="linear", weights=None, loss_balance="mean",
    )  # fmt: skip
    chosen = Backend(device, install.choose(line.kernels, device))
    return fit.Fit(
        settings, lambda g: torch.optim.AdamW(g, weight_decay=0.01, fused=True), 4e-3, 0, events.append, chosen
    )


def trained(line: Line, data: Batches, epochs: int, dim: int | None = None) -> list[dict[str, Any]]:
    """Train a fresh model as ``line`` says and return what was logged; what was said is printed."""
    events: list[dict[str, Any]] = []
    fit.train(model_of(line.encoder, data, dim), data, a_fit(line, epochs, events, data.labels.device))
    for event in events:
        if event["event"] == "say":
            print(event["text"], file=sys.stderr)
    return events


@contextmanager
def way(through: cuda_graphs.Way | None) -> Iterator[None]:
    """Let steps go ``through`` this way."""
    was = cuda_graphs.way
    cuda_graphs.way = lambda device: through
    try:
        yield
    finally:
        cuda_graphs.way = was


@contextmanager
def around(wrapped: Callable[[Epoch], Epoch]) -> Iterator[None]:
    """Let every epoch go as ``wrapped`` makes it."""
    was = single_fit.passes
    single_fit.passes = lambda *given: wrapped(was(*given))
    try:
        yield
    finally:
        single_fit.passes = was


def watched(plain: Epoch) -> Epoch:
    """Return ``plain`` such that it raises RuntimeError where an epoch, the first excepted, waits for the device."""
    first = True

    def epoch(order: torch.Generator, done: int) -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal first
        torch.cuda.set_sync_debug_mode("default" if first else "error")
        try:
            yield from plain(order, done)
        finally:
            torch.cuda.set_sync_debug_mode("default")
            first = False

    return epoch


def as_it_is(step: cuda_graphs.Step, parameters: Any, say: Any) -> cuda_graphs.Step:
    """Return ``step``: the way of padded batches without CUDA graphs."""
    return step


def losses(line: Line, data: Batches, dim: int) -> list[float]:
    """Return the loss of three epochs of training."""
    return [event["train_loss"] for event in trained(line, data, 3, dim) if event["event"] == "epoch"]


def padded_is_plain(encoder: str, data: Batches, dim: int) -> str:
    """Compare losses of three epochs, padded and not."""
    line = Line(encoder, 16, "torch", False, True)
    with way(None):
        plain = losses(line, data, dim)
    with way(as_it_is):
        return near(losses(line, data, dim), plain)


def captured_is_eager(encoder: str, data: Batches, dim: int) -> str:
    """Compare losses of three epochs, through CUDA graphs and not; nothing may have failed to be captured."""
    line = Line(encoder, 16, "torch", False, True)
    with way(as_it_is):
        plain = losses(line, data, dim)
    graphed = trained(line, data, 3, dim)
    said = [event["text"] for event in graphed if event["event"] == "say"]
    if said:
        raise AssertionError(said[0])
    return near([event["train_loss"] for event in graphed if event["event"] == "epoch"], plain)


def triton_is_plain(data: Batches) -> str:
    """Compare the gate of a padded batch and its gradients, with Triton's kernels and without."""
    device = data.labels.device
    source = Padded(padded.closed(data.table), padded.rooms(padded.counts(data.table), 16)[-1])
    graph = source.select(torch.cat([torch.arange(16), torch.tensor([len(data.table)])]).to(device))
    torch.manual_seed(0)
    sizes = graph.n_nodes, graph.n_nodes, len(graph.distance)
    a, b, c = (torch.randn(n, 128, device=device, requires_grad=True) for n in sizes)
    found = []
    for name in ("torch", "triton"):
        norm = WeightedBatchNorm(128).to(device)
        out = cgcnn_gate.gated_sum(graph, a, b, c, norm, triton=name == "triton")
        slopes = torch.autograd.grad(out.square().sum(), [a, b, c, norm.scale, norm.bias])
        found.append([out, *slopes, norm.variance])
    off = max(float((x - y).abs().max() / y.abs().max()) for x, y in zip(*found, strict=True))
    if off > 1e-4:
        raise AssertionError(f"off by {off:.1e} of the largest value")
    return f"largest difference {off:.1e} of the largest value"


def nothing_waits(encoder: str, data: Batches, dim: int) -> str:
    """Train with every wait for the device an error; on the CPU, take a step with tensors that have no values."""
    if data.labels.is_cuda:
        with around(watched):
            trained(Line(encoder, 16, "torch", True, True), data, 3, dim)
        return "three epochs"
    from torch._subclasses.fake_tensor import FakeTensorMode

    source = Padded(padded.closed(data.table), padded.rooms(padded.counts(data.table), 16)[-1])
    model = model_of(encoder, data, dim).train()
    install.choose("torch").install(model)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        rows = mode.from_tensor(torch.arange(source.room.crystals))
        error = loss.loss("l1", model.values(model.embed(source.select(rows))), data.labels[rows])
        torch.autograd.grad(error, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    return "a step forward and backward, without values"


def near(found: list[float], expected: list[float]) -> str:
    """Return how far ``found`` is from ``expected``; raise AssertionError above 1e-5 in the first epoch, 2e-2 later.

    A GPU adds up in no fixed order, and training amplifies that: two ordinary runs of MEGNet differ by 4e-7 of the loss
    in the first epoch, and by 6e-3 in the third.
    """
    off = [abs(a - b) / b for a, b in zip(found, expected, strict=True)]
    if off[0] > 1e-5 or max(off) > 2e-2:
        raise AssertionError(f"losses {found}, but {expected}")
    return f"loss of the first epoch to {off[0]:.1e}, of three to {max(off):.1e}"


def checks(made: dict[str, crystal_graphs.GraphTable], labels: Tensor, device: torch.device) -> bool:
    """Run and print all checks that ``device`` allows; return whether they held."""
    held = True

    def check(name: str, run: Callable[[], str]) -> None:
        nonlocal held
        try:
            print(f"{name:34s} yes: {run()}")
        except Exception as error:  # whatever fails, the others are worth knowing
            held = False
            print(f"{name:34s} NO: {str(error).splitlines()[0] if str(error) else type(error).__name__}")

    for name, table in made.items():
        data, dim = data_of(table, labels, min(len(table), 200), device), 64 if name == "cgcnn" else 32
        check(f"{name}: padded equals plain", lambda n=name, d=data, f=dim: padded_is_plain(n, d, f))  # type: ignore[misc]
        check(f"{name}: nothing in an epoch waits", lambda n=name, d=data, f=dim: nothing_waits(n, d, f))  # type: ignore[misc]
        if device.type == "cuda":
            check(f"{name}: captured equals eager", lambda n=name, d=data, f=dim: captured_is_eager(n, d, f))  # type: ignore[misc]
            if name == "cgcnn":
                check("cgcnn: Triton's gate equals plain", lambda d=data: triton_is_plain(d))  # type: ignore[misc]
    return held


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that compute, and the bytes that they read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func`` and count it, unless it only looks at its input in another way."""
        out = func(*args, **(kwargs or {}))
        given = {id(t): t for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor)}
        made = {id(t): t for t in tree_leaves(out) if isinstance(t, Tensor)}
        name = func._schema.name
        written = [a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments]
        storages = {t.untyped_storage().data_ptr() for t in given.values()}
        views = made and not any(written) and all(t.untyped_storage().data_ptr() in storages for t in made.values())
        if views or name in ("aten::empty", "aten::empty_like", "aten::new_empty"):
            return out
        self.operations += 1
        if name in _GATHERS:
            self.bytes += 2 * sum(t.nbytes for t in made.values())
        else:
            changed = [t for a, w in zip(args, written, strict=False) if w for t in tree_leaves(a)]
            fresh = [t for key, t in made.items() if key not in given]
            self.bytes += sum(t.nbytes for t in [*given.values(), *fresh, *changed] if isinstance(t, Tensor))
        return out


def bytes_of_step(line: Line, data: Batches) -> tuple[int, int]:
    """Return the bytes that a step moves, the optimiser and the running average included, and its operations."""
    rows = data.split["train"][: line.batch]
    few = replace(data, split=dict(data.split) | {"train": rows})
    counted: list[tuple[int, int]] = []

    def counting(plain: Epoch) -> Epoch:
        def epoch(order: torch.Generator, done: int) -> Iterator[tuple[Tensor, Tensor]]:
            with Counter() as count:
                yield from plain(order, done)
            counted.append((count.bytes, count.operations))

        return epoch

    with way(as_it_is), around(counting):
        trained(line, few, 2)
    total, operations = counted[-1]
    if line.encoder == "cgcnn" and line.kernels == "triton":
        total += 3 * bytes_of_gate(few.graph("train"), 128)
    return total, operations


def bytes_of_gate(graph: Graph, width: int) -> int:
    """Return what Triton's programs load and store in one gate, both ways: four passes over the edges."""
    n, e = graph.n_nodes, len(graph.neighbour)
    tables, indices = 4 * (n * width + 2 * e * width), e * (8 + 8 + 4 + 4) + n * 20
    return 4 * (tables + indices) + 4 * (n * width // 2 * 3 + n * width + 2 * 2 * e * width)


def bandwidth(device: torch.device) -> float:
    """Return bytes/s that a copy of 1 GiB reads and writes."""
    source = torch.empty(2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(10):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        target.copy_(source)
        end.record()
        end.synchronize()
        best = max(best, 2 * 2**30 / (begin.elapsed_time(end) / 1e3))
    return best


def timed(
    made: dict[str, crystal_graphs.GraphTable],
    labels: Tensor,
    device: torch.device,
    until: float,
    keep: Callable[[Any], None],
) -> None:
    """Time every line that there is time for, print the table and give ``keep`` all that is known after each line."""
    rate = bandwidth(device)
    name = torch.cuda.get_device_name(device)
    report: dict[str, Any] = {"device": name, "torch": torch.__version__, "bytes_per_s": rate, "rows": []}
    print(f"\n{name}, torch {torch.__version__}; a copy moves {rate / 1e12:.2f} TB/s\n")
    print(
        "encoder batch kernels precision graphs   structures/s      mark  us/step  operations   MB/step  of bandwidth"
        "  peak MB"
    )
    for line in LINES:
        if line.encoder not in made or time.perf_counter() > until:
            continue
        try:
            row = measured(line, made[line.encoder], labels, device)
        except Exception as error:  # one line that fails must not take the others along
            print(f"{line.encoder:7s} {line.batch:5d} {line.kernels:7s} failed: {str(error).splitlines()[:1]}")
            continue
        mark = MARKS.get((line.encoder, line.batch))
        print(
            f"{line.encoder:7s} {line.batch:5d} {line.kernels:7s} {'bfloat16' if line.half else 'float32':9s} "
            f"{'yes' if line.graphs else 'no':6s} {row['structures_per_s']:14,.0f} {f'{mark:,}' if mark else '-':>9s} "
            f"{row['s_per_step'] * 1e6:8.0f} {row['operations']:11d} {row['bytes'] / 1e6:9.1f} "
            f"{row['bytes'] / row['s_per_step'] / rate:12.1%} {row['peak_bytes'] / 1e6:9.0f}",
            flush=True,
        )
        report["rows"].append(row)
        keep(report)
    if time.perf_counter() < until:
        for size in (64, 256):
            speed = published(size, device)
            print(f"the published method of CGCNN, batch {size}: {speed:,.0f} structures/s", flush=True)
            report[f"published_{size}"] = speed
            keep(report)


def measured(line: Line, table: crystal_graphs.GraphTable, labels: Tensor, device: torch.device) -> dict[str, Any]:
    """Return what ``line`` reaches: its fastest of three epochs, what a step moves, and the largest memory in use."""
    data = data_of(table, labels, ROWS[line.encoder] // (1 if line.graphs else 4), device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds = [event["seconds"] for event in trained(line, data, 4) if event["event"] == "epoch"]
    peak = torch.cuda.max_memory_reserved() if device.type == "cuda" else 0
    moved, operations = bytes_of_step(line, data)
    count = len(data.split["train"])
    fastest = min(seconds[1:])
    return line._asdict() | {
        "structures_per_s": count / fastest,
        "s_per_step": fastest / -(-count // line.batch),
        "bytes": moved,
        "operations": operations,
        "peak_bytes": peak,
    }


def published(size: int, device: torch.device, crystals: int = 1000, epochs: int = 3) -> float:
    """Return structures/s of the published method's training, its graphs made and cached beforehand."""
    from bench import published_cgcnn
    from pymatgen.core.structure import Structure

    demo = store.load(DEMO)
    rows = range(0, len(demo), len(demo) // crystals)[:crystals]
    structures = [Structure(c.lattice, list(c.numbers), c.frac) for c in map(demo.crystal, rows)]
    data = published_cgcnn.Crystals(structures, demo.label("e_form")[list(rows)].tolist())
    torch.manual_seed(0)
    model = published_cgcnn.Network().to(device)
    optimiser = torch.optim.AdamW(model.parameters(), 4e-3, weight_decay=0.01, fused=True)
    fastest = float("inf")
    for _ in range(epochs):
        batches = published_cgcnn.loader(data, range(crystals), size, torch.Generator().manual_seed(0))
        began = time.perf_counter()
        for inputs, values in batches:
            atoms, gaussians, neighbours, sites = inputs
            there = published_cgcnn.Inputs(
                atoms.to(device), gaussians.to(device), neighbours.to(device), [own.to(device) for own in sites]
            )
            error = nn.functional.l1_loss(model(there), values.to(device))
            optimiser.zero_grad()
            error.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            error.item()
        fastest = min(fastest, time.perf_counter() - began)
    return crystals / fastest


def profiled(line: Line, table: crystal_graphs.GraphTable, labels: Tensor, device: torch.device) -> None:
    """Print where the device spends its time."""
    from torch.profiler import ProfilerActivity, profile

    data = data_of(table, labels, 32 * line.batch, device)
    trained(line, data, 2)
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        trained(line, data, 2)
    print(line)
    rows = sorted(seen.key_averages(), key=lambda row: -row.self_device_time_total)
    total = sum(row.self_device_time_total for row in rows)
    for row in rows[:16]:
        print(f"{row.self_device_time_total / total:6.1%} {row.count:6d} {row.key[:110]}")


def main(words: list[str] | None = None) -> int:
    """Run the script; return 1 if a check failed."""
    began = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="checks only, on few crystals")
    parser.add_argument("--save", type=Path, help="write the graphs and end")
    parser.add_argument("--graphs", type=Path, help="graphs that --save wrote")
    parser.add_argument("--json", type=Path, help="write the table here as well")
    parser.add_argument("--profile", action="store_true", help="also say where the device spends its time")
    parser.add_argument("--minutes", type=float, default=7.0, help="begin no further line after so long")
    given = parser.parse_args(words)
    made, labels = read(given.graphs) if given.graphs else tables(120 if given.check else 3938, list(RECIPES))
    if given.save:
        saved(given.save, made, labels)
        return 0
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    held = checks(made, labels, device)
    if device.type != "cuda":
        print("There is no CUDA device here, so nothing was timed, captured or run in Triton.")
    elif not given.check:

        def keep(report: dict[str, Any]) -> None:
            if given.json:
                given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

        timed(made, labels, device, began + 60 * given.minutes, keep)
        for line in LINES[:2] if given.profile else ():
            profiled(line, made[line.encoder], labels, device)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
