"""What every side does with its network: train on batches of the same crystals, and say how fast and in what memory.

Seconds are those of the one thread that works, so that other work on the machine counts as little as it can.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import crystals
import torch
import torch.nn.functional as F
from pymatgen.core.structure import Structure
from torch import Tensor, nn

Step = Callable[[Tensor], Tensor]
"""Row numbers (c,) of the crystals of a batch -> predictions (c,). It puts the batch together from finished graphs."""


def main(prepare: "Callable[[Path, list[Structure], str], tuple[Step, Iterable[nn.Parameter]]]", package: str) -> None:
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
    step, parameters = prepare(options.folder, structures, options.size)
    labels = torch.tensor(values, dtype=torch.float32)
    optimiser = torch.optim.AdamW(parameters, 1e-3, fused=True)
    speeds = []
    for _ in range(options.epochs):
        for rows in torch.arange(len(labels)).split(options.batch):  # type: ignore[no-untyped-call]
            began = time.process_time()
            loss = F.mse_loss(step(rows), labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            speeds.append(len(rows) / (time.process_time() - began))
    # The first batch pays for what is set up once.
    print(json.dumps({"speed": max(speeds[1:]), "peak": peak(), "version": version(package)}))


def peak() -> float:
    """Return the most memory that this process has held so far, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
