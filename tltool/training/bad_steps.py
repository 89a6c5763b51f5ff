"""Steps whose loss or gradient is not finite: they are left out, named in the log, and a run ends after too many.

On the CPU a step is looked at before it is taken. A GPU must not wait for the host in every step: there the optimiser
itself leaves the step out, by the tensor ``found_inf`` of PyTorch's fused optimisers, and the log follows at the end of
the epoch.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tltool.errors import NumericError
from tltool.model.property_model import PropertyModel
from tltool.training.ema import Average
from tltool.training.settings import Fit

_MOST = 10  # steps that are left out before a training ends
_NAMED = 5  # ids in a message; the log has all of them


class BadSteps:
    """The steps of a fit of ``model`` that were left out; ``now`` counts those of the current epoch."""

    def __init__(self, model: PropertyModel, fit: Fit) -> None:
        self._fit, self._all = fit, 0
        self._statistics = [table for table in model.buffers() if table.is_floating_point()]
        self._saved: list[Tensor] = []
        self._marks: list[tuple[Tensor, Tensor]] = []
        self.now = self._crystals = 0

    def begin(self) -> None:
        """Begin an epoch: keep the statistics of the model, which a bad batch may spoil."""
        self._saved = [table.clone() for table in self._statistics]
        self._marks.clear()
        self.now = self._crystals = 0

    def advance(self, optimiser: Optimizer, loss: Tensor, rows: Tensor, epoch: int) -> Tensor:
        """Take the step or leave it out; return the ``loss``, 0 for a step that is left out.

        Raise NumericError after too many bad steps.
        """
        if loss.device.type == "cpu":
            if math.isfinite(loss):
                optimiser.step()
                return loss
            optimiser._opt_called = True  # type: ignore[attr-defined]  # the schedule goes on without this step
            self._leave_out(rows, epoch)
            return torch.zeros_like(loss)
        bad = ~torch.isfinite(loss)
        if optimiser.defaults.get("fused"):
            optimiser.found_inf = bad.to(torch.float32)  # type: ignore[attr-defined]
        else:
            _without_gradients(optimiser, bad)
        optimiser.step()
        self._marks.append((bad, rows))
        return torch.where(bad, 0.0, loss)

    def count(self, epoch: int, average: Average[Any] | None) -> int:
        """Return the number of crystals in the steps of this epoch that were left out, and mend the EMA.

        Raise NumericError after too many bad steps.
        """
        if self._marks:
            for bad, (_, rows) in zip(torch.stack([bad for bad, _ in self._marks]).tolist(), self._marks, strict=True):
                if bad:
                    self._leave_out(rows, epoch)
            self._marks.clear()
        if self.now and average is not None:
            for own, followed in zip(average.own, average.followed, strict=True):
                own.copy_(torch.where(torch.isfinite(own), own, followed))
        return self._crystals

    def _leave_out(self, rows: Tensor, epoch: int) -> None:
        self.now, self._all, self._crystals = self.now + 1, self._all + 1, self._crystals + len(rows)
        for table, saved in zip(self._statistics, self._saved, strict=True):
            if not torch.isfinite(table).all():
                table.copy_(saved)
        names = [str(row) if self._fit.ids is None else self._fit.ids[row] for row in rows.tolist()]
        self._fit.log({"event": "bad_step", "epoch": epoch, "ids": names})
        some = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        if self._all > _MOST:
            raise NumericError(
                f"The loss or gradient was not finite in {self._all} steps, the last one in epoch {epoch}; lower "
                f"optimiser.lr or set fit.clip=1, and check the crystals of that step ({some}; log.jsonl has all)."
            )
        self._fit.log({
            "event": "say",
            "text": f"A step of epoch {epoch} is left out, because its loss or gradient is not finite ({some}).",
        })  # fmt: skip


def _without_gradients(optimiser: Optimizer, bad: Tensor) -> None:
    """Set the gradients to 0 if the step is ``bad``, for an optimiser that cannot leave a step out."""
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad = torch.where(bad, 0.0, parameter.grad)
