"""Train several models at once: the results are the same as one after another, and the overhead of a step is paid once.

Fits that differ only in the seed, the rows and the weights of their models form one stack (``stacked_model``). A fit
whose loss is not finite does not affect the others. Sizes: s fits, c crystals per fit in a batch, r training rows, v
columns of network values.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, NAdam, RAdam, RMSprop

from tltool.data.batches.tensor_table import cut, evaluation_size
from tltool.errors import NumericError
from tltool.model.kernels.cpp_kernels import CppKernels
from tltool.sweep import stacked_batch, stacked_model
from tltool.sweep.stacked_model import Stack
from tltool.training import loss
from tltool.training.ema import Average
from tltool.training.fit import run
from tltool.training.saved_state.resume import Progress
from tltool.training.scaled_labels import goals_of
from tltool.training.settings import Fit, Trained, Training
from tltool.training.single_fit import counts_of, groups_of, schedule_of, steps_of
from tltool.training.validation import errors_of
from tltool.transfer.steps import embeddings

# Optimisers that treat each number separately, so that the arrangement in tables does not matter.
_OPTIMISERS = (AdamW, Adam, SGD, NAdam, RAdam, RMSprop)
_OF_TABLE = {
    embeddings.values_of_embedding: stacked_model.values_of_embedding,
    embeddings.values_of_hidden: stacked_model.values_of_hidden,
}
# Network values (s, c, v) of a stack for rows (s, c).
_Values = Callable[[Stack, Tensor], Tensor]


def train_all(given: Sequence[Training]) -> list[Trained | NumericError | None]:
    """Train together the fits that can be stacked; the result of a fit that must be trained alone is None."""
    found: list[Trained | NumericError | None] = [None] * len(given)
    left = {k: key for k, training in enumerate(given) if (key := _key(training)) is not None}
    while left:
        first = next(iter(left.values()))
        same = [k for k, key in left.items() if key == first]
        if len(same) > 1:
            for k, trained in zip(same, run(StackedFit([given[k] for k in same])), strict=True):
                # One whose loss is not finite is trained again, alone, where single steps can be left out.
                found[k] = None if isinstance(trained, NumericError) else trained
        left = {k: key for k, key in left.items() if k not in same}
    return found


def _key(training: Training) -> tuple[Any, ...] | None:
    """Return a key that is equal for trainings that can be stacked; None for a training that must be done alone."""
    model, data, fit, values, scale, penalty, before, further = training
    shape = stacked_model.alike(model, _cpp(fit))
    own = any(one is not None for one in (penalty, before, further))
    if shape is None or own or fit.settings.loss_balance != "mean":
        return None
    if values is not None and not (isinstance(values, partial) and values.func in _OF_TABLE):
        return None
    if type(fit.optimiser([{"params": [torch.zeros(1)], "lr": fit.learning_rate}])) not in _OPTIMISERS:
        return None
    rates = [scale(name) for name, p in model.named_parameters() if p.requires_grad]
    table = data.table.neighbour.data_ptr(), len(data.table.neighbour), len(data.table)
    sizes = len(data.split["train"]), len(data.split["val"])
    kind = values.func if isinstance(values, partial) else None
    weighted = data.weight is not None, data.deviation is not None
    return shape, fit.settings, fit.learning_rate, rates, table, sizes, data.quantities, kind, weighted


def _cpp(fit: Fit) -> CppKernels | None:
    return None if fit.backend.kernels is None else fit.backend.kernels.cpp


class StackedFit:
    """Several models of one shape with one optimiser: a learner of the loop in ``training/fit``.

    Each has its own order of rows, clipping, EMA, best weights and early stop. Weights of a fit are a list of tensors.
    """

    def __init__(self, given: Sequence[Training]) -> None:
        data, fit = given[0].data, given[0].fit
        self.given, self.fits, self.settings = given, [t.fit for t in given], fit.settings
        self.average: Average[Stack] | None = None
        self.n_rows, self.device = len(data.split["train"]), data.labels.device
        cpp = _cpp(fit)
        if cpp is None:
            raise TypeError("Only compiled kernels compute several models at once; see stacked_model.alike.")
        self._cpp = cpp
        groups = _groups(given[0])
        self._groups = [names for names, _ in groups]
        self.stack = stacked_model.stack_of(self._cpp, [t.model for t in given], self._groups)
        self._begun = [table.clone() for table in self.stack.numbers]
        self.optimiser = fit.optimiser(
            [{"params": [table], **keys} for table, (_, keys) in zip(self.stack.learnt, groups, strict=True)]
        )
        for table, slope in zip(self.stack.learnt, self.stack.slopes, strict=True):
            table.grad = slope
        self.schedule = schedule_of(self.settings, self.optimiser, steps_of(self.settings, self.n_rows))
        self._weights = loss.weights_of(self.settings.weights, data)
        self._loss_groups = _loss_groups(given)
        counts = [found for t in given if (found := counts_of(t.model, t.data)) is not None]
        self._counts = torch.stack(counts) if counts else None
        self._goals = torch.stack([goals_of(t.model, t.data) for t in given])
        self._orders = [torch.Generator().manual_seed(t.fit.seed) for t in given]
        self._values = _values(given)
        self._validated = _validation(given, self._values)

    def begin(self) -> list[Progress]:
        """Return the beginning of each fit."""
        return [Progress() for _ in self.given]

    keeps = False

    def batches(self, epoch: int, done: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the losses (s,) and rows (s, c) of each batch of ``epoch``, after computing its gradients."""
        stack, names = self.stack, [name for group in self._groups for name in group]
        learning, places = [stack.tables[name] for name in names], [stack.places[name] for name in names]
        stack.models[0].train()
        for rows in cut(self._order(), self.settings.batch_size, shuffled=True):
            errors = self._errors(rows)
            torch._foreach_copy_(places, torch.autograd.grad(errors.sum(), learning))
            norms = _norms(stack.slopes)
            if self.settings.clip is not None:
                _clip(stack.slopes, norms, self.settings.clip)
            yield errors.detach() + 0.0 * norms, rows

    def advance(self, losses: Tensor, rows: Tensor, epoch: int) -> Tensor:
        """Take the step of a batch. A fit whose losses are not finite is spoilt, and trained alone afterwards."""
        self.optimiser.step()
        return losses

    def left_out(self, epoch: int) -> list[int]:
        """Return that no crystal was left out."""
        return [0] * len(self.given)

    def out_of_memory(self) -> str:
        """Return a sentence for a step that needed too much memory."""
        return f"Out of memory with {len(self.given)} models at once; lower fit.batch_size, or start fewer runs."

    def start_average(self) -> None:
        """Start the EMA of the weights of all models from their current values."""
        mean = stacked_model.stack_of(self._cpp, copy.deepcopy(self.stack.models), self._groups)
        self.average = Average(mean, mean.numbers, self.stack.numbers)

    def validate(self) -> list[tuple[float, dict[str, float]]]:
        """Return what ``validation.validate`` returns for each model, of the EMA if there is one."""
        return self._validated(self._current())

    def weights(self, number: int) -> list[Tensor]:
        """Return a copy of the weights of one model, of the EMA if there is one."""
        return [table[number].clone() for table in self._current().numbers]

    def save(self, progress: Sequence[Progress], *, last: bool = False, at_once: bool = False) -> None:
        """Save nothing: the runs of a sweep are not resumed."""

    def finish(self, weights: Sequence[Any]) -> None:
        """Load the selected weights of each model, or those it began with, and leave it in evaluation mode."""
        for k, training in enumerate(self.given):
            own = [table[k] for table in self._begun] if weights[k] is None else weights[k]
            for table, row in zip(self.stack.numbers, own, strict=True):
                table[k] = row
            training.model.eval()
        stacked_model.part(self.stack)

    def _current(self) -> Stack:
        return self.stack if self.average is None else self.average.model

    def _order(self) -> Tensor:
        """Return (s, r): the training rows of each fit, shuffled."""
        return torch.stack([
            t.data.split["train"][torch.randperm(self.n_rows, generator=generator)]
            for t, generator in zip(self.given, self._orders, strict=True)
        ])  # fmt: skip

    def _errors(self, rows: Tensor) -> Tensor:
        """Return the loss (s,) of each model for its ``rows`` (s, c)."""
        count = len(self.given)
        goals = self._goals[torch.arange(count)[:, None], rows]
        values, targets = (table.transpose(0, 1).flatten(1) for table in (self._values(self.stack, rows), goals))
        of_rows = None if self._counts is None else self._counts[torch.arange(count)[:, None], rows]
        counts = None if of_rows is None else of_rows.transpose(0, 1).flatten(1)
        found = loss.by_quantity(self.settings.loss, values, targets, self._loss_groups, counts)
        means, there = (of_all.view(count, -1) for of_all in found)
        return loss.mean(means, there, self._weights)


