"""The whole model as a composition of parts: encoder, readout, trunk, one head and one scaler per quantity."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from tltool.crystal_graph import Graph, Levels, as_levels
from tltool.model.heads import linear
from tltool.model.layers import functionals
from tltool.model.readouts.pool import reads_elements_alone
from tltool.model.readouts.potential_features import PotentialFeatures
from tltool.model.scaler import ClassScaler, Scaler
from tltool.quantities import Quantities, table_of


class PropertyModel(nn.Module):
    """Graph -> labels in their units.

    The first three parts are the backbone. ``spec`` is plain data from which ``training.checkpoint`` rebuilds the
    model: the YAML of each part, the graph settings, the elements seen in training and where the labels came from; the
    ``functionals`` it tells apart, in the order of their vectors, and the ``functional`` it predicts if none is named;
    the tags that begin its ``state``.
    ``fresh_head`` makes a head for another quantity, from the number of features that it reads and, where it is not 1,
    the number of its columns: a quantity has one, and a class of more than two has one for each (``columns``).
    ``operations`` are message-passing operations in place of the plain ones (``Graph.operations``).
    ``seen`` holds the index of the crystals it was trained on, as arrays (see ``data.overlap``); empty without one.
    ``more_sources`` are further models, by name, whose features a transfer may take as well (see
    ``surgery.feature_readout``); ``potentials`` are frozen potentials, with where each of their blocks stands in
    ``Graph.potential``.
    ``uncertainty`` holds what its intervals are made of (see ``evaluation.uncertainty``); empty without intervals.
    """

    def __init__(
        self,
        encoder: nn.Module,
        readout: nn.Module,
        trunk: nn.Module,
        heads: Mapping[str, nn.Module],
        scalers: Mapping[str, Scaler | ClassScaler],
        spec: Mapping[str, Any],
        fresh_head: Callable[..., nn.Module] = linear,
    ) -> None:
        super().__init__()
        self.encoder, self.readout, self.trunk = encoder, readout, trunk
        self.heads, self.scalers = nn.ModuleDict(heads), nn.ModuleDict(scalers)
        self.spec = dict(spec)
        self.fresh_head = fresh_head
        self.seen: dict[str, npt.NDArray[Any]] = {}
        self.uncertainty: dict[str, npt.NDArray[Any]] = {}
        # Not a part: a plain dictionary hides its models from PyTorch, so they are neither trained nor saved with it.
        self.more_sources: dict[str, PropertyModel] = {}
        self.potentials: dict[str, dict[str, list[int]]] = {}
        self.frozen: tuple[str, ...] = ()
        self.operations: Mapping[str, Callable[..., Tensor]] = {}

    @property
    def quantities(self) -> list[str]:
        """Names of the predicted quantities, in the order of the columns of ``forward``."""
        return list(self.heads)

    @property
    def columns(self) -> dict[str, slice]:
        """Which columns of network values and predictions are of each quantity; v in all."""
        found, first = {}, 0
        for name, scaler in self.scalers.items():
            found[name] = slice(first, first := first + int(scaler.width))  # type: ignore[arg-type]
        return found

    def head_of(self, width: int) -> nn.Module:
        """Return a fresh head with ``width`` columns."""
        dim: int = self.trunk.dim  # type: ignore[assignment]
        return self.fresh_head(dim) if width == 1 else self.fresh_head(dim, width)

    @property
    def known(self) -> Quantities:
        """The quantities that ship, and those that the model was trained on, as ``spec`` defines them."""
        return table_of(self.spec["quantities"], "quantities")

    def encoded(self, graph: Graph) -> Levels | Sequence[Tensor]:
        """Return the output of the encoder, with the vectors of functionals if the model has them."""
        graph = graph.using(self.operations or graph.operations)
        return functionals.added(self.encoder, self.encoder(graph), graph)

    @property
    def needs_structures(self) -> bool:
        """Whether predictions use more than the element embedding, so that a formula is not enough."""
        return not reads_elements_alone(self.readout, int(self.encoder.n_levels))  # type: ignore[arg-type]

    @property
    def reads_potentials(self) -> bool:
        """Whether features of frozen potentials are among those of the readout (``Graph.potential``)."""
        return any(isinstance(module, PotentialFeatures) for module in self.modules())

    def levels(self, graph: Graph) -> list[Tensor]:
        """Return the site features (n, dim) of every level of the encoder."""
        return list(as_levels(self.encoded(graph)).sites)

    def embed(self, graph: Graph) -> Tensor:
        """Return the embedding (c, dim): the readout of the encoder's output."""
        graph = graph.using(self.operations or graph.operations)
        return self.readout(self.encoded(graph), graph)  # type: ignore[no-any-return]

    def values(self, embedding: Tensor) -> Tensor:
        """Return network values (c, v), before scaling, from the embedding (c, dim)."""
        return self.values_of_hidden(self.trunk(embedding))

    def values_of_hidden(self, hidden: Tensor) -> Tensor:
        """Return network values (c, v), before scaling, from the input of the heads (c, dim)."""
        return torch.cat([head(hidden) for head in self.heads.values()], dim=1)

    def labels(self, values: Tensor, graph: Graph) -> Tensor:
        """Return labels (c, v) in their units, or probabilities of classes, from network values (c, v)."""
        return torch.cat([_labels(s, values[:, at], graph) for s, at in self._scaled()], dim=1)

    def targets(self, labels: Tensor, graph: Graph) -> Tensor:
        """Return the scaled targets (c, v) of the network for ``labels`` (c, v); NaN stays NaN."""
        return torch.cat([_targets(s, labels[:, at], graph) for s, at in self._scaled()], dim=1)

    def forward(self, graph: Graph) -> Tensor:
        """Return predictions (c, v), each in the unit of its quantity, or as the probability of a class."""
        return self.labels(self.values(self.embed(graph)), graph)

    def train(self, mode: bool = True) -> "PropertyModel":
        """Switch to training mode; frozen parts stay in evaluation mode (normalisation and dropout)."""
        super().train(mode)
        for name, module in self.named_modules():
            if mode and name and is_under(name, self.frozen):
                module.eval()
        return self

    def _scaled(self) -> Iterator[tuple[nn.Module, slice]]:
        return zip(self.scalers.values(), self.columns.values(), strict=True)


def _labels(scaler: nn.Module, values: Tensor, graph: Graph) -> Tensor:
    if isinstance(scaler, ClassScaler):
        return scaler.to_label(values)
    return scaler.to_label(values[:, 0], graph)[:, None]  # type: ignore[operator,no-any-return]


def _targets(scaler: nn.Module, labels: Tensor, graph: Graph) -> Tensor:
    if isinstance(scaler, ClassScaler):
        return scaler.to_value(labels)
    return scaler.to_value(labels[:, 0], graph)[:, None]  # type: ignore[operator,no-any-return]


def is_under(name: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a pattern matches the whole dotted ``name``, or the whole name of a part that contains it."""
    words = name.split(".")
    parts = [".".join(words[:k]) for k in range(1, len(words) + 1)]
    return any(re.fullmatch(pattern, part) for pattern in patterns for part in parts)
