"""Compute the weights of a small network for each row by another network, as in the site update of CGAT."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LAYERS, _DEPTH = 4, 4


class Writer(nn.Module):
    """Computes the weights of one linear map for each row. (r, f) -> (r, f, f) and (r, 1, f)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.hidden = nn.ModuleList(nn.Linear(dim, dim) for _ in range(_DEPTH))
        self.last = nn.Linear(dim, dim * dim + dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the weights as published: the last map has a tenth of the standard deviation of the others."""
        for part in (*self.hidden, self.last):
            part.reset_parameters()
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        with torch.no_grad():
            self.last.weight *= 0.1

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and biases for ``rows``."""
        for part in self.hidden:
            rows = torch.tanh(part(rows))
        written = self.last(rows)
        square = self.dim * self.dim
        return written[:, :square].view(-1, self.dim, self.dim), written[:, None, square:]


class Hypernetwork(nn.Module):
    """Four layers on the message, with normalisation and tanh; their weights depend on the start and the message.

    In the ``first`` block the weights depend on the start only, later on a learned mixture of both. (r, f) -> (r, f).
    """

    def __init__(self, dim: int, *, first: bool) -> None:
        super().__init__()
        self.writers = nn.ModuleList(Writer(dim) for _ in range(_LAYERS))
        self.mixture = None if first else nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the mixture."""
        if self.mixture is not None:
            nn.init.uniform_(self.mixture, 0.0, 1.0)

    def forward(self, start: Tensor, message: Tensor) -> Tensor:
        """Return the update for ``message`` (r, f) of rows that began as ``start`` (r, f)."""
        condition = start
        if self.mixture is not None:
            condition = torch.lerp(message, start, self.mixture.clamp(0.0, 1.0))
        rows = message[:, None]
        for k, writer in enumerate(self.writers):
            weights, biases = writer(condition)
            if k:
                rows = torch.tanh(F.layer_norm(rows, rows.shape[-1:]))
            rows = torch.baddbmm(biases, rows, weights)
        return rows[:, 0]
