"""The few message-passing operations that encoders use, each as a DGL call and as plain PyTorch.

``use`` chooses between them once per run. The two agree to 1e-6 (tests/model/test_message_passing.py). On the CPU the
plain ones are faster on such graphs (docs/performance_notes.md), and on a GPU they need no CUDA build of DGL, so
``auto`` does not take DGL. On the CPU it takes ``compiled``: the plain ones, and whole blocks in C++ for the encoders
that have them (``cgcnn_cpp.py``); on CUDA ``triton``: the plain ones, and the gate of CGCNN as kernels of that language
(``cgcnn_triton.py``). Sizes as in ``fields``; f features.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tltool.crystal_graph import Graph, or_one
from tltool.errors import ConfigError, ResourceError
from tltool.model.kernels import cgcnn_cpp, cpp_library, rows_cpp, self_check

if TYPE_CHECKING:
    from dgl import DGLGraph

NAMES = ("compiled", "dgl", "torch", "triton")
_CPU = torch.device("cpu")
_chosen = "torch"


def use(
    name: str,
    /,
    device: torch.device = _CPU,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> str:
    """Choose the kernels, ``auto`` or one of ``NAMES``, for the whole process; return the choice made.

    What has to be compiled for ``device`` goes into ``folder``, without which nothing is, and ``say`` hears of it.
    Raises ConfigError for another name, where DGL does not import, for ``compiled`` on another device than the CPU and
    for ``triton`` on another than CUDA, and ResourceError where they cannot be had; ``auto`` then makes do with
    ``torch``.
    """
    global _chosen
    if name not in ("auto", *NAMES):
        raise ConfigError(f"kernels={name} is not known; use auto, {', '.join(NAMES[:-1])} or {NAMES[-1]}.")
    if name == "compiled" and device.type != "cpu":
        raise ConfigError(f"kernels=compiled computes on device=cpu, not on {device}; use kernels=auto.")
    if name == "compiled":
        self_check.load(folder, say)
    if name == "triton":
        _load_triton(device)
    if name == "dgl":
        from tltool.model.kernels.dgl_door import load

        load()
    _chosen = _fastest(device, folder, say) if name == "auto" else name
    return _chosen


def _load_triton(device: torch.device) -> None:
    """Make sure of the kernels on ``device``; ConfigError if it is not for them, ResourceError if they do not work."""
    try:
        from tltool.model.kernels import cgcnn_triton
    except ImportError as error:
        raise ResourceError(f"Triton does not import here ({error}); install triton, or use kernels=torch.") from error
    if device.type != "cuda" and not cgcnn_triton.interpreted():
        raise ConfigError(f"kernels=triton computes on device=cuda, not on {device}; use kernels=auto.")
    cgcnn_triton.tried(device)


def _fastest(device: torch.device, folder: Path | None, say: Callable[[str], None]) -> str:
    if device.type == "cuda":
        try:
            _load_triton(device)
        except ResourceError as error:
            say(f"{error} This run goes on with kernels=torch.")
            return "torch"
        return "triton"
    if device.type != "cpu":
        return "torch"
    try:
        self_check.load(folder, say)
    except ResourceError as error:
        # To have no compiler is no fault; one that fails is worth a line.
        if folder is not None and cpp_library.compiler() is not None:
            say(f"{error} This run goes on with kernels=torch.")
        return "torch"
    return "compiled"


def chosen() -> str:
    """Return the kernels in use, one of ``NAMES``."""
    return _chosen


def edge_sum(graph: Graph, at_receiver: Tensor, at_neighbour: Tensor, at_distance: Tensor) -> Tensor:
    """Return (e, f): for each edge the sum of its receiver's, its neighbour's and its distance's vector.

    ``at_receiver`` and ``at_neighbour`` (n, f), ``at_distance`` (d, f). A linear map of the three put side by side
    is this sum of three maps, each computed once per node or distance instead of once per edge.
    """
    return pair_sum(graph, at_receiver, at_neighbour).add_(at_distance.index_select(0, graph.distance_index))


def pair_sum(graph: Graph, at_receiver: Tensor, at_neighbour: Tensor) -> Tensor:
    """Return (e, f): for each edge the sum of its receiver's and its neighbour's vector (n, f)."""
    if _chosen == "dgl":
        return _ops().u_add_v(as_dgl(graph), at_neighbour, at_receiver)  # type: ignore[no-any-return]
    return at_receiver.index_select(0, graph.receiver).add_(at_neighbour.index_select(0, graph.neighbour))


def neighbour_sum(graph: Graph, messages: Tensor) -> Tensor:
    """Return (n, f): the sum of ``messages`` (e, f) into each node, each counted as often as its edge stands for."""
    weighted = messages * graph.edge_multiplicity[:, None]
    if _chosen == "dgl":
        return _ops().copy_e_sum(as_dgl(graph), weighted)  # type: ignore[no-any-return]
    return weighted.new_zeros(graph.n_nodes, weighted.shape[1]).index_add_(0, graph.receiver, weighted)


def edge_softmax(graph: Graph, scores: Tensor) -> Tensor:
    """Return (e, f): softmax of ``scores`` over a node's neighbours, the share of one of those an edge stands for."""
    # Padding stands for no neighbour; it must not turn into NaN before it is multiplied by 0.
    stands_for = graph.edge_multiplicity.clamp_min(1e-30)[:, None]
    shifted = scores + stands_for.log()
    if _chosen == "dgl":
        share = _ops().edge_softmax(as_dgl(graph), shifted.contiguous())
    else:
        index = graph.receiver[:, None].expand_as(shifted)
        empty = shifted.new_full((graph.n_nodes, shifted.shape[1]), -torch.inf)
        top = empty.scatter_reduce(0, index, shifted.detach(), "amax")
        powers = (shifted - top.index_select(0, graph.receiver)).exp()
        total = powers.new_zeros(graph.n_nodes, powers.shape[1]).index_add_(0, graph.receiver, powers)
        share = powers / total.index_select(0, graph.receiver)
    return share / stands_for  # type: ignore[no-any-return]


