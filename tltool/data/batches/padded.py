"""Batches of a few fixed sizes, so that a program never has to wait for the device.

A batch is assembled without asking the device for its size: its ``Room`` is computed before, from the sizes of the
crystals. The unused part of the room is padding. Padding belongs to an additional last crystal, whose nodes and edges
represent 0 sites and neighbours. So sums, means and normalisation are the same as without it. Sizes as in ``fields``; b
batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.batches.tensor_table import Table
from tltool.data.record import Ints

_QUANTILES = (0.3, 0.7, 0.95, 1.0)
_TRIALS = 256
_STEP = 16
_STARTS = ("first_node", "first_distance", "first_edge")


class Room(NamedTuple):
    """Numbers of crystals, nodes, edges and distances of a batch, with padding, and those of its line graph."""

    crystals: int
    nodes: int
    edges: int
    distances: int
    angles: int = 0
    cosines: int = 0


@dataclass(frozen=True)
class Padded:
    """A ``Table`` closed by ``closed``, from which all batches are cut to the same ``room``."""

    table: Table
    room: Room

    def select(self, rows: Tensor, /) -> Graph:
        """Return the graphs of ``rows`` (c,) int64, the last of which is padding: row ``len(table) - 1``."""
        return _select(self.table, rows, self.room)


def closed(source: Table) -> Table:
    """Return ``source`` with an empty last row; the last entry of each array is used for padding."""

    def longer(name: str) -> Tensor | None:
        values: Tensor | None = getattr(source, name)
        if values is None:
            return None
        if name in _STARTS:
            return torch.cat([values, values[-1:]])
        # A distance of 1 Å, a cosine and a volume of 1 are valid in every basis.
        return torch.cat([values, values.new_full((1, *values.shape[1:]), name in ("distance", "volume"))])

    own: dict[str, Any] = {f.name: longer(f.name) for f in fields(source) if f.name != "line"}
    return replace(source, **own, line=None if source.line is None else closed(source.line))


def counts(source: Table) -> Ints:
    """Return (c, k), on the CPU: nodes, edges and distances of each crystal; with a line its angles and cosines too."""

    def ends(name: str, of: Table) -> Ints:
        found: Ints = getattr(of, name).cpu().numpy()
        return found

    node, edge = ends("first_node", source), ends("first_edge", source)
    starts = [node, edge[node], ends("first_distance", source)]
    if source.line is not None:
        starts += [ends("first_edge", source.line)[edge[node]], ends("first_distance", source.line)]
    bounds = np.stack(starts, axis=1)
    found: Ints = bounds[1:] - bounds[:-1]
    return found


def rooms(sizes: Ints, size: int) -> list[Room]:
    """Return useful rooms for batches of ``size`` crystals drawn from crystals with ``sizes`` (r, k).

    They are quantiles of the sizes of random batches, one for the few larger batches, and one for the last batch of an
    epoch if that is short.
    """
    random = np.random.default_rng(0)
    n = len(sizes)
    rest = n % size
    found = _of_trials(sizes, min(size, n), random, _QUANTILES)
    if n > size:
        found.append(found[-1] * 5 // 4)
    if n > size and 1 < rest <= size // 2:
        found = [*_of_trials(sizes, rest, random, (1.0,)), *found]
    # A last batch with one crystal is joined to the previous batch.
    crystals = min(n, size + (rest == 1 % size)) + 1
    return sorted({_rounded(crystals, held) for held in found}, key=lambda room: room[1:])


def _of_trials(sizes: Ints, size: int, random: np.random.Generator, quantiles: Sequence[float]) -> list[Ints]:
    n = len(sizes)
    trials = [sizes[random.choice(n, size, replace=False, shuffle=False)].sum(0) for _ in range(_TRIALS)]
    return [np.quantile(trials, q, axis=0, method="higher") for q in quantiles]


def _rounded(crystals: int, held: Ints) -> Room:
    """Return the room for ``held`` (k,) nodes and so on, with at least one of each as padding."""
    return Room(crystals, *((held // _STEP + 1) * _STEP).tolist())


class Epoch(NamedTuple):
    """``rows`` (b, c) on the CPU, the room of each batch (b), and how many of its rows are not padding (b)."""

    rows: Tensor
    rooms: list[Room]
    held: list[int]


def epoch(rows: Tensor, sizes: Ints, ready: Sequence[Room], size: int, generator: torch.Generator) -> Epoch:
    """Return an epoch over ``rows`` (r,), the batches being those of ``tensor_table.batches``; all of it on the CPU.

    Each batch gets the smallest of the rooms that are ``ready``, a room of its own if none of them holds it. ``sizes``
    are those of all rows of the table.
    """
    cut = tensor_table.pieces(rows, size, generator)
    held = [len(piece) for piece in cut]
    ends = np.cumsum([0, *held])
    totals = np.add.reduceat(sizes[torch.cat(cut).numpy()], ends[:-1], axis=0)
    filled = torch.full((len(cut), ready[0].crystals), len(sizes), dtype=torch.int64)
    for line, piece in zip(filled, cut, strict=True):
        line[: len(piece)] = piece
    return Epoch(filled, [_smallest(ready, total) for total in totals], held)


def _smallest(ready: Sequence[Room], total: Ints) -> Room:
    fitting = (room for room in ready if all(n < most for n, most in zip(total, room[1:], strict=False)))
    return next(fitting, None) or _rounded(ready[0].crystals, total)


def _select(source: Table, rows: Tensor, room: Room) -> Graph:
    """Return the graphs of ``rows`` as one batch; the last row gets the rest of the ``room``."""
    kind = torch.get_default_dtype()
    crystal, first_node = _filled(source.first_node[rows + 1] - source.first_node[rows], room.nodes)
    node = _places(source.first_node[rows], crystal, first_node, source.number)
    begin = source.first_edge[node]
    receiver, first_edge = _filled(source.first_edge[node + 1] - begin, room.edges)
    edge = _places(begin, receiver, first_edge, source.neighbour)
    begin = source.first_distance[rows]
    owner, first_distance = _filled(source.first_distance[rows + 1] - begin, room.distances)
    spot = _places(begin, owner, first_distance, source.distance)
    of_edge = crystal[receiver]
    of_line = Room(room.crystals, room.edges, room.angles, room.cosines)
    return Graph(
        number=source.number[node].long(),
        multiplicity=source.multiplicity[node].to(kind),
        crystal=crystal,
        first_node=first_node,
        first_edge=first_edge,
        receiver=receiver,
        neighbour=source.neighbour[edge].long() + first_node[of_edge],
        edge_multiplicity=source.edge_multiplicity[edge].to(kind),
        distance_index=source.distance_index[edge].long() + first_distance[of_edge],
        distance=source.distance[spot].to(kind),
        volume=source.volume[rows].to(kind),
        state=None if source.state is None else source.state[rows],
        functional=None if source.functional is None else source.functional[rows],
        potential=None if source.potential is None else source.potential[rows],
        line=None if source.line is None else _select(source.line, rows, of_line),
    )


def _filled(count: Tensor, room: int) -> tuple[Tensor, Tensor]:
    """Return (room,) whose each place is, by the ``count`` of each owner, and where their places begin, with the end.

    The last owner takes what is left over.
    """
    first = torch.cat([count.new_zeros(1), count.cumsum(0)])
    first[-1:].fill_(room)
    owners = torch.arange(len(count), device=count.device)
    return torch.repeat_interleave(owners, first.diff(), output_size=room), first


def _places(begin: Tensor, owner: Tensor, first: Tensor, values: Tensor) -> Tensor:
    """Return where in ``values`` each place's own stands; padding is at its end."""
    within = torch.arange(len(owner), device=owner.device) - first[owner]
    return (begin[owner] + within).clamp_max(len(values) - 1)
