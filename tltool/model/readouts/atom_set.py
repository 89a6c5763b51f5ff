"""A set model on features of sites: AtomSets (Chen and Ong, doi:10.1038/s41524-021-00639-w).

phi on each site, a symmetric function over the sites of a crystal, then rho: ``AtomSet`` is the readout, phi and the
symmetric function, and ``Layers`` serves as phi and, as the trunk, as rho. Sizes as in ``crystal_graph``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tltool.crystal_graph import Graph, Levels, as_levels
from tltool.errors import ConfigError
from tltool.instantiate import Idle
from tltool.model import message_passing
from tltool.model.layers import sizes
from tltool.model.readouts.pool import checked_levels
from tltool.model.readouts.set2set import Reader
from tltool.model.sklearn_head import Standardise


@dataclass(frozen=True, kw_only=True)
class SetModel:
    """Settings of a set model for ``mode=features``: the keys of ``AtomSet``, and of ``Layers`` as rho.

    ``widths``, ``pools``, ``query`` and ``steps`` as in ``AtomSet``; ``rho`` and ``dropout`` are those of ``Layers``.
    """

    widths: list[int]
    pools: list[str]
    query: int | None
    steps: int
    rho: list[int]
    dropout: float


class Layers(nn.Module):
    """Linear maps to ``widths``, each with a ReLU after it, then dropout. (r, dim) -> (r, widths[-1])."""

    def __init__(self, dim: int, /, *, widths: list[int], dropout: float) -> None:
        super().__init__()
        if any(width < 1 for width in widths) or not 0 <= dropout < 1:
            raise ConfigError(
                f"widths={list(widths)} must be 1 or more, and dropout={dropout} must be between 0 and 1."
            )
        self.dim = [dim, *widths][-1]
        self.maps = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([dim, *widths]))
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor) -> Tensor:
        """Map ``rows`` (r, dim)."""
        for part in self.maps:
            rows = F.relu(part(rows))
        return self.dropout(rows)  # type: ignore[no-any-return]


class AtomSet(nn.Module):
    """The readout: phi on the standardised features of each site, then ``pools`` over the sites, concatenated.

    ``levels`` of the encoder are read side by side (0 the element embedding, -1 the last), its edges and state are not;
    ``widths`` of phi's layers; ``pools`` of ``mean`` and ``set2set``, whose query has ``query`` features, null for as
    many as phi gives, and reads in ``steps``. Every site counts once.
    """

    def __init__(
        self,
        dim: int,
        n_levels: int,
        extras: Sequence[str] = (),
        /,
        *,
        levels: list[int],
        widths: list[int],
        pools: list[str],
        query: int | None,
        steps: int,
    ) -> None:
        super().__init__()
        if not pools or any(pool not in ("mean", "set2set") for pool in pools):
            raise ConfigError(f"pools={list(pools)}: use mean, set2set or both.")
        sizes.require_whole("readout", 1, steps=steps, query=dim if query is None else query)
        self.levels, self.pools = checked_levels(levels, n_levels), tuple(pools)
        self.scale = Standardise(dim * len(levels))
        self.phi = Layers(dim * len(levels), widths=widths, dropout=0.0)
        self.reader = Reader(self.phi.dim, query, steps) if "set2set" in pools else None
        widths_of = {"mean": self.phi.dim, "set2set": 2 * (query or self.phi.dim)}
        self.dim = sum(widths_of[pool] for pool in pools)

    def forward(self, levels: Levels | Sequence[Tensor], graph: Graph) -> Tensor:
        """Return (c, dim) from the features of every level."""
        found = as_levels(levels).sites
        return self.of_sites(torch.cat([found[level] for level in self.levels], dim=1), graph)

    def of_sites(self, sites: Tensor, graph: Graph) -> Tensor:
        """Return (c, dim) from ``sites`` (n, f), the concatenated features of ``levels``; edges are not used."""
        rows = self.phi(self.scale(sites))
        parts = {"mean": message_passing.crystal_mean(graph, rows)} if "mean" in self.pools else {}
        if self.reader is not None:
            parts["set2set"] = self.reader(rows, graph, False)
        return torch.cat([parts[pool] for pool in self.pools], dim=1)


def idle_keys(node: Mapping[str, Any], config: Mapping[str, Any], /) -> dict[str, Idle]:
    """Return the keys that have no effect without Set2Set (see ``instantiate.idle_keys``)."""
    if "pools" not in node or "set2set" in node["pools"]:
        return {}
    idle = Idle("it is a setting of Set2Set, which is not in {at}.pools", "use {at}.pools=[set2set]")
    return {"query": idle, "steps": idle}
