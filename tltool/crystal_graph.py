"""The tensors that a batch of crystal graphs carries: every name once, with shape and unit.

Sizes: c crystals, n nodes, e edges, d different distances, s sites (atoms of all cells).
A node stands for ``multiplicity`` sites of its crystal that no network seeing only species and distances can tell
apart, and an edge for ``edge_multiplicity`` neighbours of one kind at one distance. On a full graph both are one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Graph:
    """Crystal graphs of a batch, side by side.

    Edges are sorted by receiving node, so ``first_edge`` makes the edge list a compressed sparse row matrix.
    """

    number: Tensor
    """(n,) int64: atomic number."""
    multiplicity: Tensor
    """(n,) float: sites that the node stands for; 0 marks padding."""
    crystal: Tensor
    """(n,) int64: crystal that the node belongs to, ascending."""
    first_node: Tensor
    """(c+1,) int64: where each crystal's nodes begin."""
    first_edge: Tensor
    """(n+1,) int64: where each node's edges begin."""
    receiver: Tensor
    """(e,) int64: node that the edge ends in, ascending."""
    neighbour: Tensor
    """(e,) int64: node that the edge starts from."""
    edge_multiplicity: Tensor
    """(e,) float: neighbours that the edge stands for."""
    distance_index: Tensor
    """(e,) int64: position in ``distance``."""
    distance: Tensor
    """(d,) float, Å: the different distances of the batch, each once per crystal."""
    volume: Tensor | None = None
    """(c,) float, Å3 a site: volume of each crystal; None where nobody gave it."""
    state: Tensor | None = None
    """(c, k) float: what is known of each crystal as a whole; None for nothing."""
    functional: Tensor | None = None
    """(c,) int64: place of each crystal's functional among those that the model tells apart; None where it does not."""
    potential: Tensor | None = None
    """(c, w) float: what frozen potentials say of each crystal, NaN where they cannot; None where none is asked."""
    conditions: Tensor | None = None
    """(c, k) float: under which conditions each crystal was measured, each in its unit; None where none is asked."""
    line: "Graph | None" = None
    """The line graph, for encoders that see angles. Its nodes are the edges, in their order, and stand for as many
    directed edges as those; an edge of it is the angle between an edge from j into i and one that precedes it, from k
    into j; its distances are the different cosines of the angles k-j-i, from -1 to 1; its numbers say nothing."""
    cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What was derived from these tensors, by name: made once per batch and thrown away with it."""
    operations: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict, compare=False, repr=False)
    """Message-passing operations to use in place of the plain ones, by name (``model/message_passing.py``)."""

    @property
    def n_crystals(self) -> int:
        """Number of crystals c."""
        return len(self.first_node) - 1

    @property
    def n_nodes(self) -> int:
        """Number of nodes n."""
        return len(self.number)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the derived thing called ``name``, made by ``make`` the first time."""
        if name not in self.cache:
            self.cache[name] = make()
        return self.cache[name]

    def n_sites(self) -> Tensor:
        """Return (c,) float: the number of sites of each crystal; 1 for padding, so that means of it are zeros."""

        def count() -> Tensor:
            found = self.multiplicity.new_zeros(self.n_crystals).index_add(0, self.crystal, self.multiplicity)
            return or_one(found)

        return self.once("n_sites", count)  # type: ignore[no-any-return]

    def edge_weight(self) -> Tensor:
        """Return (e,) float: directed edges of the full graph that each edge stands for."""
        return self.once(  # type: ignore[no-any-return]
            "edge_weight", lambda: self.multiplicity[self.receiver] * self.edge_multiplicity
        )

    def distance_weight(self) -> Tensor:
        """Return (d,) float: directed edges of the full graph that have each of the different distances."""
        empty = self.distance.new_zeros(len(self.distance))
        return self.once(  # type: ignore[no-any-return]
            "distance_weight", lambda: empty.index_add(0, self.distance_index, self.edge_weight())
        )

    def using(self, operations: Mapping[str, Callable[..., Tensor]]) -> "Graph":
        """Return the same graph, its line graph included, with ``operations`` in place of the plain ones."""
        if operations is self.operations:
            return self
        return replace(self, operations=operations, line=None if self.line is None else self.line.using(operations))

    def to(self, device: torch.device | str) -> "Graph":
        """Return the same graph on ``device``."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("cache", "line", "operations")}
        moved = {name: t.to(device, non_blocking=True) for name, t in given.items() if t is not None}
        return replace(self, **moved, line=None if self.line is None else self.line.to(device), cache={})


def or_one(count: Tensor) -> Tensor:
    """Return ``count`` with 1 in place of 0, to divide by: ``torch.where`` with a number may wait for the device."""
    return count + (count == 0)


@dataclass(frozen=True)
class Parts:
    """How a graph falls into ``count`` parts, each for a model of its own, of equally many crystals and nodes."""

    count: int
    crystals: int
    nodes: int
    first_distance: Tensor
    """(count,) int64: where the distances of each part begin."""
    last_distance: Tensor
    """(count,) int64: where they end."""


@dataclass(frozen=True)
class Levels:
    """What an encoder gives that has more than site features, all ``dim`` wide, one tensor per level.

    An encoder that has only ``sites`` may return the plain list of them.
    """

    sites: Sequence[Tensor]
    """(n, dim) each: site features."""
    edges: Sequence[Tensor] = ()
    """(e, dim) each: edge features; empty if the encoder has none."""
    state: Sequence[Tensor] = ()
    """(c, dim) each: features of the crystal as a whole; empty if the encoder has none."""


def as_levels(found: "Levels | Sequence[Tensor]") -> Levels:
    """Return what an encoder gave as ``Levels``."""
    return found if isinstance(found, Levels) else Levels(found)
