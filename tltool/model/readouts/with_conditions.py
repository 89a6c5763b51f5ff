"""A readout with the conditions of a measurement, such as its temperature, beside the features of the crystal.

Sizes: c crystals, k conditions.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tltool.crystal_graph import Graph, Levels
from tltool.errors import ConfigError, DataError


class WithConditions(nn.Module):
    """Concatenate the features of the readout ``first`` in ``parts`` and the conditions ``names``, standardised.

    ``times`` repeats the conditions so often: what compares crystals by all their features then pays them so much more
    attention. ``widths`` has the features of every block, that of the conditions last.
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        dim: int,
        n_levels: int,
        extras: Sequence[str] = (),
        /,
        *,
        names: list[str],
        times: int,
        parts: dict[str, Callable[..., nn.Module]],
    ) -> None:
        super().__init__()
        if not names or times < 1:
            raise ConfigError(f"A readout with conditions needs their names, {names}, and times={times} of 1 or more.")
        given: tuple[Any, ...] = (dim, n_levels, *([extras] if extras else []))
        self.first = parts["first"](*given)
        self.names, self.times = tuple(names), times
        dim_of_first: Any = self.first.dim
        own: dict[str, int] = getattr(self.first, "widths", None) or {"crystal": int(dim_of_first)}
        self.widths = own | {"conditions": times * len(names)}
        self.dim = sum(self.widths.values())
        # For pool.reads_elements_alone: conditions need no structure.
        self.levels = getattr(self.first, "levels", ())
        self.extras = getattr(self.first, "extras", ())
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("spread", torch.ones(len(names)))

    def forward(self, levels: Levels | Sequence[Tensor], graph: Graph) -> Tensor:
        """Return (c, dim) from the features of every level and ``graph``."""
        if graph.conditions is None:
            raise DataError(
                f"The model takes {', '.join(self.names)} besides the crystal, which are missing here; see "
                "conditions= of tltool predict."
            )
        own = (graph.conditions - self.mean) / self.spread
        return torch.cat([self.first(levels, graph), own.repeat(1, self.times)], dim=1)

    def fit(self, conditions: Tensor) -> None:
        """Set mean and standard deviation to those of ``conditions`` (r, k); one that is constant is only centred."""
        spread = conditions.std(0, correction=0)
        self.mean.copy_(conditions.mean(0))
        self.spread.copy_(torch.where(spread > 0, spread, torch.ones_like(spread)))
