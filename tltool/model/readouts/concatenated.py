"""A readout that puts features of several kinds side by side, for a regressor to choose from.

Levels of the encoder as in ``Pool``, the vector that the source's head saw, what the source predicts, and facts that
need no network.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tltool.crystal_graph import Graph, Levels
from tltool.errors import ConfigError
from tltool.model import heads
from tltool.model.readouts import descriptors
from tltool.model.readouts.pool import Pool
from tltool.model.scaler import Scaler

WORDS = ("elements", "geometry", "trunk", "labels")


class Beside(nn.Module):
    """Statistics of ``levels`` (none if empty), then what ``beside`` names, in this order.

    ``elements`` and ``geometry`` as in ``facts``; ``trunk`` what the source's heads see; ``labels`` what it predicts
    of its ``quantities``, in their units. ``parts`` makes the source's ``readout``, ``trunk`` and, if not linear,
    ``head``; ``logarithmic`` names the quantities that it learnt on a logarithmic scale, whose logarithms are taken.
    ``sites_only`` leaves out what an encoder gives besides site features.
    """

    def __init__(
        self,
        dim: int,
        n_levels: int,
        extras: Sequence[str] = (),
        /,
        *,
        levels: list[int],
        statistics: list[str],
        beside: list[str],
        quantities: list[str],
        logarithmic: list[str],
        sites_only: bool,
        parts: dict[str, Callable[..., nn.Module]],
    ) -> None:
        super().__init__()
        if unknown := [word for word in beside if word not in WORDS]:
            raise ConfigError(f"mode.beside={unknown} is not known; use {', '.join(WORDS)}.")
        given: tuple[Any, ...] = (dim, n_levels, *([extras] if extras and not sites_only else []))
        self.beside = tuple(word for word in WORDS if word in beside)
        # What readout.reads_elements_alone asks for: all but facts of the elements needs more than level 0.
        self.levels = (*levels, *([] if set(beside) <= {"elements"} else [-1])) or (0,)
        self.extras = () if sites_only else tuple(extras) if levels else ()
        self.pool = Pool(*given, levels=levels, statistics=statistics) if levels else None
        self.dim = self.pool.dim if self.pool else 0
        if "trunk" in beside or "labels" in beside:
            self.readout = parts["readout"](*given)
            self.trunk = parts["trunk"](self.readout.dim)
            self.dim += int(self.trunk.dim) if "trunk" in beside else 0  # type: ignore[arg-type]
        if "labels" in beside:
            made = parts.get("head", heads.linear)
            self.heads = nn.ModuleDict({name: made(self.trunk.dim) for name in quantities})
            self.scalers = nn.ModuleDict({name: Scaler(name in logarithmic) for name in quantities})
            self.dim += len(quantities)
        self.dim += descriptors.N_OF_ELEMENTS * ("elements" in beside) + descriptors.N_OF_GEOMETRY * (
            "geometry" in beside
        )

    def forward(self, levels: Levels | Sequence[Tensor], graph: Graph) -> Tensor:
        """Return (c, dim) from the features of every level."""
        found = [] if self.pool is None else [self.pool(levels, graph)]
        if "elements" in self.beside:
            found.append(descriptors.of_elements(graph))
        if "geometry" in self.beside:
            found.append(descriptors.of_geometry(graph))
        if "trunk" in self.beside or "labels" in self.beside:
            hidden = self.trunk(self.readout(levels, graph))
            found += [hidden] if "trunk" in self.beside else []
        if "labels" in self.beside:
            found += [self._label(name, hidden, graph) for name in self.heads]
        return torch.cat(found, dim=1)

    def _label(self, name: str, hidden: Tensor, graph: Graph) -> Tensor:
        scaler = self.scalers[name]
        label: Tensor = scaler.to_label(self.heads[name](hidden).squeeze(-1), graph)  # type: ignore[operator]
        return (label.log() if scaler.logarithmic else label)[:, None]
