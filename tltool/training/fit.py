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
from tltool.errors import NumericError, ResourceError, is_out_of_memory
from tltool.model import all_reduce
from tltool.model.property_model import PropertyModel
from tltool.training import distributed
from tltool.training.ema import Average, follow
from tltool.training.saved_state.resume import Progress
from tltool.training.settings import Fit, Further, Settings, Trained, Training, Values
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
    further: Further | None = None,
) -> Trained:
    """Train ``model`` in place on ``data`` and leave it with the selected weights, in evaluation mode.

    ``values`` gives network values (c, q) of a model for a batch, by default the whole model's; ``scale`` the
    learning-rate factor of a parameter by name; ``penalty`` a term added to the loss; ``before`` is called with the
    number of each epoch (from 1) and may freeze and release parameters; ``further`` adds the gradients of another loss
    to those of each batch. Raises NumericError when the loss is not finite, and ConfigError for formulas with a model
    that needs structures.
    """
    check_structures(model, data)
    fit.backend.prepare(model)
    if not fit.settings.epochs or not any(p.requires_grad for p in model.parameters()):
        model.eval()
        return Trained(0, 0, float("nan"))
    if len(data.split["train"]) < 1:
        raise NumericError("There are no training rows; check the split.")
    training = Training(model, data, fit, values, scale, penalty, before, further)
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

    @property
    def keeps(self) -> bool:
        """Whether the training state can be saved."""

    def begin(self) -> list[Progress]:
        """Return the progress of each fit: the beginning, or a saved state."""

    def batches(self, epoch: int, done: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the losses, (s,) or () for one fit, and the rows (..., c) of each batch, after computing its gradients.

        The first ``done`` batches of the epoch, which a saved state has, are left out.
        """

    def advance(self, losses: Tensor, rows: Tensor, epoch: int) -> Tensor:
        """Take the step of a batch, if its ``losses`` and gradients are finite; return the losses that count."""

    def left_out(self, epoch: int) -> list[int]:
        """Return for each fit how many crystals were in steps of ``epoch`` that were left out."""

    def out_of_memory(self) -> str:
        """Return a sentence for a step that needed too much memory, with a batch size that fits."""

    def start_average(self) -> None:
        """Start ``average``, the EMA, from the current weights."""

    def validate(self) -> list[tuple[float, dict[str, float]]]:
        """Return the validation error of each fit and the MAE of each quantity, of the EMA if there is one."""

    def weights(self, number: int) -> Any:
        """Return a copy of the weights of the fit of this ``number``, of the EMA if there is one."""

    def save(self, progress: Sequence[Progress], *, last: bool = False, at_once: bool = False) -> None:
        """Save the training state if the last save was long enough ago, or ``at_once``; ``last``: the last epoch."""

    def finish(self, weights: Sequence[Any]) -> None:
        """Load the selected weights of each fit, None for one that failed, and leave the models in evaluation mode."""


def run(learner: Learner) -> list[Trained | NumericError]:
    """Train the fits of ``learner``; return the result of each, or a NumericError if its loss was not finite.

    If it is interrupted between two steps, the state is saved there.
    """
    progress = learner.begin()
    results: list[Trained | NumericError | None] = [None] * len(progress)
    with interruption.deferred(learner.keeps):
        try:
            _train_epochs(learner, progress, results)
        except (KeyboardInterrupt, SystemExit):
            learner.save(progress, at_once=True)
            raise
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            learner.save(progress, at_once=True)
            raise ResourceError(learner.out_of_memory()) from error
    found = [result or _result(learner, k, progress[k]) for k, result in enumerate(results)]
    learner.finish([None if isinstance(r, NumericError) else now.kept for r, now in zip(found, progress, strict=True)])
    return found


def _train_epochs(learner: Learner, progress: Sequence[Progress], results: list[Trained | NumericError | None]) -> None:
    settings = learner.settings
    for epoch in range(progress[0].epoch + 1, settings.epochs + 1):
        began = time.perf_counter()
        losses = _train_epoch(learner, epoch, progress)
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
        progress[0].steps, progress[0].total = 0, None
        if None not in results:
            break
        learner.save(progress, last=epoch == settings.epochs)


def _train_epoch(learner: Learner, epoch: int, progress: Sequence[Progress]) -> list[float]:
    """Run the steps of one epoch that are left; return the mean loss per crystal of each fit (s,).

    The first of ``progress`` counts the steps.
    """
    decay, now = learner.settings.ema, progress[0]
    total = torch.zeros(len(learner.fits), device=learner.device) if now.total is None else now.total
    for losses, rows in learner.batches(epoch, now.steps):
        counted = learner.advance(losses, rows, epoch)
        learner.schedule.step()
        if learner.average is not None:
            follow(learner.average, decay)
        elif decay:
            learner.start_average()
        total += counted * rows.shape[-1]
        now.steps, now.total = now.steps + 1, total
        learner.save(progress)
        distributed.check(now)
    left = torch.tensor(learner.left_out(epoch), dtype=torch.float64, device=total.device)
    # Without any step that counts, the mean is no number.
    mean: list[float] = (all_reduce.total(total).double() / (learner.n_rows - all_reduce.total(left))).tolist()
    return mean


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
