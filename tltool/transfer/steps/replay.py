"""Replay rows of the source: its loss beside that of the target, so that fine-tuning forgets less of what it learnt.

With each batch of the target goes a batch of source rows, of as many crystals. It passes the encoder, readout and trunk
that both share, and then the source's own head, which trains too and is dropped at the end. What is rehearsed is
forgotten less (Robins, doi:10.1080/09540099550039318). Layers that normalise by the statistics of a batch keep running
statistics of their own for the source, so those of the target are of its rows alone. Sizes: c crystals in a batch.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tltool import machine, metrics
from tltool.data.batches.batches import Batches
from tltool.data.batches.tensor_table import Batch
from tltool.errors import ConfigError, DataError
from tltool.model.norm import WeightedBatchNorm
from tltool.model.property_model import PropertyModel
from tltool.model.sklearn_head import FixedHead
from tltool.model.surgery import edit
from tltool.training import loss
from tltool.training.fit import Fit, validate
from tltool.training.settings import Further
from tltool.training.single_fit import counts_of

_PART = "source_task"
_MEASURED = 2_000
"""Validation rows of the source, and test rows, that its error is measured on at most."""
_OTHER_ORDER = 1_000_003
"""What is added to the seed, so that the order of the source's rows is not that of the target's."""


@contextmanager
def beside(source: PropertyModel, model: PropertyModel, fit: Fit, weight: float) -> Iterator[Further | None]:
    """Yield what ``train`` takes as ``further``: the loss of ``source`` on rows of its own, ``weight`` times.

    With a weight of 0, or without epochs, it is None. Otherwise the head of the source is a part of ``model`` until the
    end. Then the error of the source before and after is logged, and in the spec of ``model`` under ``replay``. Raises
    ConfigError for a weight that is no number of at least 0, and where ``model`` shares nothing with the source that
    trains; DataError without ``fit.source_rows``.
    """
    if not 0 <= weight < math.inf:
        raise ConfigError(f"mode.replay={weight} must be a number of at least 0; 0 replays no rows of the source.")
    if not weight or not fit.settings.epochs:
        yield None
        return
    rows = _rows(model, fit, weight)
    twin = fit.backend.prepare(edit.copy_of(source))
    if any(isinstance(head, FixedHead) for head in twin.heads.values()):
        raise ConfigError(
            "mode.replay: the head of the source is an estimator, which cannot be trained further; use mode.replay=0."
        )
    before = {} if fit.trial else _errors(twin, rows)
    task = _SourceTask(twin)
    model.add_module(_PART, task)
    try:
        further = _Replay(model, task, rows, fit, weight)
        yield further
        after = {} if fit.trial else further.errors()
    finally:
        delattr(model, _PART)
    if not fit.trial:
        _tell(model, fit, rows, weight, before, after)


class _SourceTask(nn.Module):
    """What is the source's own while its rows are replayed: heads, scalers and running statistics."""

    def __init__(self, source: PropertyModel) -> None:
        super().__init__()
        self.heads, self.scalers, self.spec = source.heads, source.scalers, source.spec
        for k, norm in enumerate(_norms(source)):
            self.register_buffer(f"mean_{k}", norm.mean)
            self.register_buffer(f"variance_{k}", norm.variance)

    @contextmanager
    def statistics(self, model: PropertyModel) -> Iterator[None]:
        """Let ``model`` normalise by the running statistics of the source, and change those."""
        norms = _norms(model)
        own = [(norm.mean, norm.variance) for norm in norms]
        for k, norm in enumerate(norms):
            norm.mean, norm.variance = self.get_buffer(f"mean_{k}"), self.get_buffer(f"variance_{k}")
        try:
            yield
        finally:
            for norm, (mean, variance) in zip(norms, own, strict=True):
                norm.mean, norm.variance = mean, variance


