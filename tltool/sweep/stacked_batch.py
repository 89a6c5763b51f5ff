"""Join the batches of several fits to one graph with parts of equal size, so that each part can have its own weights.

Sizes: s parts, c crystals per part, n nodes per part. n is the size of the largest part; the others are filled with
nodes of multiplicity 0 without edges, which belong to their last crystal. Other sizes are as in ``crystal_graph``.
"""

import torch
from torch import Tensor

from tltool.crystal_graph import Graph, Parts
from tltool.data.batches.tensor_table import Table


def select(table: Table, rows: Tensor) -> tuple[Graph, Parts]:
    """Return the graphs of ``rows`` (s, c) of ``table``, part after part, as one graph of s * n nodes."""
    count, crystals = rows.shape
    flat = rows.reshape(-1)
    graph = table.select(flat)
    n_distances = (table.first_distance[flat + 1] - table.first_distance[flat]).view(count, crystals).sum(1)
    last = n_distances.cumsum(0)
    first_node = graph.first_node[::crystals]
    n_nodes = first_node.diff()
    nodes = int(n_nodes.max())
    part = torch.arange(count, device=rows.device)
    shift = part * nodes - first_node[:-1]
    node = torch.arange(graph.n_nodes, device=rows.device) + torch.repeat_interleave(shift, n_nodes)
    size = count * nodes

    def filled(values: Tensor) -> Tensor:
        return values.new_zeros(size).index_copy_(0, node, values)

    owner = torch.repeat_interleave(part * crystals + crystals - 1, nodes).index_copy_(0, node, graph.crystal)
    degree = filled(graph.first_edge.diff())
    whole = Graph(
        number=filled(graph.number),
        multiplicity=filled(graph.multiplicity),
        crystal=owner,
        first_node=torch.cat([node[graph.first_node[:-1]], graph.first_node.new_full((1,), size)]),
        first_edge=torch.cat([degree.new_zeros(1), degree.cumsum(0)]),
        receiver=node[graph.receiver],
        neighbour=node[graph.neighbour],
        edge_multiplicity=graph.edge_multiplicity,
        distance_index=graph.distance_index,
        distance=graph.distance,
    )
    return whole, Parts(count, crystals, nodes, last - n_distances, last)
