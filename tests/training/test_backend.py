"""An optimiser works without PyTorch's compiler, to the bit, and whoever asks for the compiler gets it."""

import subprocess
import sys

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


def test_a_part_of_the_compiler_can_be_imported() -> None:
    code = (
        "from tltool.training.backend import leave_out_compiler\nleave_out_compiler()\n"
        "import torch._dynamo.config\nimport torch\nassert torch._dynamo.config.recompile_limit"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
