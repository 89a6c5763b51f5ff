"""A readout that also encodes each crystal with the encoder of a further source, for features of several sources.

Sizes: c crystals.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tltool.crystal_graph import Graph, Levels
from tltool.model.readouts.pool import encoder_facts, reads_elements_alone


class JoinedSources(nn.Module):
    """Concatenate the features of a readout with those that a further source computes from the same graph.

    ``parts`` makes the readout ``first`` of the model's own encoder, and the ``encoder`` and ``readout`` of the further
    source, whose blocks get ``name`` in front of theirs in ``widths`` (the features of each block, in their order).
    ``first`` may be of this kind as well, so that there may be any number of sources. The further encoder tells no
    functionals apart.
    """

    def __init__(
        self,
        dim: int,
        n_levels: int,
        extras: Sequence[str] = (),
        /,
        *,
        name: str,
        parts: dict[str, Callable[..., nn.Module]],
    ) -> None:
        super().__init__()
        given: tuple[Any, ...] = (dim, n_levels, *([extras] if extras else []))
        self.first = parts["first"](*given)
        self.encoder = parts["encoder"]()
        self.readout = parts["readout"](*encoder_facts(self.encoder))
        own: dict[str, int] = self.first.widths  # type: ignore[assignment]
        further: dict[str, int] = self.readout.widths  # type: ignore[assignment]
        self.widths = own | {f"{name}_{block}": width for block, width in further.items()}
        self.dim = sum(self.widths.values())
        # For pool.reads_elements_alone.
        alone = reads_elements_alone(self.readout, int(self.encoder.n_levels))  # type: ignore[arg-type]
        self.levels = (*self.first.levels, *(() if alone else (-1,)))  # type: ignore[misc]
        self.extras = self.first.extras

    def forward(self, levels: Levels | Sequence[Tensor], graph: Graph) -> Tensor:
        """Return (c, dim) from the features of every level of the model's own encoder, and ``graph``."""
        return torch.cat([self.first(levels, graph), self.readout(self.encoder(graph), graph)], dim=1)
