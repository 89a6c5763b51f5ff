"""A readout of features that a frozen potential computed of each crystal beforehand.

Sizes: c crystals.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tltool.crystal_graph import Graph, Levels
from tltool.errors import DataError

PHYSICS = ("elastic", "strain", "phonons")
"""Extra features that a potential alone has (``potentials.physics``)."""


class PotentialFeatures(nn.Module):
    """Concatenate the features of a readout with columns of ``Graph.potential``.

    ``parts`` makes the readout ``first`` of the model's own encoder, if there is one. ``blocks`` says where each block
    of the potential ``name`` begins and ends among those columns. ``widths`` has the features of every block in their
    order, those of the potential with its ``name`` in front. A number that the potential has not is that of ``fill``.
    """

    fill: Tensor

    def __init__(
        self,
        dim: int,
        n_levels: int,
        extras: Sequence[str] = (),
        /,
        *,
        name: str,
        blocks: dict[str, list[int]],
        parts: dict[str, Callable[..., nn.Module]],
    ) -> None:
        super().__init__()
        given: tuple[Any, ...] = (dim, n_levels, *([extras] if extras else []))
        self.first = parts["first"](*given) if "first" in parts else None
        own: dict[str, int] = {} if self.first is None else self.first.widths  # type: ignore[assignment]
        self.spans = [(int(begin), int(end)) for begin, end in blocks.values()]
        self.widths = own | {f"{name}_{block}": int(end) - int(begin) for block, (begin, end) in blocks.items()}
        self.dim = sum(self.widths.values())
        # For pool.reads_elements_alone: a potential needs a structure.
        self.levels = (*(() if self.first is None else self.first.levels), -1)  # type: ignore[misc]
        self.extras = () if self.first is None else self.first.extras
        self.register_buffer("fill", torch.zeros(sum(end - begin for begin, end in self.spans)))

    def forward(self, levels: Levels | Sequence[Tensor], graph: Graph) -> Tensor:
        """Return (c, dim) from the features of every level and ``graph``."""
        if graph.potential is None:
            raise DataError("The features of a potential are missing here; use tltool predict or tltool eval.")
        own = self._columns(graph.potential)
        own = torch.where(own.isnan(), self.fill, own)
        return own if self.first is None else torch.cat([self.first(levels, graph), own], dim=1)

    def fit(self, potential: Tensor) -> None:
        """Set ``fill`` to the mean of the numbers that the rows ``potential`` (r, w) of ``Graph.potential`` have."""
        self.fill.copy_(self._columns(potential).nanmean(0).nan_to_num(0.0))

    def _columns(self, potential: Tensor) -> Tensor:
        return torch.cat([potential[:, begin:end] for begin, end in self.spans], dim=1)
