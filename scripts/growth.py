"""How cost grows with the data set: bundled crystals at other volumes, prepared and trained on for one epoch.

Each size runs in a process of its own, so that its peak memory is its own. Prints a table and the exponents fitted to
the times: 1 is linear in the number of edges.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tltool.data.batches import batches
from tltool.data.record import Record

HERE = Path(__file__).parent
SHARD = 20_000


def read(root: Path, /) -> Iterator[Record]:
    """Yield the crystals numbered as the file ``root`` says, every one at a volume of its own."""
    from tltool.data import store
    from tltool.data.download.locate import BUNDLED

    demo = store.load(BUNDLED / "demo.h5")
    begin, end = json.loads(root.read_text(encoding="utf-8"))
    for number in range(begin, end):
        record = demo.record(number % len(demo))
        # An even strain keeps the symmetry, and so the cost, of the crystal.
        strain = 1 + 0.03 * np.sin(number)
        crystal = record.crystal._replace(lattice=record.crystal.lattice * strain)
        yield Record(f"c{number}", crystal, {"e_form": record.labels["e_form"]})


def one(count: int, workers: int, batch: int, folder: Path) -> dict[str, float]:
    """Prepare ``count`` crystals, train on them for one epoch, and return seconds and peak memory in MB."""
    import torch

    from tltool.data import dataset, splits
    from tltool.data.graph.crystal_graphs import GraphSettings
    from tltool.model.encoders.cgcnn import CGCNN
    from tltool.model.layers.mlp import Trunk
    from tltool.model.property_model import PropertyModel
    from tltool.model.readouts.pool import Pool
    from tltool.model.surgery.edit import new_heads
    from tltool.training import backend
    from tltool.training.fit import Fit, Settings, train
    from tltool.training.scaled_labels import scalers

    torch.set_num_threads(1)
    # As the command line does it: where there is no compiler, this measures plain PyTorch.
    chosen = backend.choose("auto", "cpu", "auto", lambda text: print(text, file=sys.stderr))
    (folder / "in").mkdir()
    for begin in range(0, count, SHARD):
        place = folder / "in" / f"{begin:08d}.shard"
        place.write_text(json.dumps([begin, min(begin + SHARD, count)]), encoding="utf-8")
    description = {
        "name": "growth",
        "root": str(folder / "in"),
        "pattern": "*.shard",
        "adapter": {"_target_": "growth.read"},
    }
    graph_settings = GraphSettings(cutoff=8.0, max_neighbours=12, shells="shared", quotient=True)
    began = time.perf_counter()
    data = dataset.opened(
        description, graph_settings, dataset.Means(folder / "cache", ["growth"], workers, lambda text: None)
    )
    prepared = time.perf_counter() - began
    labels = data.store.label("e_form")
    split = splits.random(data.store, labels, seed=0, draw=None, val=0.01, test=0.01, train_size=None)
    cut = batches.batches(data, ["e_form"], split)
    model = PropertyModel(
        CGCNN(dim=64, blocks=3, n_basis=41, basis_stop=8.0, elements="descriptors"),
        Pool(64, 4, levels=[-1], statistics=["mean"]),
        Trunk(64, width=128, depth=1, dropout=0.0),
        {},
        {},
        {},
    )
    began = time.perf_counter()
    new_heads(model, scalers(cut, reference=False, scale="linear"))
    settings = Settings(
        epochs=1, batch_size=batch, loss="l1", schedule="constant", period=None, warmup=0.0, clip=None,
        patience=None, select="last", ema=0.0, mixed_precision=False, cuda_graphs=False, reference=False,
        scale="linear", weights=None, loss_balance="mean",
    )  # fmt: skip
    events: list[dict[str, float]] = []
    optimiser = Fit(
        settings,
        lambda groups: torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.01, fused=True),
        1e-3,
        0,
        events.append,
        chosen,
    )
    train(model, cut, optimiser)
    whole = time.perf_counter() - began
    largest = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "crystals": count,
        "edges": len(data.graphs.neighbour),
        "prepare": prepared,
        "epoch": events[0]["seconds"],
        "start": whole - events[0]["seconds"],
        "peak": largest[0],
        "peak_worker": largest[1],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run every size, print the table and the exponents."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="[1000 10000 100000]")
    parser.add_argument("--workers", type=int, default=2, help="processes that prepare [%(default)s]")
    parser.add_argument("--batch", type=int, default=256, help="crystals [%(default)s]")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.one:
        with tempfile.TemporaryDirectory() as name:
            print(json.dumps(one(options.one, options.workers, options.batch, Path(name))))
        return
    rows = []
    for size in options.sizes:
        command = [sys.executable, str(HERE / "growth.py"), "--one", str(size), "--workers", str(options.workers),
                   "--batch", str(options.batch)]  # fmt: skip
        environment = os.environ | {"PYTHONPATH": str(HERE)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        row = json.loads(done.stdout.splitlines()[-1])
        rows.append(row)
        print(
            f"{row['crystals']:>9,} crystals, {row['edges']:>11,} edges: prepare {row['prepare']:8.1f} s, epoch "
            f"{row['epoch']:8.2f} s, before it {row['start']:6.1f} s, peak {row['peak']:6,.0f} MB "
            f"(workers {row['peak_worker']:,.0f} MB)",
            flush=True,
        )
    if len(rows) > 1:
        edges = np.log([row["edges"] for row in rows])
        for name in ("prepare", "epoch"):
            exponent = np.polyfit(edges, np.log([row[name] for row in rows]), 1)[0]
            print(f"{name}: time grows as edges to the power {exponent:.2f}")


if __name__ == "__main__":
    main()
