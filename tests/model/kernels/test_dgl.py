import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from forks import fork
from needs import DGL
from support import QUOTIENT

from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.errors import ConfigError
from tltool.model.kernels import dgl


@DGL
def test_dgl_imports_in_a_fresh_process_and_writes_no_settings(tmp_path) -> None:
    code = (
        "from tltool.model.kernels.dgl import load; import torch; "
        "g = load().graph(([0, 1], [1, 0])); print(g.num_edges())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env={"HOME": str(tmp_path)}
    )
    assert done.stdout.strip() == "2", done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_plain_import_that_works_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dgl, "find_spec", lambda name: True)
    monkeypatch.setattr(dgl.importlib, "import_module", lambda name: "a working dgl")
    monkeypatch.setattr(dgl, "_fill", lambda: pytest.fail("filled without need"))
    assert dgl.load.__wrapped__() == "a working dgl"


def test_where_there_is_none_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dgl, "find_spec", lambda name: None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "dgl"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigError, match=r"^kernels=dgl needs DGL, which is not installed; use kernels=auto\."):
        dgl.load.__wrapped__()


def test_a_broken_dgl_names_the_way_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libdgl.so: wrong architecture")

    monkeypatch.setattr(dgl, "find_spec", lambda name: True)
    monkeypatch.setattr(dgl.importlib, "import_module", broken)
    monkeypatch.setattr(dgl, "_forget", lambda: None)
    monkeypatch.setattr(dgl, "_fill", lambda: None)
    with pytest.raises(ConfigError, match=r"libdgl\.so.*kernels=torch"):
        dgl.load.__wrapped__()


def test_warnings_about_its_source_do_not_end_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As after an installation that compiled nothing: Python compiles the package now, and warns of "\\P".
    for name in [name for name in sys.modules if name.partition(".")[0] == "dgl"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dgl", None)  # so that the stand-in is taken out again at the end
    monkeypatch.delitem(sys.modules, "dgl")
    (tmp_path / "dgl.py").write_text('"a sum, \\Phi"\nSTAND_IN = True\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(dgl, "_fill", lambda: pytest.fail("the first import did not work"))
    assert dgl.load.__wrapped__().STAND_IN


def test_training_needs_no_dgl(tmp_path) -> None:
    words = ["pretrain", "split.train_size=64", "fit.epochs=1", "runs=runs"]

    def work() -> int:
        for name in [name for name in sys.modules if name.split(".")[0] in ("dgl", "tltool")]:
            del sys.modules[name]
        sys.modules["dgl"] = None  # type: ignore[assignment]
        code: int = importlib.import_module("tltool.cli")._answer(words)
        return code

    process = fork(work, tmp_path)
    assert process.wait(timeout=240) == 0, process.said()
    assert list(tmp_path.glob("runs/pretrain/*/metrics.json")), process.said()


@pytest.fixture
def graph(crystals: list[Crystal]) -> Graph:
    return tensor_table.table(crystal_graphs.build(crystals[:9], QUOTIENT)).select(torch.arange(9))


@DGL
def test_the_dgl_graph_carries_the_fields(graph: Graph) -> None:
    made = dgl.as_dgl(graph)
    assert made is dgl.as_dgl(graph)
    assert made.num_nodes() == graph.n_nodes
    start, end = made.edges(order="eid")
    assert torch.equal(start, graph.neighbour)
    assert torch.equal(end, graph.receiver)
    assert torch.equal(made.ndata["number"], graph.number)
    assert torch.equal(made.edata["distance"], graph.distance[graph.distance_index])
