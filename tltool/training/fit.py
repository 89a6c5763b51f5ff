"""The training loop, the same for every mode: optimiser, schedule, early stopping, best weights."""

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from tltool import interruption
from tltool.data.batches.batches import Batches
from tltool.data.batches.tensor_table import Batch, evaluation_size
from tltool.data.record import Floats
from tltool.errors import ConfigError, NumericError, ResourceError
from tltool.model import all_reduce
from tltool.model.property_model import PropertyModel
from tltool.training import bare, cuda_graphs, distributed, loss
from tltool.training.ema import average_of, follow
from tltool.training.resume import Keeper, Parts, Progress
from tltool.training.scaled_labels import goals_of

Values = Callable[[PropertyModel, Batch], Tensor]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train.

    ``epochs``; ``batch_size`` crystals; ``loss`` l1, mse or huber on scaled labels; ``schedule`` onecycle, cosine,
    triangular or constant, ``warmup`` the fraction of steps in which onecycle rises, ``period`` the epochs in which
    triangular rises from a tenth of the rate and falls again; ``clip`` largest gradient norm or null;
    ``patience`` epochs without a better validation error before stopping, or null; ``select`` best or last weights;
    ``ema`` decay of the running average of the weights, 0 for none; ``mixed_precision`` bfloat16 on CUDA;
    ``cuda_graphs`` whether batches on CUDA are padded and replayed (see ``captured``); ``reference`` whether the scaler
    has one value per element; ``scale`` linear, minmax: from -1 to 1 over the training labels, log, or auto: log for a
    quantity that is positive and spans decades (see ``quantities``), if every training label is positive, else linear.
    Of several quantities: ``weights`` {quantity: how much its loss counts, 1 if not named}, null for alike;
    ``loss_balance`` mean, labels: each counts alike (see ``loss.of_labels``), or uncertainty (``loss.balanced``).
    """

    epochs: int
    batch_size: int
    loss: str
    schedule: str
    warmup: float
    period: int | None
    clip: float | None
    patience: int | None
    select: str
    ema: float
    mixed_precision: bool
    cuda_graphs: bool
    reference: bool
    scale: str
    weights: dict[str, float] | None
    loss_balance: str

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch_size < 1:
            raise ConfigError("fit.epochs must be 0 or more and fit.batch_size 1 or more.")
        words = {
            "schedule": ("onecycle", "cosine", "triangular", "constant"),
            "select": ("best", "last"),
            "scale": ("auto", "linear", "minmax", "log"),
        }
        for name, known in (words | {"loss_balance": ("mean", "labels", "uncertainty")}).items():
            if getattr(self, name) not in known:
                raise ConfigError(f"fit.{name}={getattr(self, name)!r} is not known; use {', '.join(known)}.")
        if any(weight <= 0 for weight in (self.weights or {}).values()):
            raise ConfigError(f"fit.weights={self.weights} must all be above 0.")
        if self.weights and self.loss_balance == "uncertainty":
            raise ConfigError("fit.loss_balance=uncertainty learns the weights; leave out fit.weights.")
        if self.weights and self.loss_balance == "labels":
            raise ConfigError("fit.loss_balance=labels counts every label alike; leave out fit.weights.")
        if self.schedule == "triangular" and (self.period is None or self.period < 2):
            raise ConfigError("fit.schedule=triangular needs fit.period, 2 epochs or more.")


@dataclass(frozen=True)
class Fit:
    """What a mode trains with: settings, an optimiser for parameter groups, the seed, and who hears of each event.

    ``together`` may train the model at once with those of other runs: it gets what ``train`` was given, and returns
    what that returns, or None to let this run train by itself. ``keeper`` keeps the state on the way.
    """

    settings: Settings
    optimiser: Callable[[list[dict[str, Any]]], Optimizer]
    learning_rate: float
    seed: int
    log: Callable[[dict[str, Any]], None]
    together: "Callable[[Training], Trained | None] | None" = None
    keeper: Keeper | None = None


class Trained(NamedTuple):
    """``epochs`` run, the one whose weights were kept, and its validation error in spreads (NaN without one)."""

    epochs: int
    best_epoch: int
    validation: float


class Training(NamedTuple):
    """What ``train`` was given."""

    model: PropertyModel
    data: Batches
    fit: Fit
    values: Values | None
    scale: Callable[[str], float]
    penalty: Callable[[], Tensor] | None
    before: Callable[[int], None] | None


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
    bare.check(model, data)
    settings = fit.settings
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not settings.epochs or not trainable:
        model.eval()
        return Trained(0, 0, float("nan"))
    if len(data.split["train"]) < 1:
        raise NumericError("There is no training row; check the split.")
    if fit.together is not None:
        trained = fit.together(Training(model, data, fit, values, scale, penalty, before))
        if trained is not None:
            return trained
    compute = values or (lambda model, batch: model.values(model.embed(batch.graph)))
    compute = distributed.shared(model, compute, settings.batch_size, fit.seed)
    weights = weights_of(settings, data)
    log_scales = torch.zeros(len(data.quantities), device=data.labels.device, requires_grad=True)
    groups = groups_of(trainable, fit.learning_rate, scale)
    if settings.loss_balance == "uncertainty":
        groups.append({"params": [log_scales], "lr": fit.learning_rate, "weight_decay": 0.0})
    optimiser = fit.optimiser(groups)
    order = torch.Generator().manual_seed(fit.seed)
    goals = goals_of(model, data)
    steps = settings.epochs * -(-len(data.split["train"]) // settings.batch_size)
    schedule = schedule_of(settings, optimiser, steps)

    def learn(batch: Batch) -> Tensor:
        """Leave the gradients of ``batch``, whose labels are goals; return its loss."""
        kind = goals.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=settings.mixed_precision and kind == "cuda"):
            found = compute(model, batch)
            means, there = loss.by_quantity(settings.loss, found, batch.labels)
            error = objective = loss.mean(means, there, weights)
            if settings.loss_balance == "uncertainty":
                objective = loss.balanced(settings.loss, means, there, log_scales)
            elif settings.loss_balance == "labels":
                objective = loss.of_labels(settings.loss, found, batch.labels)
            objective = objective if penalty is None else objective + penalty()
        optimiser.zero_grad()
        objective.backward()  # type: ignore[no-untyped-call]
        if settings.clip is not None:
            nn.utils.clip_grad_norm_([p for _, p in trainable], settings.clip)
        return error.detach()

    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    through = cuda_graphs.way(goals.device) if settings.cuda_graphs else None
    # What a mode computes from rows by itself knows of no padding; what it freezes on the way would change the step.
    # Several processes meet in the middle of a step.
    if values is not None or before is not None or all_reduce.active():
        through = None
    an_epoch = cuda_graphs.passes(replace(data, labels=goals), settings.batch_size, learn, parameters, through, fit.log)
    parts = Parts(model, optimiser, schedule, order, log_scales)
    now = fit.keeper.take_up(parts, data) if fit.keeper else Progress()
    for epoch in range(now.epoch + 1, settings.epochs + 1):
        began = time.perf_counter()
        if before is not None:
            before(epoch)
        model.train()
        total = torch.zeros((), device=data.labels.device)
        for error, held in an_epoch(order):
            optimiser.step()
            schedule.step()
            if now.average is not None:
                follow(now.average, settings.ema)
            elif settings.ema:
                now.average = average_of(model)
            total += error * held
            interruption.check()
        train_loss = float(all_reduce.total(total)) / len(data.split["train"])
        if not np.isfinite(train_loss):
            raise NumericError(f"The loss was not finite in epoch {epoch}; lower optimiser.lr or set fit.clip=1.")
        current = model if now.average is None else now.average.model
        error_in_spreads, val_mae = validate(current, data, values)
        now.epoch = epoch
        if error_in_spreads < now.best:
            now.best, now.best_epoch = error_in_spreads, epoch
            if settings.select == "best":
                now.kept = copy.deepcopy(current.state_dict())
        rate = optimiser.param_groups[0]["lr"]
        fit.log(
            {
                "event": "epoch",
                "epoch": epoch,
                "epochs": settings.epochs,
                "train_loss": train_loss,
                "val_MAE": val_mae,
                "learning_rate": rate,
                "seconds": time.perf_counter() - began,
            }
        )
        if settings.patience is not None and now.best_epoch and epoch - now.best_epoch >= settings.patience:
            break
        if fit.keeper:
            fit.keeper.keep(parts, now, last=epoch == settings.epochs)
    if now.kept is None:
        now.kept, now.best_epoch = (model if now.average is None else now.average.model).state_dict(), now.epoch
    model.load_state_dict(now.kept)
    model.eval()
    return Trained(now.epoch, now.best_epoch, now.best)


def validate(model: PropertyModel, data: Batches, values: Values | None = None) -> tuple[float, dict[str, float]]:
    """Return the validation error, in spreads of the scaler averaged over quantities, and the MAE of each in its unit.

    Without a validation row the error is infinite, so that no epoch counts as better than another.
    """
    if not len(data.split["val"]):
        return float("inf"), {}
    return errors_of(model, data, predict(model, data, "val", values))


def errors_of(model: PropertyModel, data: Batches, predicted: Floats) -> tuple[float, dict[str, float]]:
    """Return what ``validate`` does, from predictions (r, q) for the validation rows."""
    label = data.labels[data.split["val"]].cpu().numpy()
    maes: dict[str, float] = {}
    spreads: list[float] = []
    for k, name in enumerate(data.quantities):
        known = np.isfinite(label[:, k])
        if known.any():
            maes[name] = float(np.abs(predicted[known, k] - label[known, k]).mean())
            pair = torch.from_numpy(predicted[known, k]), torch.from_numpy(label[known, k].astype(np.float64))
            spreads.append(float(model.scalers[name].distance(*pair).mean()))  # type: ignore[operator]
    return (float(np.mean(spreads)) if spreads else float("inf")), maes


@torch.no_grad()
def predict(model: PropertyModel, data: Batches, part: str, values: Values | None = None) -> Floats:
    """Return predictions (r, q) for the rows of ``part``, in evaluation mode, each in the unit of its quantity."""
    bare.check(model, data)
    model.eval()

    def labels(batch: Batch) -> Tensor:
        interruption.check()
        return model.labels(values(model, batch), batch.graph) if values else model(batch.graph)

    rows = [distributed.gathered(labels, batch) for batch in data.of(part, evaluation_size(data.table))]
    if not rows:
        return np.empty((0, len(data.quantities)))
    return torch.cat(rows).double().cpu().numpy()


def weights_of(settings: Settings, data: Batches) -> Tensor | None:
    """Return (q,): how much each quantity's loss counts; None for alike."""
    if not settings.weights:
        return None
    for name in settings.weights:
        if name not in data.quantities:
            raise ConfigError(f"fit.weights: {name} is not learnt here; there are {', '.join(data.quantities)}.")
    given = [settings.weights.get(name, 1.0) for name in data.quantities]
    return torch.tensor(given, dtype=data.labels.dtype, device=data.labels.device)


