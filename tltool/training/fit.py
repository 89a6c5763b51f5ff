"""Run the training loop, which is the same for every mode: epochs, EMA, early stopping, best weights.

There is one loop. What differs between one model (``single_fit``), one model replayed as CUDA graphs (``cuda_graphs``)
and several models at once (``sweep/stacked_fit``) is the learner that the loop is given. Sizes: s fits at once.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tltool import interruption
from tltool.data.batches.batches import Batches
from tltool.errors import NumericError
from tltool.model import all_reduce
from tltool.model.property_model import PropertyModel
from tltool.training import distributed
from tltool.training.ema import Average, follow
from tltool.training.resume import Progress
from tltool.training.settings import Fit, Settings, Trained, Training, Values
from tltool.training.single_fit import SingleFit
from tltool.training.validation import check_structures, predict, validate

__all__ = ["Fit", "Settings", "Trained", "Training", "Values", "predict", "run", "train", "validate"]


@distributed.together
def train(
    model: PropertyModel,
    data: Batches,
    fit: Fit,
    *,
    values: Values | None = None,
    scale: Callable[[str], float] = lambda name: 1.0,
    penalty: Callable[[], Tensor] | None = None,
    before: Callable[[int], None] | None = None,
) -> Trained:
    """Train ``model`` in place on ``data`` and leave it with the selected weights, in evaluation mode.

    ``values`` gives network values (c, q) of a model for a batch, by default the whole model's; ``scale`` the
    learning-rate factor of a parameter by name; ``penalty`` a term added to the loss; ``before`` is called with the
    number of each epoch (from 1) and may freeze and release parameters. Raises NumericError when the loss is not
    finite, and ConfigError for formulas with a model that needs structures.
    """
    check_structures(model, data)
    fit.backend.prepare(model)
    if not fit.settings.epochs or not any(p.requires_grad for p in model.parameters()):
        model.eval()
        return Trained(0, 0, float("nan"))
    if len(data.split["train"]) < 1:
        raise NumericError("There are no training rows; check the split.")
    training = Training(model, data, fit, values, scale, penalty, before)
    result: Trained | NumericError | None = None
    if fit.together is not None:
        result = fit.together(training)
    if result is None:
        [result] = run(SingleFit(training))
    if isinstance(result, NumericError):
        raise result
    return result


class Learner(Protocol):
    """The interface that the loop trains: s fits with the same settings, which take their steps together."""

    fits: list[Fit]
    """The s fits; each gets its own events."""
    settings: Settings
    n_rows: int
    """Training rows of each fit."""
    device: torch.device
    optimiser: Optimizer
    schedule: LRScheduler
    average: Average[Any] | None
    """The EMA of the weights, None before the first step and without one."""

    def begin(self) -> list[Progress]:
        """Return the progress of each fit: the beginning, or a saved state."""

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, int]]:
        """Yield the losses, (s,) or () for one fit, and the crystals of each batch, after computing its gradients."""

    def start_average(self) -> None:
        """Start ``average``, the EMA, from the current weights."""

    def validate(self) -> list[tuple[float, dict[str, float]]]:
        """Return the validation error of each fit and the MAE of each quantity, of the EMA if there is one."""

    def weights(self, number: int) -> Any:
        """Return a copy of the weights of the fit of this ``number``, of the EMA if there is one."""

    def save(self, progress: Sequence[Progress], *, last: bool) -> None:
        """Save the training state if the last save was long enough ago; ``last``: this was the last epoch."""

    def finish(self, weights: Sequence[Any]) -> None:
        """Load the selected weights of each fit, None for none, and leave the models in evaluation mode."""


def run(learner: Learner) -> list[Trained | NumericError]:
    """Train the fits of ``learner``; return the result of each, or a NumericError if its loss was not finite."""
    settings, progress = learner.settings, learner.begin()
    results: list[Trained | NumericError | None] = [None] * len(progress)
    for epoch in range(progress[0].epoch + 1, settings.epochs + 1):
        began = time.perf_counter()
        losses = _train_epoch(learner, epoch)
        for k, loss in enumerate(losses):
            if results[k] is None and not np.isfinite(loss):
                results[k] = NumericError(
                    f"The loss was not finite in epoch {epoch}; lower optimiser.lr or set fit.clip=1."
                )
        if None not in results:
            break
        for k, (error, maes) in enumerate(learner.validate()):
            if results[k] is None:
                _select(learner, k, progress[k], epoch, error)
                _log(learner, k, epoch, losses[k], maes, time.perf_counter() - began)
                if _out_of_patience(settings, progress[k]):
                    results[k] = _result(learner, k, progress[k])
        if None not in results:
            break
        learner.save(progress, last=epoch == settings.epochs)
    found = [result or _result(learner, k, progress[k]) for k, result in enumerate(results)]
    learner.finish([now.kept for now in progress])
    return found


def _train_epoch(learner: Learner, epoch: int) -> list[float]:
    """Run the steps of one epoch; return the mean loss per crystal of each fit (s,)."""
    decay = learner.settings.ema
    total = torch.zeros(len(learner.fits), device=learner.device)
    for losses, crystals in learner.batches(epoch):
        learner.optimiser.step()
        learner.schedule.step()
        if learner.average is not None:
            follow(learner.average, decay)
        elif decay:
            learner.start_average()
        total += losses * crystals
        interruption.check()
    return [float(loss) / learner.n_rows for loss in all_reduce.total(total)]


def _select(learner: Learner, k: int, now: Progress, epoch: int, error: float) -> None:
    """Record the validation ``error`` of fit ``k``, and keep its weights if they are the best so far."""
    now.epoch = epoch
    if error < now.best:
        now.best, now.best_epoch = error, epoch
        if learner.settings.select == "best":
            now.kept = learner.weights(k)


def _log(learner: Learner, k: int, epoch: int, loss: float, maes: dict[str, float], seconds: float) -> None:
    learner.fits[k].log(
        {
            "event": "epoch",
            "epoch": epoch,
            "epochs": learner.settings.epochs,
            "train_loss": loss,
            "val_MAE": maes,
            "learning_rate": learner.optimiser.param_groups[0]["lr"],
            "seconds": seconds,
        }
    )


def _out_of_patience(settings: Settings, now: Progress) -> bool:
    """Return whether the validation error has not improved for ``settings.patience`` epochs."""
    return settings.patience is not None and bool(now.best_epoch) and now.epoch - now.best_epoch >= settings.patience


def _result(learner: Learner, k: int, now: Progress) -> Trained:
    """Return the result of fit ``k`` at its end; keep its last weights if no better ones were kept."""
    if now.kept is None:
        now.kept, now.best_epoch = learner.weights(k), now.epoch
    learner.fits[k].log({"event": "kept", "epoch": now.best_epoch})
    return Trained(now.epoch, now.best_epoch, now.best)
