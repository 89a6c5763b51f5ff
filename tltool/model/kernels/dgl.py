"""Compute the operations of ``model/message_passing.py`` with DGL's kernels, and import DGL, which is older than
torch.

On the CPU the plain operations are faster on graphs of this size (docs/performance_notes.md), and DGL's wheels on PyPI
have no CUDA. Sizes as in ``crystal_graph``; f features.

DGL 2.1.0 is its newest wheel for Linux on the package index. Its import needs ``setuptools.extern.packaging``, gone
from setuptools, and ``dgl.graphbolt``, whose compiled part exists for old torch only and which tltool does not use.
Where the plain import fails, both names are filled before the second try.
"""

import importlib
import os
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tltool.crystal_graph import Graph
from tltool.errors import ConfigError

if TYPE_CHECKING:
    from dgl import DGLGraph


@cache
def load() -> Any:
    """Return the ``dgl`` module; raise ConfigError, which recommends ``kernels=torch``, if it cannot be imported."""
    # Without this DGL writes a settings file into the home folder and prints about it.
    os.environ.setdefault("DGLBACKEND", "pytorch")
    if "dgl" not in sys.modules and find_spec("dgl") is None:
        raise ConfigError(
            "kernels=dgl needs DGL, which is not installed; use kernels=auto. DGL has wheels for Linux and Python 3.11 "
            "and 3.12 only (pip install dgl)."
        )
    try:
        return _imported()
    except Exception:  # DGL's import fails with several kinds of exception, by version
        _forget()
    _fill()
    try:
        return _imported()
    except Exception as error:
        _forget()
        raise ConfigError(
            f"DGL cannot be imported ({error}); use kernels=torch, or install the version of dgl in pyproject.toml."
        ) from error


def _imported() -> Any:
    # Python compiles DGL at its first import and warns of escape sequences such as "\P" in its docstrings. A user of
    # tltool can do nothing about them, and where warnings are errors they would end the import.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("dgl")


def _forget() -> None:
    for name in [n for n in sys.modules if n == "dgl" or n.startswith("dgl.")]:
        del sys.modules[name]


def _fill() -> None:
    import packaging.version

    extern = types.ModuleType("setuptools.extern")
    extern.packaging = packaging  # type: ignore[attr-defined]
    sys.modules.setdefault("setuptools.extern", extern)
    sys.modules.setdefault("setuptools.extern.packaging", packaging)
    sys.modules["dgl.graphbolt"] = types.ModuleType("dgl.graphbolt")


def as_dgl(graph: Graph) -> "DGLGraph":
    """Return the batch as a DGL graph with the fields as node and edge data, made once per batch."""
    return graph.once("dgl", lambda: _make_dgl(graph))


def pair_sum(graph: Graph, at_receiver: Tensor, at_neighbour: Tensor) -> Tensor:
    """Return (e, f): for each edge the sum of its receiver's and its neighbour's vector (n, f)."""
    return _ops().u_add_v(as_dgl(graph), at_neighbour, at_receiver)  # type: ignore[no-any-return]


def receiver_sum(graph: Graph, rows: Tensor) -> Tensor:
    """Return (n, f): the sum of ``rows`` (e, f) over the edges that end in each node."""
    return _ops().copy_e_sum(as_dgl(graph), rows)  # type: ignore[no-any-return]


def receiver_softmax(graph: Graph, scores: Tensor) -> Tensor:
    """Return (e, f): softmax of ``scores`` (e, f) over the edges that end in the same node."""
    return _ops().edge_softmax(as_dgl(graph), scores.contiguous())  # type: ignore[no-any-return]


def crystal_sum(graph: Graph, rows: Tensor) -> Tensor:
    """Return (c, ...): the sum of ``rows`` (n, ...) over each crystal's nodes."""
    return _ops().segment_reduce(graph.first_node.diff(), rows, "sum")  # type: ignore[no-any-return]


def crystal_edge_sum(graph: Graph, rows: Tensor) -> Tensor:
    """Return (c, f): the sum of ``rows`` (e, f) over each crystal's edges."""
    lengths = graph.first_edge[graph.first_node].diff()
    return _ops().segment_reduce(lengths, rows, "sum")  # type: ignore[no-any-return]


def operations() -> Mapping[str, Callable[..., Tensor]]:
    """Return all operations by name, for ``Graph.operations``; raise ConfigError if DGL cannot be imported."""
    load()
    every = (pair_sum, receiver_sum, receiver_softmax, crystal_sum, crystal_edge_sum)
    return {operation.__name__: operation for operation in every}


def _make_dgl(graph: Graph) -> "DGLGraph":
    # DGL's sum over edges needs the edge numbers spelled out: with an empty list its CPU kernel stops.
    numbers = torch.arange(len(graph.neighbour), device=graph.neighbour.device)
    made = load().graph(("csc", (graph.first_edge, graph.neighbour, numbers)), num_nodes=graph.n_nodes)
    made.ndata["number"], made.ndata["multiplicity"] = graph.number, graph.multiplicity
    made.edata["edge_multiplicity"] = graph.edge_multiplicity
    made.edata["distance"] = graph.distance.index_select(0, graph.distance_index)
    return made


def _ops() -> Any:
    return load().ops
