"""Guard the speed and the memory of every encoder but CGCNN: each, at its defaults, beside the published CGCNN method.

The published method is only the measure: a ratio to it is the same on a quick machine and on a slow one, so that one
that fell says that the encoder became slower. What its peers do is measured by ``make peers``. The two sides take turns
in processes of their own, each at the thread count that suits it best, and best turns are compared.
``bench_encoders_last.json`` holds the ratios that were last worth keeping (``--save``).
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import bench
import torch
from torch import nn

LAST = bench.HERE / "bench_encoders_last.json"
SIZE = 64
BATCHES = {"alignn": 2, "alignn_small": 8}  # of a turn; of the others as many as there are crystals for
MEGABYTES = 1000.0  # so much a ratio of 1 stands for: memory is no matter of speed


class Encoder(bench.Ours):
    """An encoder of ``configs/encoder`` with all its defaults in place of CGCNN."""

    def __init__(self, name: str, task: bench.Task) -> None:
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

        model = checkpoint.build(self.spec | {"quantities": {"e_form": "eV/atom"}})
        fractions = composition(self.table.select(self.train))
        scaler = fit_scaler(self.labels[self.train, 0], fractions, reference=False, logarithmic=False)
        model.scalers = nn.ModuleDict({"e_form": scaler})
        with torch.no_grad():
            self.goals = model.targets(self.labels, self.table.select(torch.arange(len(self.labels))))
        return model


def measured(name: str, task: bench.Task, turns: int, threads: Sequence[int]) -> list[bench.Row]:
    """Return the rows of the table for the encoder ``name``."""
    count = min(BATCHES.get(name, 10_000) * SIZE, len(task.train))
    fewer = task._replace(train=task.train[:count])
    context = get_context("spawn")
    with (
        ProcessPoolExecutor(1, context, bench.start, (bench.Published, task)) as theirs,
        ProcessPoolExecutor(1, context, bench.start, (partial(Encoder, name), fewer)) as mine,
    ):
        sides = [partial(_ask, pool) for pool in (theirs, mine)]
        for side in sides:
            side("load")
            side("begin", SIZE, turns + 1, 0)
            side("epoch", 1)
        speeds: list[list[tuple[float, int]]] = [[], []]
        for k in range(turns):
            for side, found in zip(sides, speeds, strict=True):
                found.append((side("epoch", threads[k % len(threads)]), threads[k % len(threads)]))
        best, own = map(max, speeds)
        peak = sides[1]("peak")
    speed = bench.Row(f"training {name}", "structures/s", best[0], own[0], own[0] / best[0], (best[1], own[1]))
    return [speed, bench.Row(f"peak memory {name}", "MB", MEGABYTES, peak, MEGABYTES / peak)]


def _ask(pool: ProcessPoolExecutor, *wish: Any) -> Any:
    return pool.submit(bench.call, *wish).result()


def names() -> list[str]:
    """Return the encoders of ``configs/encoder`` but the one that ``bench.py`` measures."""
    files: Iterable[Any] = (bench.HERE.parent / "configs" / "encoder").glob("*.yaml")
    return sorted(file.stem for file in files if file.stem != "cgcnn")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every encoder, print the table and keep the ratios if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--encoders", nargs="+", choices=names(), default=names(), help="[all but cgcnn]")
    parser.add_argument("--crystals", type=int, default=800, help="how many of the bundled ones [%(default)s]")
    parser.add_argument("--turns", type=int, default=4, help="of each side [%(default)s]")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts taking turns [1 2]")
    parser.add_argument("--save", action="store_true", help=f"keep the ratios in {LAST.name}")
    options = parser.parse_args(argv)
    task = bench.task_of(bench.DEMO, options.crystals, 1, 0)
    last = json.loads(LAST.read_text(encoding="utf-8")) if LAST.is_file() else {}
    rows = [row for name in options.encoders for row in measured(name, task, options.turns, options.threads)]
    title = f"{options.crystals} crystals, batch {SIZE}, best of {options.turns} turns; published: CGCNN, and 1,000 MB"
    bench.show(rows, last, title)
    if options.save:
        kept = last | {row.name: float(f"{row.ratio:.3g}") for row in rows}
        LAST.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