def groups_of(
    trainable: Iterable[tuple[str, nn.Parameter]], rate: float, scale: Callable[[str], float]
) -> list[dict[str, Any]]:
    """One group per learning rate; vectors (biases, normalisation) take no weight decay."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in trainable:
        groups.setdefault((rate * scale(name), parameter.ndim > 1), []).append(parameter)
    return [
        {"params": members, "lr": r} | ({} if matrix else {"weight_decay": 0.0})
        for (r, matrix), members in groups.items()
    ]


def schedule_of(settings: Settings, optimiser: Optimizer, steps: int) -> LRScheduler:
    """Return what changes the learning rates of ``optimiser`` over so many ``steps``."""
    if settings.schedule == "onecycle" and steps > 2:
        rates = [group["lr"] for group in optimiser.param_groups]
        return OneCycleLR(optimiser, rates, total_steps=steps, pct_start=settings.warmup)
    if settings.schedule == "cosine":
        return CosineAnnealingLR(optimiser, steps)
    if settings.schedule == "triangular" and settings.period is not None:
        an_epoch, period = max(steps // settings.epochs, 1), settings.period
        # From a tenth of the rate to the rate and back, the same throughout an epoch.
        return LambdaLR(optimiser, lambda step: 1.0 - 0.9 * abs(2 * (step // an_epoch % period) / period - 1.0))
    return LambdaLR(optimiser, lambda step: 1.0)


def device(name: str) -> torch.device:
    """Return the device called ``name``, ``auto`` for CUDA where there is one; ResourceError if it is not there.

    Of several processes on a machine each has its own.
    """
    name = distributed.place(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise ResourceError(
            f"device={name} is not there ({str(error).splitlines()[0]}); use device=auto or cpu."
        ) from error
