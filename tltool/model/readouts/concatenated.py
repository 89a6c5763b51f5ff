"""A readout that concatenates features of several kinds, from which a regressor can choose.

The features are levels of the encoder as in ``Pool``, the input of the source's head, the source's predictions, and
descriptors that need no network. Sizes: c crystals.
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
OF_NETWORK = ("trunk", "labels")
"""Those that differ between sources."""


class Concatenated(nn.Module):
    """Concatenate statistics of ``levels`` (none if empty) and the ``extra_features``, in the order of ``WORDS``.

    ``elements`` and ``geometry`` are those of ``descriptors.py``; ``trunk`` is the input of the source's heads;
    ``labels`` are the source's predictions of its ``quantities``, in their units. ``parts`` makes the source's
    ``readout``, ``trunk`` and, if not linear, ``head``. ``logarithmic`` names the quantities that the source learnt as
    logarithms; the logarithms of their predictions are taken. ``sites_only`` leaves out the features of edges and of
    the state. Raise ConfigError for an extra feature that is not in ``WORDS``. The attribute ``widths`` says how many
    features each block (a level or an extra feature) has, in their order.
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
        extra_features: list[str],
        quantities: list[str],
        logarithmic: list[str],
        sites_only: bool,
        parts: dict[str, Callable[..., nn.Module]],
    ) -> None:
        super().__init__()
        if unknown := [word for word in extra_features if word not in WORDS]:
            raise ConfigError(
                f"mode.extra_features={unknown} is not known; use {', '.join(WORDS)}, or with a potential physics."
            )
        given: tuple[Any, ...] = (dim, n_levels, *([extras] if extras and not sites_only else []))
        self.extra_features = tuple(word for word in WORDS if word in extra_features)
        # For pool.reads_elements_alone: every extra feature except ``elements`` needs more than level 0.
        self.levels = (*levels, *([] if set(extra_features) <= {"elements"} else [-1])) or (0,)
        self.extras = () if sites_only else tuple(extras) if levels else ()
        self.pool = Pool(*given, levels=levels, statistics=statistics) if levels else None
        self.widths = dict(self.pool.widths) if self.pool else {}
        self.widths |= {"elements": descriptors.N_OF_ELEMENTS} if "elements" in extra_features else {}
        self.widths |= {"geometry": descriptors.N_OF_GEOMETRY} if "geometry" in extra_features else {}
        if "trunk" in extra_features or "labels" in extra_features:
            self.readout = parts["readout"](*given)
            self.trunk = parts["trunk"](self.readout.dim)
            self.widths |= {"trunk": int(self.trunk.dim)} if "trunk" in extra_features else {}  # type: ignore[arg-type]
        if "labels" in extra_features:
            made = parts.get("head", heads.linear)
            self.heads = nn.ModuleDict({name: made(self.trunk.dim) for name in quantities})
            self.scalers = nn.ModuleDict({name: Scaler(name in logarithmic) for name in quantities})
            self.widths |= {"labels": len(quantities)}
        self.dim = sum(self.widths.values())

    def forward(self, levels: Levels | Sequence[Tensor], graph: Graph) -> Tensor:
        """Return (c, dim) from the features of every level."""
        found = [] if self.pool is None else [self.pool(levels, graph)]
        if "elements" in self.extra_features:
            found.append(descriptors.of_elements(graph))
        if "geometry" in self.extra_features:
            found.append(descriptors.of_geometry(graph))
        if "trunk" in self.extra_features or "labels" in self.extra_features:
            hidden = self.trunk(self.readout(levels, graph))
            found += [hidden] if "trunk" in self.extra_features else []
        if "labels" in self.extra_features:
            found += [self._label(name, hidden, graph) for name in self.heads]
        return torch.cat(found, dim=1)

    def _label(self, name: str, hidden: Tensor, graph: Graph) -> Tensor:
        scaler = self.scalers[name]
        label: Tensor = scaler.to_label(self.heads[name](hidden).squeeze(-1), graph)  # type: ignore[operator]
        return (label.log() if scaler.logarithmic else label)[:, None]