def _loss_groups(given: Sequence[Training]) -> loss.Groups:
    """Return the columns of the quantities of every model, side by side; None where all are numbers."""
    one, width = loss.groups_of(given[0].data, given[0].model), given[0].data.labels.shape[1]
    if one is None:
        return None
    first = range(0, width * len(given), width)
    return tuple(group._replace(at=slice(group.at.start + k, group.at.stop + k)) for k in first for group in one)


def _groups(training: Training) -> list[tuple[list[str], dict[str, Any]]]:
    """Return the names and optimiser keys of each group of trainable parameters, as in ``single_fit``."""
    model, data, fit = training.model, training.data, training.fit
    names = {p: name for name, p in model.named_parameters()}
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    # A parameter that does not enter the values gets no gradient, and the optimiser does not change it.
    model.eval()
    batch = next(data.of("train", 2))
    values = training.values(model, batch) if training.values else model.values(model.embed(batch.graph))
    reached = torch.autograd.grad(values.sum(), [p for _, p in trainable], allow_unused=True)
    used = [pair for pair, slope in zip(trainable, reached, strict=True) if slope is not None]
    groups = groups_of(used, fit.learning_rate, training.scale)
    return [
        ([names[p] for p in group["params"]], {k: v for k, v in group.items() if k != "params"}) for group in groups
    ]


