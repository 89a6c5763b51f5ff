"""The training loop for several fits at once: the same numbers as one after another, and what a step costs paid once.

Fits that agree in all but the seed, the rows and the numbers of their models go into one stack (``model.stack``). Each
has its own order of rows, its own clipping, average, best weights and early stop; a fit whose loss is not finite
leaves the others as they are. Sizes: s fits, c crystals of each in a batch, n rows, q quantities.
"""

import copy
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, NAdam, RAdam, RMSprop

from tltool.data.batches.tensor_table import cut, evaluation_size
from tltool.errors import NumericError
from tltool.sweep import stacked_batch, stacked_model
from tltool.sweep.stacked_model import Stack
from tltool.training import loss
from tltool.training.fit import Trained, Training, errors_of, groups_of, schedule_of, weights_of
from tltool.training.scaled_labels import goals_of
from tltool.transfer.steps import embeddings

# Those that treat each number by itself, so that it does not matter in which table a number stands.
_OPTIMISERS = (AdamW, Adam, SGD, NAdam, RAdam, RMSprop)
_OF_TABLE = {
    embeddings.values_of_embedding: stacked_model.values_of_embedding,
    embeddings.values_of_hidden: stacked_model.values_of_hidden,
}
# Network values (s, c, q) of a stack for rows (s, c).
_Values = Callable[[Stack, Tensor], Tensor]


def train_all(given: Sequence[Training]) -> list[Trained | NumericError | None]:
    """Train what can be trained at once; None for what has to be trained by itself."""
    found: list[Trained | NumericError | None] = [None] * len(given)
    left = {k: key for k, training in enumerate(given) if (key := _key(training)) is not None}
    while left:
        first = next(iter(left.values()))
        same = [k for k, key in left.items() if key == first]
        if len(same) > 1:
            for k, trained in zip(same, _train([given[k] for k in same]), strict=True):
                found[k] = trained
        left = {k: key for k, key in left.items() if k not in same}
    return found


def _key(training: Training) -> tuple[Any, ...] | None:
    """Return what trainings must have in common to be done at once; None for one that must be done by itself."""
    model, data, fit, values, scale, penalty, before = training
    shape = stacked_model.alike(model)
    if shape is None or penalty is not None or before is not None or fit.settings.loss_balance != "mean":
        return None
    if values is not None and not (isinstance(values, partial) and values.func in _OF_TABLE):
        return None
    if type(fit.optimiser([{"params": [torch.zeros(1)], "lr": fit.learning_rate}])) not in _OPTIMISERS:
        return None
    rates = [scale(name) for name, p in model.named_parameters() if p.requires_grad]
    table = data.table.neighbour.data_ptr(), len(data.table.neighbour), len(data.table)
    sizes = len(data.split["train"]), len(data.split["val"])
    kind = values.func if isinstance(values, partial) else None
    return shape, fit.settings, fit.learning_rate, rates, table, sizes, data.quantities, kind


