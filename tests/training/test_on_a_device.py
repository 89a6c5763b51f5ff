"""A step on a device that is not the CPU: nothing of it may lie on, come from or go to the host.

There is no such device here. One that is only a name, with tensors that have a shape and a type but no values, is
enough: a step that mixes it with the CPU, or asks it for a value, raises. It is registered for a whole process, so
these steps have one of their own.
"""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import fresh_model, graph_settings_of
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tltool.data import store
from tltool.data.batches import padded, tensor_table
from tltool.data.batches.padded import Padded
from tltool.data.batches.tensor_table import Table
from tltool.data.dataset import BUNDLED
from tltool.data.graph import crystal_graphs
from tltool.model.kernels import install
from tltool.training import loss
from tltool.training.ema import Average, follow
from tltool.training.single_fit import clipped

pytestmark = pytest.mark.slow


class NoHost(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        seen = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
        if any(t.device.type == "cpu" for t in seen):
            raise RuntimeError(f"the host takes part in {func}")
        return out


def step(encoder: str, spoilt: str, mode: Any) -> str:
    """Take a step with tensors of the fake ``mode``; return the device of its error."""
    from torch._subclasses.fake_tensor import FakeTensor

    def moved(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else FakeTensor(mode, tensor.detach().to("meta"), torch.device("nowhere", 0))

    def moved_table(table: Table) -> Table:
        own = {f.name: moved(getattr(table, f.name)) for f in fields(table) if f.name != "line"}
        return replace(table, **own, line=None if table.line is None else moved_table(table.line))

    demo = store.load(BUNDLED / "demo.h5")
    crystals = [demo.crystal(row) for row in range(0, 3000, 200)]
    table = tensor_table.table(crystal_graphs.build(crystals, graph_settings_of(encoder)))
    source = Padded(padded.closed(table), padded.rooms(padded.counts(table), 8)[-1])
    source = replace(source, table=moved_table(source.table))
    model = fresh_model(encoder=encoder).train()
    install.choose("torch").install(model)
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            module._parameters[name] = None if parameter is None else nn.Parameter(moved(parameter))
        for name, buffer in list(module._buffers.items()):
            module._buffers[name] = moved(buffer)
    rows, goals = moved(torch.zeros(9, dtype=torch.int64)), moved(torch.zeros(9, 1))
    with mode, NoHost():
        values = model.values(model.embed(source.select(rows)))
        if spoilt == "number":
            values = values * torch.tensor(2.0)
        if spoilt == "value" and values.sum() > 0:
            values = -values
        error = loss.loss("huber", values, goals)
        parameters = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(error, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        clipped([p.grad for p in parameters if p.grad is not None], 1.0)
        optimiser = torch.optim.AdamW(parameters, fused=True)
        schedule = OneCycleLR(optimiser, 0.1, total_steps=9)
        optimiser.step()
        schedule.step()
        others = [p.detach().clone() for p in parameters]
        follow(Average(model, others, [p.detach() for p in parameters]), 0.9)
    return str(error.device)


def steps(cases: list[str]) -> None:
    """Register the device, and print what becomes of each step."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    warnings.simplefilter("ignore")
    backend_registration._setup_privateuseone_for_python_backend("nowhere")
    mode = FakeTensorMode()
    for case in cases:
        try:
            said = step(*case.split("-"), mode)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        print(json.dumps([case, said]))


needs_a_name = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"), reason="this PyTorch has no way to it"
)

GOOD = ("cgcnn-no", "megnet-no", "alignn-no")
SPOILT = {"cgcnn-number": "the host takes part", "cgcnn-value": "DataDependentOutput"}


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """What became of each step: the device of its error, or why it failed."""
    cases = [*GOOD, *SPOILT]
    # No fork: PyTorch has counted its devices when it first computes gradients.
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, (here.parents[1], here.parent, here)))
    command = [sys.executable, "-W", "ignore", "-c", f"import {Path(__file__).stem} as own; own.steps({cases})"]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


@needs_a_name
@pytest.mark.parametrize("case", GOOD)
def test_the_host_takes_no_part_in_a_padded_step(said: dict[str, str], case: str) -> None:
    assert said[case] == "nowhere:0"


@needs_a_name
@pytest.mark.parametrize("case", SPOILT)
def test_what_the_host_takes_part_in_is_seen(said: dict[str, str], case: str) -> None:
    assert SPOILT[case] in said[case]