def _values(given: Sequence[Training]) -> _Values:
    """Return a function that computes the network values of a stack for rows (s, c)."""
    values = given[0].values
    if isinstance(values, partial):
        compute = _OF_TABLE[values.func]
        tables = torch.stack([t.values.args[0] for t in given if isinstance(t.values, partial)])
        which = torch.arange(len(given))[:, None]
        return lambda whole, rows: compute(whole, tables[which, rows])
    table = given[0].data.table
    return lambda whole, rows: stacked_model.values(whole, *stacked_batch.select(table, rows))


def _validation(given: Sequence[Training], compute: _Values) -> Callable[[Stack], list[tuple[float, dict[str, float]]]]:
    """Return the result of ``validation.validate`` for every model of a stack; each graph is built only once."""
    rows = torch.stack([t.data.split["val"] for t in given])
    if not rows.shape[1]:
        return lambda whole: [(float("inf"), {})] * len(given)
    steps = torch.split(rows, evaluation_size(given[0].data.table), dim=1)
    graphs = [stacked_batch.select(given[0].data.table, step) for step in steps] if given[0].values is None else []
    whole_graphs = [t.data.graph("val") for t in given]

    @torch.no_grad()
    def validated(whole: Stack) -> list[tuple[float, dict[str, float]]]:
        whole.models[0].eval()
        parts = [stacked_model.values(whole, *pair) for pair in graphs] or [compute(whole, step) for step in steps]
        values = torch.cat(parts, dim=1)
        labels = [
            t.model.labels(values[k], graph) for k, (t, graph) in enumerate(zip(given, whole_graphs, strict=True))
        ]
        return [errors_of(t.model, t.data, found.double().numpy()) for t, found in zip(given, labels, strict=True)]

    return validated


@torch.no_grad()
def _norms(slopes: Sequence[Tensor]) -> Tensor:
    """Return the norm (s,) of all gradients (s, p) of every model."""
    of_tables = torch.stack([torch.linalg.vector_norm(slope, dim=1) for slope in slopes])
    norms: Tensor = torch.linalg.vector_norm(of_tables, dim=0)
    return norms


@torch.no_grad()
def _clip(slopes: Sequence[Tensor], norms: Tensor, largest: float) -> None:
    """Scale the gradients (s, p) of every model so that their norm, which is in ``norms``, is at most ``largest``."""
    factor = (largest / (norms + 1e-6)).clamp_max(1.0)[:, None]
    for slope in slopes:
        slope *= factor
