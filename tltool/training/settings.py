"""Define the inputs and results of a fit as plain values; the training loop is in ``fit.py``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from tltool.data.batches.batches import Batches
from tltool.data.batches.tensor_table import Batch
from tltool.errors import ConfigError
from tltool.model.property_model import PropertyModel
from tltool.training.backend import CPU, Backend
from tltool.training.saved_state.resume import Keeper

Values = Callable[[PropertyModel, Batch], Tensor]
"""Returns network values (c, q) of a model for a batch of c crystals and q quantities."""
Further = Callable[[int], Tensor]
"""Adds the gradients of a further loss, over so many rows of its own, to those of a batch; returns that loss ()."""
Epoch = Callable[[torch.Generator, int], Iterator[tuple[Tensor, Tensor]]]
"""Yields, for each batch in random order but so many first ones, its loss and its rows.

The loss is NaN if it or the gradient is not finite.

When it yields, the gradients of that batch are there; they have to be used before the next one is asked for.
"""

_KNOWN = {
    "schedule": ("onecycle", "cosine", "triangular", "constant"),
    "select": ("best", "last"),
    "scale": ("auto", "linear", "minmax", "log"),
    "loss_balance": ("mean", "labels", "uncertainty"),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the training; their values are in ``configs/fit``."""

    epochs: int
    """Passes over the training rows; 0 leaves the model as it is."""
    batch_size: int
    """Crystals in a batch; of several processes, in the batches of all of them together."""
    loss: str
    """``l1``, ``mse`` or ``huber`` (quadratic below one standard deviation), on scaled labels."""
    schedule: str
    """How the learning rate changes: ``onecycle``, ``cosine``, ``triangular`` or ``constant``."""
    warmup: float
    """Fraction of all steps in which ``onecycle`` rises."""
    period: int | None
    """Epochs in which ``triangular`` rises from a tenth of the learning rate and falls again; 2 or more."""
    clip: float | None
    """Largest norm of the gradients of all parameters together; null for no limit."""
    patience: int | None
    """Epochs without a better validation error after which training stops; null to train all epochs."""
    select: str
    """Which weights to keep: ``best`` (lowest validation error) or ``last``."""
    ema: float
    """Decay of the EMA (exponential moving average) of the weights, which is validated and kept; 0 for none."""
    mixed_precision: bool
    """Whether the forward pass on CUDA computes in bfloat16 where PyTorch considers that safe."""
    cuda_graphs: bool
    """Whether batches on CUDA are padded to a few sizes and replayed as CUDA graphs (see ``cuda_graphs``)."""
    reference: bool
    """Whether the scaler subtracts a reference value for each element, fitted on the training rows."""
    scale: str
    """How labels are scaled.

    ``linear`` for zero mean and unit standard deviation; ``minmax`` from -1 to 1 over the training labels; ``log`` for
    the logarithm; ``auto`` for ``log`` if the quantity is positive and spans decades (see ``quantities``) and every
    training label is positive, else ``linear``.
    """
    weights: dict[str, float] | None
    """Weight of each quantity in the loss, 1 for one that is not named; null for equal weights."""
    loss_balance: str
    """How the losses of several quantities are combined.

    ``mean`` over quantities; ``labels``: every label counts alike (see ``loss.of_labels``); ``uncertainty``: the
    weights of the quantities are learnt (see ``loss.balanced``).
    """

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch_size < 1:
            raise ConfigError("fit.epochs must be 0 or more, and fit.batch_size must be 1 or more.")
        for name, known in _KNOWN.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"fit.{name}={getattr(self, name)!r} is not known; use {', '.join(known)}.")
        if any(weight <= 0 for weight in (self.weights or {}).values()):
            raise ConfigError(f"fit.weights={self.weights}: every weight must be above 0.")
        if self.weights and self.loss_balance == "uncertainty":
            raise ConfigError("fit.loss_balance=uncertainty learns the weights; leave out fit.weights.")
        if self.weights and self.loss_balance == "labels":
            raise ConfigError("fit.loss_balance=labels gives every label the same weight; leave out fit.weights.")
        if self.schedule == "triangular" and (self.period is None or self.period < 2):
            raise ConfigError("fit.schedule=triangular needs a fit.period of 2 epochs or more.")


@dataclass(frozen=True)
class Fit:
    """Everything that a mode needs for training.

    ``optimiser`` makes the optimiser from parameter groups, ``log`` gets each event, and ``backend`` has kernels,
    device and threads. ``together`` may train the model at the same time as the models of other runs: it gets the
    arguments of ``train`` and returns its result, or None to let this run train alone. ``keeper`` saves the training
    state, and ``ids`` are those of all rows of the data, for messages. ``trial`` says that the model only serves to
    compare modes and is thrown away. ``source_rows`` are rows that the source was trained on, of its own quantities,
    and its validation and test rows; None where no mode replays them.
    """

    settings: Settings
    optimiser: Callable[[list[dict[str, Any]]], Optimizer]
    learning_rate: float
    seed: int
    log: Callable[[dict[str, Any]], None]
    backend: Backend = CPU
    together: "Callable[[Training], Trained | None] | None" = None
    keeper: Keeper | None = None
    ids: Sequence[str] | None = None
    trial: bool = False
    source_rows: Batches | None = None


class Trained(NamedTuple):
    """The epochs run, the epoch whose weights were kept, and its validation error (NaN or infinite without one).

    The validation error is in standard deviations of the scaled labels.
    """

    epochs: int
    best_epoch: int
    validation: float


class Training(NamedTuple):
    """The arguments of ``fit.train``."""

    model: PropertyModel
    data: Batches
    fit: Fit
    values: Values | None
    scale: Callable[[str], float]
    penalty: Callable[[], Tensor] | None
    before: Callable[[int], None] | None
    further: Further | None = None