def _train(given: Sequence[Training]) -> list[Trained | NumericError]:
    """Do what ``fit.train`` does, for all of ``given``."""
    models, data, fit = [t.model for t in given], given[0].data, given[0].fit
    settings, count, size = fit.settings, len(given), len(given[0].data.split["train"])
    groups = _groups(given[0])
    weights, goals = weights_of(settings, data), torch.stack([goals_of(t.model, t.data) for t in given])
    whole = stacked_model.stack_of(models, [names for names, _ in groups])
    average = stacked_model.stack_of(copy.deepcopy(models), [names for names, _ in groups]) if settings.ema else None
    current = average or whole
    optimiser = fit.optimiser(
        [{"params": [table], **keys} for table, (_, keys) in zip(whole.learnt, groups, strict=True)]
    )
    for table, slope in zip(whole.learnt, whole.slopes, strict=True):
        table.grad = slope
    names = [name for names, _ in groups for name in names]
    learning, places = [whole.tables[name] for name in names], [whole.places[name] for name in names]
    schedule = schedule_of(settings, optimiser, settings.epochs * -(-size // settings.batch_size))
    orders = [torch.Generator().manual_seed(t.fit.seed) for t in given]
    compute = _values(given)
    validated = _validation(given, compute)
    results: list[Trained | NumericError | None] = [None] * count
    kept: list[list[Tensor] | None] = [None] * count
    best, best_epoch = [float("inf")] * count, [0] * count
    began_to_average = False
    which = torch.arange(count)[:, None]
    for epoch in range(1, settings.epochs + 1):
        began = time.perf_counter()
        models[0].train()
        totals = torch.zeros(count, dtype=goals.dtype)
        order = torch.stack([
            t.data.split["train"][torch.randperm(size, generator=generator)]
            for t, generator in zip(given, orders, strict=True)
        ])  # fmt: skip
        for rows in cut(order, settings.batch_size, shuffled=True):
            side = [table.transpose(0, 1).flatten(1) for table in (compute(whole, rows), goals[which, rows])]
            means, there = (found.view(count, -1) for found in loss.by_quantity(settings.loss, *side))
            errors = loss.mean(means, there, weights)
            torch._foreach_copy_(places, torch.autograd.grad(errors.sum(), learning))
            if settings.clip is not None:
                _clip(whole.slopes, settings.clip)
            optimiser.step()
            schedule.step()
            if average is not None and began_to_average:
                torch._foreach_lerp_(average.numbers, whole.numbers, 1 - settings.ema)
            elif average is not None:
                torch._foreach_copy_(average.numbers, whole.numbers)
                began_to_average = True
            totals += errors.detach() * rows.shape[1]
        errors_of_all = validated(current)
        for k, training in enumerate(given):
            if results[k] is not None:
                continue
            train_loss = float(totals[k]) / size
            if not np.isfinite(train_loss):
                results[k] = NumericError(
                    f"The loss was not finite in epoch {epoch}; lower optimiser.lr or set fit.clip=1."
                )
                continue
            error_in_spreads, val_mae = errors_of_all[k]
            if error_in_spreads < best[k]:
                best[k], best_epoch[k] = error_in_spreads, epoch
                if settings.select == "best":
                    kept[k] = _row(current, k)
            training.fit.log(
                {
                    "event": "epoch",
                    "epoch": epoch,
                    "epochs": settings.epochs,
                    "train_loss": train_loss,
                    "val_MAE": val_mae,
                    "learning_rate": optimiser.param_groups[0]["lr"],
                    "seconds": time.perf_counter() - began,
                }
            )
            done = epoch == settings.epochs
            if done or (settings.patience is not None and best_epoch[k] and epoch - best_epoch[k] >= settings.patience):
                last = kept[k] is None
                kept[k] = kept[k] or _row(current, k)
                results[k] = Trained(epoch, epoch if last else best_epoch[k], best[k])
        if all(result is not None for result in results):
            break
    for k, model in enumerate(models):
        for table, row in zip(whole.numbers, kept[k] or [], strict=False):
            table[k] = row
        model.eval()
    stacked_model.part(whole)
    return [result for result in results if result is not None]


def _groups(training: Training) -> list[tuple[list[str], dict[str, Any]]]:
    """Return the names and optimiser keys of each group of parameters that learn, as ``fit.train`` groups them."""
    model, data, fit = training.model, training.data, training.fit
    names = {p: name for name, p in model.named_parameters()}
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    # What takes no part in the values gets no gradient, and no optimiser moves it.
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
    """Return what computes the values of a stack for rows (s, c)."""
    values = given[0].values
    if isinstance(values, partial):
        compute = _OF_TABLE[values.func]
        tables = torch.stack([t.values.args[0] for t in given if isinstance(t.values, partial)])
        which = torch.arange(len(given))[:, None]
        return lambda whole, rows: compute(whole, tables[which, rows])
    table = given[0].data.table
    return lambda whole, rows: stacked_model.values(whole, *stacked_batch.select(table, rows))


def _validation(given: Sequence[Training], compute: _Values) -> Callable[[Stack], list[tuple[float, dict[str, float]]]]:
    """Return what ``fit.validate`` returns, for every model of a stack; the graphs are put together once."""
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
def _clip(slopes: Sequence[Tensor], largest: float) -> None:
    """Scale the gradients (s, p) of every model so that their norm is at most ``largest``."""
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(slope, dim=1) for slope in slopes]), dim=0)
    factor = (largest / (norm + 1e-6)).clamp_max(1.0)[:, None]
    for slope in slopes:
        slope *= factor


def _row(whole: Stack, k: int) -> list[Tensor]:
    return [table[k].clone() for table in whole.numbers]
