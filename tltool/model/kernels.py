"""The few message-passing operations that encoders use, each as a DGL call and as plain PyTorch.

``use`` chooses between them once per run. The two agree to 1e-6 (tests/model/test_kernels.py). On the CPU the
plain ones are faster on graphs of this size (docs/performance.md), and on a GPU they need no CUDA build of DGL, so
``auto`` takes them. Sizes as in ``fields``; f features.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tltool.errors import ConfigError
from tltool.fields import Graph

if TYPE_CHECKING:
    from dgl import DGLGraph

_dgl = False


def use(name: str) -> str:
    """Choose the kernels, ``auto``, ``dgl`` or ``torch``, for the whole process; return the choice made.

    Raises ConfigError for another name and where DGL does not import.
    """
    global _dgl
    if name not in ("auto", "dgl", "torch"):
        raise ConfigError(f"kernels={name} is not known; use auto, dgl or torch.")
    if name == "dgl":
        from tltool.dgl_door import load

        load()
    _dgl = name == "dgl"
    return chosen()


def chosen() -> str:
    """Return the kernels in use, ``dgl`` or ``torch``."""
    return "dgl" if _dgl else "torch"


def edge_sum(graph: Graph, at_receiver: Tensor, at_neighbour: Tensor, at_distance: Tensor) -> Tensor:
    """Return (e, f): for each edge the sum of its receiver's, its neighbour's and its distance's vector.

    ``at_receiver`` and ``at_neighbour`` (n, f), ``at_distance`` (d, f). A linear map of the three put side by side
    is this sum of three maps, each computed once per node or distance instead of once per edge.
    """
    of_distance = at_distance.index_select(0, graph.distance_index)
    if _dgl:
        return _ops().u_add_v(as_dgl(graph), at_neighbour, at_receiver) + of_distance  # type: ignore[no-any-return]
    pair = at_receiver.index_select(0, graph.receiver) + at_neighbour.index_select(0, graph.neighbour)
    return pair + of_distance


def neighbour_sum(graph: Graph, messages: Tensor) -> Tensor:
    """Return (n, f): the sum of ``messages`` (e, f) into each node, each counted as often as its edge stands for."""
    weighted = messages * graph.edge_multiplicity[:, None]
    if _dgl:
        return _ops().copy_e_sum(as_dgl(graph), weighted)  # type: ignore[no-any-return]
    return weighted.new_zeros(graph.n_nodes, weighted.shape[1]).index_add(0, graph.receiver, weighted)


def edge_softmax(graph: Graph, scores: Tensor) -> Tensor:
    """Return (e, f): softmax of ``scores`` over a node's neighbours, the share of one of those an edge stands for."""
    shifted = scores + graph.edge_multiplicity.log()[:, None]
    if _dgl:
        share = _ops().edge_softmax(as_dgl(graph), shifted)
    else:
        index = graph.receiver[:, None].expand_as(shifted)
        empty = shifted.new_full((graph.n_nodes, shifted.shape[1]), -torch.inf)
        top = empty.scatter_reduce(0, index, shifted.detach(), "amax")
        powers = (shifted - top.index_select(0, graph.receiver)).exp()
        total = powers.new_zeros(graph.n_nodes, powers.shape[1]).index_add(0, graph.receiver, powers)
        share = powers / total.index_select(0, graph.receiver)
    return share / graph.edge_multiplicity[:, None]  # type: ignore[no-any-return]


def crystal_mean(graph: Graph, sites: Tensor) -> Tensor:
    """Return (c, f): the mean of ``sites`` (n, f) over each crystal's sites, nodes weighted by multiplicity."""
    weighted = sites * graph.multiplicity[:, None]
    if _dgl:
        total = _ops().segment_reduce(graph.first_node.diff(), weighted, "sum")
    else:
        total = weighted.new_zeros(graph.n_crystals, weighted.shape[1]).index_add(0, graph.crystal, weighted)
    return total / graph.n_sites()[:, None]  # type: ignore[no-any-return]


def as_dgl(graph: Graph) -> "DGLGraph":
    """Return the batch as a DGL graph with the fields as node and edge data, made once per batch."""
    return graph.once("dgl", lambda: _make_dgl(graph))


def _make_dgl(graph: Graph) -> "DGLGraph":
    from tltool.dgl_door import load

    # DGL's sum over edges needs the edge numbers spelled out: with an empty list its CPU kernel stops.
    numbers = torch.arange(len(graph.neighbour), device=graph.neighbour.device)
    made = load().graph(("csc", (graph.first_edge, graph.neighbour, numbers)), num_nodes=graph.n_nodes)
    made.ndata["number"], made.ndata["multiplicity"] = graph.number, graph.multiplicity
    made.edata["edge_multiplicity"] = graph.edge_multiplicity
    made.edata["distance"] = graph.distance.index_select(0, graph.distance_index)
    return made


def _ops() -> Any:
    from tltool.dgl_door import load

    return load().ops
