"""An optimiser works without PyTorch's compiler, to the bit, and whoever asks for the compiler gets it."""

import importlib
import subprocess
import sys
from pathlib import Path

import torch
from forks import fork

from tltool.training.backend import leave_out_compiler

CODE = """
import sys
import torch
from tltool.training.backend import leave_out_compiler

def trained():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimiser = torch.optim.AdamW([{"params": [p], "lr": 0.1} for p in model.parameters()])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=5)
    for _ in range(5):
        optimiser.zero_grad()
        model(torch.ones(2, 3)).sum().backward()
        optimiser.step()
        schedule.step()
    optimiser.load_state_dict(optimiser.state_dict())
    return model

leave_out_compiler()
without = trained()
assert not [name for name in sys.modules if name.startswith("torch._dynamo.")]
assert not hasattr(torch._dynamo, "__file__")

assert torch.compile(torch.sin, backend="eager")(torch.zeros(1)) == 0
real = sys.modules["torch._dynamo"]
assert real is torch._dynamo and real.__file__
leave_out_compiler()
assert torch._dynamo is real
assert torch.equal(trained().weight, without.weight)
"""


def test_the_compiler_is_imported_only_when_it_is_used() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True)


def test_a_part_of_the_compiler_can_be_imported(tmp_path: Path) -> None:
    """In a fork, with a package of two lines in place of the compiler, whose import takes seconds."""
    (tmp_path / "_dynamo").mkdir()
    (tmp_path / "_dynamo" / "__init__.py").write_text("")
    (tmp_path / "_dynamo" / "config.py").write_text("recompile_limit = 8\n")

    def work() -> None:
        for name in [name for name in sys.modules if name.startswith("torch._dynamo")]:
            del sys.modules[name]
        torch.__path__.insert(0, str(tmp_path))
        leave_out_compiler()
        assert not hasattr(torch._dynamo, "__file__")
        assert importlib.import_module("torch._dynamo.config").recompile_limit == 8
        assert torch._dynamo.__file__ == sys.modules["torch._dynamo"].__file__ == f"{tmp_path}/_dynamo/__init__.py"

    process = fork(work, tmp_path)
    said = process.communicate(timeout=60)
    assert process.returncode == 0, said
