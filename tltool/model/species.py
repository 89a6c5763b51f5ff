"""From an atomic number to the first features of a site."""

import torch
from torch import Tensor, nn

from tltool.elements import descriptors
from tltool.errors import ConfigError


class Species(nn.Module):
    """A vector for each element, a linear map of a fixed table. (...,) -> (..., dim).

    ``elements``: ``descriptors`` maps the fixed element table, so that an element not seen in training is placed by
    its neighbours in the periodic table; ``learned`` gives each its own vector.
    """

    table: Tensor

    def __init__(self, dim: int, elements: str) -> None:
        super().__init__()
        if elements not in ("learned", "descriptors"):
            raise ConfigError(f"encoder.elements={elements!r} is not known; use descriptors or learned.")
        table = torch.from_numpy(descriptors()) if elements == "descriptors" else torch.eye(119)
        self.register_buffer("table", table, persistent=False)
        self.map = nn.Linear(table.shape[1], dim, bias=False)

    def forward(self, number: Tensor) -> Tensor:
        """Return the vectors of atomic numbers ``number``."""
        return self.map(self.table).index_select(0, number)  # type: ignore[no-any-return]
