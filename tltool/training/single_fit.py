"""The training step of one model, for the loop in ``fit``: loss, gradients, optimiser, learning rates.

Sizes: c crystals in a batch, q quantities.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from tltool.data.batches.batches import Batches
from tltool.data.batches.tensor_table import Batch
from tltool.errors import is_out_of_memory
from tltool.model import all_reduce
from tltool.model.property_model import PropertyModel
from tltool.training import distributed, loss
from tltool.training.bad_steps import BadSteps
from tltool.training.ema import Average, average_of
from tltool.training.saved_state.resume import Progress
from tltool.training.scaled_labels import goals_of, label_weights
from tltool.training.settings import Epoch, Further, Settings, Training, Values
from tltool.training.validation import validate


class SingleFit:
    """One model with its optimiser, learning-rate schedule and order of batches: a learner of the loop."""

    def __init__(self, training: Training) -> None:
        model, data, fit = training.model, training.data, training.fit
        self.training, self.model, self.fits, self.settings = training, model, [fit], fit.settings
        self.average: Average[PropertyModel] | None = None
        self.n_rows, self.device = len(data.split["train"]), data.labels.device
        compute = distributed.shared(model, training.values or _values, self.settings.batch_size, fit.seed)
        self.log_scales = torch.zeros(len(data.quantities), device=self.device, requires_grad=True)
        trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        groups = groups_of(trainable, fit.learning_rate, training.scale)
        if self.settings.loss_balance == "uncertainty":
            groups.append({"params": [self.log_scales], "lr": fit.learning_rate, "weight_decay": 0.0})
        self.optimiser = fit.optimiser(groups)
        self.order = torch.Generator().manual_seed(fit.seed)
        self.drawn = self.order.get_state()
        self._bad = BadSteps(model, fit)
        self.schedule = schedule_of(self.settings, self.optimiser, steps_of(self.settings, self.n_rows))
        step = Step(
            model=model,
            compute=compute,
            settings=self.settings,
            weights=loss.weights_of(self.settings.weights, data),
            groups=loss.groups_of(data, model),
            counts=counts_of(model, data),
            penalty=training.penalty,
            further=training.further,
            log_scales=self.log_scales,
            optimiser=self.optimiser,
            clipped=[p for _, p in trainable],
        )
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        self._learn, self._goals = step, goals_of(model, data)
        scaled = replace(data, labels=self._goals)
        self._epoch = passes(scaled, self.settings.batch_size, step, parameters, fit.log, _replayable(training))

    def begin(self) -> list[Progress]:
        """Return the progress of the training: the beginning, or the saved state that it continues from."""
        keeper = self.fits[0].keeper
        return [keeper.take_up(self, self.training.data) if keeper else Progress()]

    @property
    def keeps(self) -> bool:
        """Whether the training state can be saved."""
        return self.fits[0].keeper is not None

    def batches(self, epoch: int, done: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the loss () and the rows (c,) of each batch of ``epoch``, after computing its gradients.

        The first ``done`` batches are left out.
        """
        if self.training.before is not None:
            self.training.before(epoch)
        self.model.train()
        self.drawn = self.order.get_state()
        self._bad.begin()
        return self._epoch(self.order, done)

    def advance(self, loss: Tensor, rows: Tensor, epoch: int) -> Tensor:
        """Take the step of a batch, or leave it out if its ``loss`` or gradient is not finite; return its loss or 0.

        Raise NumericError if too many steps were left out.
        """
        return self._bad.advance(self.optimiser, loss, rows, epoch)

    def left_out(self, epoch: int) -> list[int]:
        """Return the number of crystals in steps of ``epoch`` that were left out, after its last step."""
        return [self._bad.count(epoch, self.average)]

    def out_of_memory(self) -> str:
        """Return a sentence for a step that needed too much memory, with the largest batch size that fits by halves.

        It is tried on the largest crystals, in steps that change no weights.
        """
        wanted = size = self.settings.batch_size
        while (size := size // 2) and not self._has_room(size):
            pass
        keeper = self.fits[0].keeper
        saved = ""
        if keeper is not None and keeper.minutes is not None:
            saved = f" To go on, use resume={keeper.folder} resume_allow=[fit.batch_size]."
        if not size:
            return f"Out of memory, even for one crystal in a batch; use a smaller network or another device.{saved}"
        return f"Out of memory with fit.batch_size={wanted}; fit.batch_size={size} fits.{saved}"

    def _has_room(self, size: int) -> bool:
        """Say if a step with the ``size`` largest training crystals has room in memory."""
        data, rows = self.training.data, self.training.data.split["train"]
        first = data.table.first_edge[data.table.first_node]
        largest = rows[(first[rows + 1] - first[rows]).argsort(descending=True)[:size]]
        self.optimiser.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            self._learn(Batch(data.table, self._goals[largest], largest))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    def start_average(self) -> None:
        """Start the EMA of the weights from their present values."""
        self.average = average_of(self.model)

    def validate(self) -> list[tuple[float, dict[str, float]]]:
        """Return what ``validation.validate`` returns, of the EMA if there is one."""
        return [validate(self._current(), self.training.data, self.training.values)]

    def weights(self, number: int) -> dict[str, Tensor]:
        """Return a copy of the weights, of the EMA if there is one."""
        return copy.deepcopy(self._current().state_dict())

    def save(self, progress: Sequence[Progress], *, last: bool = False, at_once: bool = False) -> None:
        """Save the training state if the run has a keeper, and the last save was long enough ago or it is ``at_once``.

        ``last``: this was the last epoch.
        """
        if (keeper := self.fits[0].keeper) and (at_once or not self._bad.now):
            keeper.keep(self, progress[0], last=last, at_once=at_once)

    def finish(self, weights: Sequence[Any]) -> None:
        """Load the selected weights, if any, and leave the model in evaluation mode."""
        if weights[0] is not None:
            self.model.load_state_dict(weights[0])
        self.model.eval()

    def _current(self) -> PropertyModel:
        return self.model if self.average is None else self.average.model


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step that computes the gradients of a batch; ``clipped`` are the parameters whose gradients are clipped.

    ``counts`` (n + 1, q) says how much each label counts, with a last row for padding; None for equally much.
    """

    model: PropertyModel
    compute: Values
    settings: Settings
    weights: Tensor | None
    groups: loss.Groups
    counts: Tensor | None
    penalty: Callable[[], Tensor] | None
    further: Further | None
    log_scales: Tensor
    optimiser: Optimizer
    clipped: list[nn.Parameter]

    def __call__(self, batch: Batch) -> Tensor:
        """Compute the gradients of ``batch``, whose labels are scaled, and return its loss (), NaN for a bad one."""
        kind = batch.labels.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.settings.mixed_precision and kind == "cuda"):
            error, objective = self._losses(batch)
        self.optimiser.zero_grad()
        objective.backward()  # type: ignore[no-untyped-call]
        other = None if self.further is None else self.further(len(batch.rows))
        norm = clipped([p.grad for p in self.clipped if p.grad is not None], self.settings.clip)
        # NaN if the gradient is not finite: one number says whether the step can be taken.
        found = error.detach() + 0.0 * norm
        return found if other is None else found + 0.0 * other

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss for the log, and the objective that is minimised."""
        kind, balance = self.settings.loss, self.settings.loss_balance
        found = self.compute(self.model, batch)
        counts = None if self.counts is None else self.counts[batch.rows]
        means, there = loss.by_quantity(kind, found, batch.labels, self.groups, counts)
        error = objective = loss.mean(means, there, self.weights)
        if balance == "uncertainty":
            objective = loss.balanced(kind, means, there, self.log_scales)
        elif balance == "labels":
            objective = loss.of_labels(kind, found, batch.labels, self.groups, counts)
        return error, objective if self.penalty is None else objective + self.penalty()


@torch.no_grad()
def clipped(gradients: list[Tensor], largest: float | None) -> Tensor:
    """Return the norm () of all ``gradients`` together, after scaling those down whose norm is above ``largest``.

    The formula of ``torch.nn.utils.clip_grad_norm_``, without its sorting of tensors by device and kind.
    """
    if not gradients:
        return torch.zeros(())
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if largest is not None:
        torch._foreach_mul_(gradients, (largest / (norm + 1e-6)).clamp(max=1.0))
    return norm


def counts_of(model: PropertyModel, data: Batches) -> Tensor | None:
    """Return (n + 1, q): how much each label counts in the loss (``label_weights``), 0 for padding; None if equally."""
    found = label_weights(data, dict(model.scalers.items()))
    return None if found is None else torch.cat([found, found.new_zeros(1, found.shape[1])])


def passes(
    data: Batches,
    size: int,
    learn: Callable[[Batch], Tensor],
    parameters: Sequence[nn.Parameter],
    log: Callable[[dict[str, Any]], None],
    replayable: bool,
) -> Epoch:
    """Return a function that runs an epoch of batches of ``size`` crystals, as CUDA graphs if ``replayable``.

    ``learn`` leaves the gradients of a batch, of ``parameters``, and returns its loss. ``cuda_graphs`` is an optional
    module: where it is not there, or not for this device, batches go one by one.
    """
    if replayable and find_spec("tltool.training.cuda_graphs"):
        from tltool.training import cuda_graphs

        if through := cuda_graphs.way(data.labels.device):
            return cuda_graphs.padded_passes(data, size, learn, parameters, through, log)

    def epoch(order: torch.Generator, done: int) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in islice(distributed.parts(data.of("train", size, order)), done, None):
            yield learn(batch), batch.rows

    return epoch


def _replayable(training: Training) -> bool:
    """Return whether every step does the same operations on padded batches.

    What a mode computes from rows by itself, or of other rows, knows of no padding; what it freezes on the way would
    change the step. Several processes meet in the middle of a step.
    """
    given = (training.values, training.before, training.further, training.data.table.conditions)
    own = any(one is not None for one in given)
    return training.fit.settings.cuda_graphs and not own and not all_reduce.active()


def _values(model: PropertyModel, batch: Batch) -> Tensor:
    return model.values(model.embed(batch.graph))


def groups_of(
    trainable: Iterable[tuple[str, nn.Parameter]], rate: float, scale: Callable[[str], float]
) -> list[dict[str, Any]]:
    """Return one parameter group per learning rate; vectors (biases, normalisation) take no weight decay."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in trainable:
        groups.setdefault((rate * scale(name), parameter.ndim > 1), []).append(parameter)
    return [
        {"params": members, "lr": r} | ({} if matrix else {"weight_decay": 0.0})
        for (r, matrix), members in groups.items()
    ]


def steps_of(settings: Settings, rows: int) -> int:
    """Return the number of steps that ``settings`` take over so many training ``rows``."""
    return settings.epochs * -(-rows // settings.batch_size)


def schedule_of(settings: Settings, optimiser: Optimizer, steps: int) -> LRScheduler:
    """Return the schedule that changes the learning rates of ``optimiser`` over so many ``steps``."""
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
