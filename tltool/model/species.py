"""What an encoder knows of an element before training, and from it the first features of a site."""

import torch
from torch import Tensor, nn

from tltool.elements import descriptors
from tltool.errors import ConfigError


def table(elements: str) -> Tensor:
    """Return (119, k) by atomic number: ``descriptors``, the fixed element table, or ``learned``, one-hot rows.

    With descriptors an element not seen in training is placed by its neighbours in the periodic table; with learned a
    linear map of the table is a vector of its own for each element. Raises ConfigError for another word.
    """
    if elements not in ("learned", "descriptors"):
        raise ConfigError(f"encoder.elements={elements!r} is not known; use descriptors or learned.")
    return torch.from_numpy(descriptors()) if elements == "descriptors" else torch.eye(119)


class Species(nn.Module):
    """A vector for each element, a linear map of a fixed table. (...,) -> (..., dim).

    ``elements``: ``descriptors`` maps the fixed element table, so that an element not seen in training is placed by
    its neighbours in the periodic table; ``learned`` gives each its own vector.
    """

    table: Tensor

    def __init__(self, dim: int, elements: str) -> None:
        super().__init__()
        known = table(elements)
        self.register_buffer("table", known, persistent=False)
        self.map = nn.Linear(known.shape[1], dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the map so that the vectors have unit spread: most rows of the table are zeros."""
        nn.init.normal_(self.map.weight, std=float(self.table[1:].sum(1).mean()) ** -0.5)

    def forward(self, number: Tensor) -> Tensor:
        """Return the vectors of atomic numbers ``number``."""
        return self.map(self.table).index_select(0, number)  # type: ignore[no-any-return]