class _Replay:
    """Adds the gradients of the loss of the source to those of the target; draws the rows by a generator of its own."""

    def __init__(self, model: PropertyModel, task: _SourceTask, rows: Batches, fit: Fit, weight: float) -> None:
        self._model, self._task, self._rows, self._fit, self._weight = model, task, rows, fit, weight
        parts = model.encoder, model.readout, model.trunk, task.heads, task.scalers
        self._view = PropertyModel(*parts, task.spec)  # type: ignore[arg-type]
        self._groups, self._counts = loss.groups_of(rows, self._view), counts_of(self._view, rows)
        self._order = torch.Generator().manual_seed(fit.seed + _OTHER_ORDER)
        self._left = rows.split["train"][:0]

    def __call__(self, n: int) -> Tensor:
        """Add the gradients of a batch of ``n`` rows; return its loss ()."""
        rows, settings = self._drawn(n), self._fit.settings
        batch = Batch(self._rows.table, self._rows.labels[rows], rows)
        self._view.operations = self._model.operations
        kind = rows.device.type
        with self._task.statistics(self._model):
            with torch.autocast(kind, torch.bfloat16, enabled=settings.mixed_precision and kind == "cuda"):
                values = self._view.values(self._view.embed(batch.graph))
                goals = self._view.targets(batch.labels, batch.graph)
                counts = None if self._counts is None else self._counts[rows]
                means, there = loss.by_quantity(settings.loss, values, goals, self._groups, counts)
                found = self._weight * loss.mean(means, there, None)
            # Within, since what is frozen reads running statistics on the way back too.
            if found.requires_grad:
                found.backward()  # type: ignore[no-untyped-call]
        return found.detach()

    def errors(self) -> dict[str, dict[str, float]]:
        """Return the errors of the source's quantities with the weights as they are now."""
        self._view.operations = self._model.operations
        with self._task.statistics(self._model):
            return _errors(self._view, self._rows)

    def _drawn(self, n: int) -> Tensor:
        """Return the next ``n`` training rows of the source, in an order that is drawn anew when all had their turn."""
        every = self._rows.split["train"]
        while len(self._left) < n:
            order = torch.randperm(len(every), generator=self._order).to(every.device)
            self._left = torch.cat([self._left, every[order]])
        rows, self._left = self._left[:n], self._left[n:]
        return rows


def _rows(model: PropertyModel, fit: Fit, weight: float) -> Batches:
    """Return the rows of the source; raise an error that says why they cannot be replayed in training ``model``."""
    if machine.ranks() > 1:
        raise ConfigError(f"mode.replay={weight} trains in one process only; start it without torchrun.")
    if not any(p.requires_grad for name, p in model.named_parameters() if not name.startswith("heads.")):
        raise ConfigError(
            f"mode.replay={weight} would change nothing, because all that source and target share is frozen; freeze "
            "fewer parts, or use mode.replay=0."
        )
    if fit.source_rows is None:
        raise DataError(f"mode.replay={weight} needs rows of the source, and none are given; use mode.replay=0.")
    return fit.source_rows


def _norms(model: PropertyModel) -> list[WeightedBatchNorm]:
    """Return the normalisation layers of the backbone, in their order."""
    parts = model.encoder, model.readout, model.trunk
    return [module for part in parts for module in part.modules() if isinstance(module, WeightedBatchNorm)]


def _errors(model: PropertyModel, data: Batches) -> dict[str, dict[str, float]]:
    """Return {part: {quantity: error in its unit}} on validation and test rows, of many on rows at equal intervals."""
    found = {part: _some(data, part) for part in ("val", "test")}
    told = {part: validate(model, replace(data, split={"val": rows}))[1] for part, rows in found.items() if len(rows)}
    return {part: maes for part, maes in told.items() if maes}


def _some(data: Batches, part: str) -> Tensor:
    rows = data.split[part]
    return rows[:: -(-len(rows) // _MEASURED) or 1]


def _tell(
    model: PropertyModel,
    fit: Fit,
    data: Batches,
    weight: float,
    before: dict[str, dict[str, float]],
    after: dict[str, dict[str, float]],
) -> None:
    """Log the errors of the source ``before`` and ``after``, and write them into the spec of ``model``."""
    measured = {part: len(_some(data, part)) for part in before}
    quantities: dict[str, Any] = {}
    for name in data.quantities:
        about = data.known[name]
        both = {"before": before, "after": after}
        errors = {when: {part: told[part][name] for part in told if name in told[part]} for when, told in both.items()}
        quantities[name] = {"unit": about.unit, "error": metrics.of_epochs(about), **errors}
    facts = {"weight": float(weight), "rows": len(data.split["train"]), "measured": measured, "quantities": quantities}
    model.spec["replay"] = facts
    fit.log({"event": "replay", **facts})
    if text := told(facts):
        fit.log({"event": "say", "text": text})


def told(facts: dict[str, Any]) -> str:
    """Return the sentence with the error of the source before and after, on test rows if it has any; else empty."""
    part = next((part for part in ("test", "val") if part in facts["measured"]), None)
    words = []
    for name, one in facts["quantities"].items():
        if part in one["before"] and part in one["after"]:
            unit = f" {one['unit']}" if one["unit"] else ""
            errors = f"{one['before'][part]:.4g}{unit} before this transfer, {one['after'][part]:.4g}{unit} after"
            words.append(f"{name} {one['error']} {errors}")
    if part is None or not words:
        return ""
    rows = f"{facts['measured'][part]:,} of its {'test' if part == 'test' else 'validation'} rows"
    return f"Error of the source on {rows} (mode.replay={facts['weight']:g}): {'; '.join(words)}."
