"""The speed and the memory of every encoder but CGCNN: each, at its defaults, beside the published CGCNN method.

The published method is only the measure: a ratio to it is the same on a quick machine and on a slow one, so that one
that fell says that the encoder became slower. What its peers do is measured by ``make peers``. The two sides take
turns, and best turns are compared.
"""

from argparse import Namespace
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from bench.rows import Row, faster, smaller
from bench.sides import Ours, Published
from bench.tasks import ROOT, Task, task_of
from bench.workers import Ask, worker

SIZE = 64
BATCHES = {"alignn": 1}  # of a turn; of the others as many as there are crystals for
TURNS = 2
MEGABYTES = 1000.0  # so much a ratio of 1 stands for: memory is no matter of speed


class Encoder(Ours):
    """An encoder of ``configs/encoder`` with all its defaults in place of CGCNN."""

    def __init__(self, name: str, task: Task) -> None:
        from hydra import compose, initialize_config_module
        from omegaconf import OmegaConf

        from tltool.data.graph.crystal_graphs import GraphSettings

        super().__init__(task)
        with initialize_config_module("tltool.configs", version_base="1.3"):
            composed = compose("pretrain", overrides=[f"encoder={name}", "data=demo"])
        OmegaConf.resolve(composed)
        config: Any = OmegaConf.to_container(composed)
        self.spec = {part: config[part] for part in ("encoder", "readout", "trunk")}
        self.graph_settings = {"shared": GraphSettings(**config["graph"])}  # what training cuts its batches from

    def use_threads(self, count: int) -> None:
        """Give them to PyTorch, and to the compiled kernels."""
        torch.set_num_threads(count)
        if self.backend.kernels and self.backend.kernels.cpp:
            self.backend.kernels.cpp.wanted = count

    def network(self) -> nn.Module:
        """Return the model that ``tltool pretrain`` would train."""
        from tltool.model.scaler import composition, fit_scaler
        from tltool.training.saved_model import checkpoint

        model = checkpoint.build(self.spec | {"quantities": {"e_form": {"unit": "eV/atom"}}})
        fractions = composition(self.table.select(self.train))
        scaler = fit_scaler(self.labels[self.train, 0], fractions, reference=False, logarithmic=False)
        model.scalers = nn.ModuleDict({"e_form": scaler})
        with torch.no_grad():
            self.goals = model.targets(self.labels, self.table.select(torch.arange(len(self.labels))))
        return model


def every() -> list[str]:
    """Return the encoders of ``configs/encoder`` but CGCNN."""
    files: Iterable[Any] = (ROOT / "configs" / "encoder").glob("*.yaml")
    return sorted(file.stem for file in files if file.stem != "cgcnn")


def names(options: Namespace) -> list[str]:
    """Return the names of the rows."""
    return [f"{what} {name}" for name in options.encoders for what in ("training", "peak memory")]


def rows(options: Namespace) -> Iterator[Row]:
    """Yield the speed and the memory of each encoder."""
    task = task_of(options.store, options.encoder_crystals, 1, 0)
    with worker(Published, task) as published:
        _begin(published)
        for name in options.encoders:
            fewer = task._replace(train=task.train[: BATCHES.get(name, len(task.train)) * SIZE])
            with worker(partial(Encoder, name), fewer) as ours:
                _begin(ours)
                turns = [
                    ((published("epoch", n), n), (ours("epoch", n), n)) for n in options.threads for _ in range(TURNS)
                ]
                theirs, mine = zip(*turns, strict=True)
                yield faster(f"training {name}", "structures/s", max(theirs), max(mine))
                yield smaller(f"peak memory {name}", "MB", MEGABYTES, ours("peak"))


def _begin(side: Ask) -> None:
    """Let ``side`` make its graphs and its network, and train it once, so that later epochs are alike."""
    side("load")
    side("begin", SIZE, 1_000, 0)
    side("epoch", 1)