def neighbour_count(graph: Graph) -> Tensor:
    """Return (n,) float: how many neighbours each node has."""
    count = graph.edge_multiplicity.new_zeros(graph.n_nodes)
    return graph.once(  # type: ignore[no-any-return]
        "neighbour count", lambda: count.index_add_(0, graph.receiver, graph.edge_multiplicity)
    )


def crystal_mean(graph: Graph, sites: Tensor) -> Tensor:
    """Return (c, f): the mean of ``sites`` (n, f) over each crystal's sites, nodes weighted by multiplicity."""
    if _chosen == "compiled" and cgcnn_cpp.takes(sites, graph.multiplicity):
        share = graph.once("site share", lambda: graph.multiplicity / graph.n_sites().index_select(0, graph.crystal))
        return rows_cpp.collect(sites, graph.crystal, share, graph.n_crystals)
    return _crystal_sum(graph, sites * graph.multiplicity[:, None]) / graph.n_sites()[:, None]


def rows(table: Tensor, index: Tensor) -> Tensor:
    """Return (n, f): the rows of ``table`` (k, f) at ``index`` (n,)."""
    if _chosen == "compiled" and cgcnn_cpp.takes(table):
        return rows_cpp.spread(table, index)
    return table.index_select(0, index)


def crystal_edge_mean(graph: Graph, received: Tensor) -> Tensor:
    """Return (c, f): the mean over each crystal's edges, from their sums into the nodes (n, f); 0 without an edge."""

    def edge_count() -> Tensor:
        count = _crystal_sum(graph, (graph.multiplicity * neighbour_count(graph))[:, None])
        return or_one(count)

    total = _crystal_sum(graph, received * graph.multiplicity[:, None])
    return total / graph.once("edge count", edge_count)  # type: ignore[no-any-return]


def crystal_attention(graph: Graph, scores: Tensor, values: Tensor) -> Tensor:
    """Return (c, h, f): the mean of ``values`` (n, h, f) over each crystal's sites, weighted by e to the ``scores``.

    ``scores`` are (n, h, 1), or (n, h, f) for a weight of its own for every feature.
    """
    top = scores.new_full((graph.n_crystals, *scores.shape[1:]), -torch.inf)
    index = graph.crystal[:, None, None].expand_as(scores)
    top = top.scatter_reduce(0, index, scores.detach(), "amax")
    powers = (scores - top.index_select(0, graph.crystal)).exp() * graph.multiplicity[:, None, None]
    total = _crystal_sum(graph, powers)
    return _crystal_sum(graph, powers * values) / or_one(total)


def crystal_edge_attention(graph: Graph, scores: Tensor, edges: Tensor) -> Tensor:
    """Return (c, f): the mean of ``edges`` (e, f) over each crystal's edges, weighted by e to the ``scores`` (e,).

    A crystal without an edge gets zeros.
    """
    crystal = graph.once("crystal of edge", lambda: graph.crystal.index_select(0, graph.receiver))
    top = scores.new_full((graph.n_crystals,), -torch.inf).scatter_reduce(0, crystal, scores.detach(), "amax")
    powers = (scores - top.index_select(0, crystal)).exp() * graph.edge_weight()
    total = scores.new_zeros(graph.n_crystals).index_add_(0, crystal, powers)
    share = powers / or_one(total).index_select(0, crystal)
    if _chosen == "dgl":
        lengths = graph.first_edge[graph.first_node].diff()
        return _ops().segment_reduce(lengths, share[:, None] * edges, "sum")  # type: ignore[no-any-return]
    return edges.new_zeros(graph.n_crystals, edges.shape[1]).index_add_(0, crystal, share[:, None] * edges)


def _crystal_sum(graph: Graph, rows: Tensor) -> Tensor:
    """Return (c, ...): the sum of ``rows`` (n, ...) over each crystal's nodes."""
    if _chosen == "dgl":
        return _ops().segment_reduce(graph.first_node.diff(), rows, "sum")  # type: ignore[no-any-return]
    return rows.new_zeros(graph.n_crystals, *rows.shape[1:]).index_add_(0, graph.crystal, rows)


def as_dgl(graph: Graph) -> "DGLGraph":
    """Return the batch as a DGL graph with the fields as node and edge data, made once per batch."""
    return graph.once("dgl", lambda: _make_dgl(graph))


def _make_dgl(graph: Graph) -> "DGLGraph":
    from tltool.model.kernels.dgl_door import load

    # DGL's sum over edges needs the edge numbers spelled out: with an empty list its CPU kernel stops.
    numbers = torch.arange(len(graph.neighbour), device=graph.neighbour.device)
    made = load().graph(("csc", (graph.first_edge, graph.neighbour, numbers)), num_nodes=graph.n_nodes)
    made.ndata["number"], made.ndata["multiplicity"] = graph.number, graph.multiplicity
    made.edata["edge_multiplicity"] = graph.edge_multiplicity
    made.edata["distance"] = graph.distance.index_select(0, graph.distance_index)
    return made


def _ops() -> Any:
    from tltool.model.kernels.dgl_door import load

    return load().ops
