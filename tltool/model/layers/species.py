"""Compute the first features of a site from a table of element properties, one-hot rows or word vectors."""

import torch
from torch import Tensor, nn

from tltool.elements import descriptors, matscholar
from tltool.errors import ConfigError


def table(elements: str) -> Tensor:
    """Return (119, k) by atomic number: ``descriptors``, ``matscholar`` (fixed tables), or ``learned``, one-hot rows.

    With descriptors an element not seen in training is placed by its neighbours in the periodic table, with matscholar
    by what the literature writes of it; with learned a linear map of the table is a vector of its own for each element.
    Raises ConfigError for another word.
    """
    if elements not in ("learned", "descriptors", "matscholar"):
        raise ConfigError(f"encoder.elements={elements!r} is not known; use descriptors, learned or matscholar.")
    if elements == "learned":
        return torch.eye(119)
    # A copy: the tables are shared by the whole process, and a model may be changed where it stands.
    return torch.tensor(descriptors() if elements == "descriptors" else matscholar())


class Species(nn.Module):
    """A vector for each element, a linear map of a fixed table. (...,) -> (..., dim).

    ``elements`` as in ``table``.
    """

    table: Tensor

    def __init__(self, dim: int, elements: str) -> None:
        super().__init__()
        known = table(elements)
        self.register_buffer("table", known, persistent=False)
        self.map = nn.Linear(known.shape[1], dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the map so that the vectors have unit standard deviation, even if most of the table is zero."""
        nn.init.normal_(self.map.weight, std=float(self.table[1:].square().sum(1).mean()) ** -0.5)

    def forward(self, number: Tensor) -> Tensor:
        """Return the vectors of atomic numbers ``number``."""
        return self.map(self.table).index_select(0, number)  # type: ignore[no-any-return]
