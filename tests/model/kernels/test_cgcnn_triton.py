"""The Triton kernels: equal to the plain gate in the interpreter, and machine code for an H100 comes out of them.

The interpreter has to be chosen before Triton is imported, so each test runs a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tltool.errors import ConfigError, ResourceError
from tltool.model.kernels import install

pytestmark = pytest.mark.slow

EQUAL = """
import torch
from support import QUOTIENT, FULL
from tltool.data import store
from tltool.data.batches import padded, tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.dataset import BUNDLED
from tltool.model.kernels import cgcnn_gate, install
from tltool.model.norm import WeightedBatchNorm

demo = store.load(BUNDLED / "demo.h5")
crystals = [demo.crystal(row) for row in (930, 1200, 1650)]
torch.set_default_dtype(torch.float64)
# The check before the first use, once; where it fails, plain PyTorch would be compared with itself below.
assert cgcnn_gate._triton_agrees(torch.device("cpu"), torch.float64, 6)
cgcnn_gate._triton_agrees = lambda *given: True
for graph_settings, features in ((QUOTIENT, 3), (FULL, 4)):
    table = tensor_table.table(crystal_graphs.build(crystals, graph_settings))
    n, e, d = padded.counts(table).sum(0)
    room = padded.Room(5, int(n) + 2, int(e) + 9, int(d) + 3)
    graph = padded.Padded(padded.closed(table), room).select(torch.tensor([0, 1, 2, 3, 3]))
    torch.manual_seed(0)
    sizes = graph.n_nodes, graph.n_nodes, len(graph.distance)
    parts = [torch.randn(size, 2 * features, requires_grad=True) for size in sizes]
    upstream = torch.randn(graph.n_nodes, features)
    results = []
    for name in ("torch", "triton"):
        assert install.choose(name).name == name
        torch.manual_seed(1)
        norm = WeightedBatchNorm(2 * features)
        with torch.no_grad():
            norm.scale.uniform_(0.5, 2)
            norm.bias.normal_()
        out = cgcnn_gate.gated_sum(graph, *parts, norm, triton=name == "triton")
        slopes = torch.autograd.grad(out, [*parts, norm.scale, norm.bias], upstream)
        results.append([out, *slopes, norm.mean, norm.variance])
    for plain, mine in zip(*results):
        torch.testing.assert_close(mine, plain, atol=1e-10, rtol=1e-10)
print("equal")
"""

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from tltool.model.kernels import cgcnn_triton_passes

kinds = dict.fromkeys(("first_edge", "neighbour", "distance"), "*i64") | {"n": "i32"}
for name in ("variance", "forward", "slopes", "backward"):
    kernel = getattr(cgcnn_triton_passes, name)
    signature = {p.name: "constexpr" if p.is_constexpr else kinds.get(p.name, "*fp32") for p in kernel.params}
    source = ASTSource(kernel, signature, {"F": 64, "BLOCK": 64, "EDGES": 8})
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 2})
    assert len(made.asm["cubin"]) > 1000
print("compiled")
"""


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Triton has no wheel for this system")


def run(code: str, folder: Path, **environment: str) -> str:
    root = Path(__file__).parents[3]
    paths = os.pathsep.join([str(root), str(root / "tests")])
    given = os.environ | {"PYTHONPATH": paths, "TRITON_CACHE_DIR": str(folder)} | environment
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=given, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@on_linux
def test_the_kernels_equal_the_plain_gate_with_padding(tmp_path: Path) -> None:
    assert run(EQUAL, tmp_path, TRITON_INTERPRET="1") == "equal"


@on_linux
def test_the_kernels_compile_for_an_h100(tmp_path: Path) -> None:
    assert run(COMPILED, tmp_path) == "compiled"


def test_triton_is_refused_where_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((ConfigError, ResourceError), match="kernels="):
        install.choose("triton")
    monkeypatch.setitem(sys.modules, "triton", None)
    for name in ("cgcnn_triton_passes", "cgcnn_triton"):
        monkeypatch.delitem(sys.modules, f"tltool.model.kernels.{name}", raising=False)
        monkeypatch.delattr(f"tltool.model.kernels.{name}", raising=False)
    with pytest.raises(ResourceError, match="cannot be imported"):
        install.choose("triton")
    said: list[str] = []
    assert install.choose("auto", torch.device("cuda"), None, said.append).name == "torch"
    assert len(said) == 1
