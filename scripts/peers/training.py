"""What every side does with its network: train on and predict the same crystals, and say how fast and in what memory.

Seconds are those of the one thread that works, so that other work on the machine counts as little as it can.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, TypeVar

import crystals
import torch
import torch.nn.functional as F
from pymatgen.core.structure import Structure
from torch import Tensor, nn

Step = Callable[[Tensor], Tensor]
"""Row numbers (c,) of the crystals of a batch -> predictions (c,). It puts the batch together from finished graphs."""

Made = TypeVar("Made")


class Side(NamedTuple):
    """A network: its ``step``, its ``modules``, and how many seconds the ``graphs`` of structures in memory took.

    ``graphs`` is None where they are made of files.
    """

    step: Step
    modules: Sequence[nn.Module]
    graphs: float | None


def timed(make: Callable[[], Made]) -> tuple[Made, float]:
    """Return what ``make`` returns, and the seconds of this thread that it took."""
    began = time.process_time()
    return make(), time.process_time() - began


def main(prepare: "Callable[[Path, list[Structure], str], Side]", package: str) -> None:
    """Train what ``prepare`` makes of the folder, its structures and the named size; print the result as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", default="published")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    structures, values = crystals.read(options.folder)
    side = prepare(options.folder, structures, options.size)
    parameters = [p for module in side.modules for p in module.parameters() if p.requires_grad]
    labels = torch.tensor(values, dtype=torch.float32)
    optimiser = torch.optim.AdamW(parameters, 1e-3, fused=True)
    batches = torch.arange(len(labels)).split(options.batch)  # type: ignore[no-untyped-call]
    speeds, predicted = [], []
    for _ in range(options.epochs):
        for rows in batches:
            began = time.process_time()
            loss = F.mse_loss(side.step(rows), labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            speeds.append(len(rows) / (time.process_time() - began))
    most = peak()
    for module in side.modules:
        module.eval()
    with torch.no_grad():
        for rows in batches:
            predicted.append(len(rows) / timed(lambda rows=rows: side.step(rows))[1])  # type: ignore[misc]
    # The first batch pays for what is set up once.
    found = {"speed": max(speeds[1:]), "prediction": max(predicted[1:]), "peak": most, "version": version(package)}
    print(json.dumps(found | {"graphs": side.graphs and len(labels) / side.graphs}))


def peak() -> float:
    """Return the most memory that this process has held so far, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
