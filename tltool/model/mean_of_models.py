"""Several models of one quantity as one model: the weighted mean of what they predict.

Members differ in what they read of a crystal, so each keeps its own encoder, readout, trunk and head.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tltool.crystal_graph import Graph
from tltool.model.property_model import PropertyModel
from tltool.model.scaler import Scaler


class MeanOfModels(PropertyModel):
    """The mean of the predictions of ``members`` with ``weights``, of which the sum is 1.

    It is taken on the scale on which the first member learnt the quantity, such as that of logarithms. In all else the
    model is its first member: a next transfer starts from the backbone of that.
    """

    def __init__(self, members: Mapping[str, PropertyModel], weights: Sequence[float]) -> None:
        first, *others = members
        base = members[first]
        parts = base.encoder, base.readout, base.trunk, base.heads, base.scalers
        super().__init__(*parts, base.spec, base.fresh_head)  # type: ignore[arg-type]
        self.seen, self.frozen, self.operations = base.seen, base.frozen, base.operations
        self.uncertainty = base.uncertainty
        self.weights = tuple(weights)
        self.members = nn.ModuleDict({name: members[name] for name in others})

    @property
    def needs_structures(self) -> bool:
        """Whether a member does."""
        return super().needs_structures or any(member.needs_structures for member in self.others().values())

    def others(self) -> dict[str, PropertyModel]:
        """Return the members but the first."""
        return {name: member for name, member in self.members.items() if isinstance(member, PropertyModel)}

    def alone(self) -> PropertyModel:
        """Return the first member, with what was written into the spec of all."""
        parts = self.encoder, self.readout, self.trunk, self.heads, self.scalers
        model = PropertyModel(*parts, self.spec, self.fresh_head)  # type: ignore[arg-type]
        model.seen, model.frozen, model.operations = self.seen, self.frozen, self.operations
        model.uncertainty = self.uncertainty
        return model.train(self.training)

    def forward(self, graph: Graph) -> Tensor:
        """Return the means (c, v), each in the unit of its quantity, or of the probability of a class."""
        found = torch.stack([super().forward(graph), *(member(graph) for member in self.others().values())], dim=-1)
        weights = found.new_tensor(self.weights)
        scalers = [scaler for scaler, at in self._scaled() for _ in range(at.start, at.stop)]
        return torch.stack([mean_by(scaler, found[:, k], weights) for k, scaler in enumerate(scalers)], dim=1)


def mean_by(scaler: nn.Module, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the mean (c,) of ``labels`` (c, m) by ``weights`` (m,), on the scale that the ``scaler`` learns."""
    if isinstance(scaler, Scaler):
        return scaler.plain(scaler.learnt(labels) @ weights)
    return labels @ weights
