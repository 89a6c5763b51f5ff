"""PyTorch's AdamW, whose step is one compiled call where the parameters allow it.

With some dozens of small tensors PyTorch spends ten times as long on finding its lists as on the numbers. The state is
PyTorch's own, so either form goes on where the other stopped.
"""

import ctypes
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("adamw.cpp")
_PARAMETER, _NOW = "5q3d", "q2d"
_library: ctypes.CDLL | None = None


def use(library: ctypes.CDLL | None) -> None:
    """Take steps with ``library``, made from ``SOURCE``; None for PyTorch's."""
    global _library
    _library = library
    if library is not None:
        library.adamw.argtypes, library.adamw.restype = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int64], None


class AdamW(torch.optim.AdamW):
    """Adam with decoupled weight decay, Loshchilov and Hutter, arXiv:1711.05101.

    ``lr`` learning rate; ``weight_decay`` share of a weight that a step at rate 1 takes off; ``fused`` one kernel for
    all parameters where PyTorch takes the step.
    """

    _key: list[Any] | None = None
    _parameters: bytes | None = None

    def __init__(self, groups: Iterable[Any], /, *, lr: float, weight_decay: float, fused: bool) -> None:
        super().__init__(groups, lr=lr, weight_decay=weight_decay, fused=fused)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        if not set_to_none:
            return super().zero_grad(set_to_none)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        return None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step."""
        found = None if closure is not None or _library is None else self._facts()
        if found is None or _library is None:
            return super().step(closure)  # type: ignore[no-any-return]
        _library.adamw(*found)
        return None

    def _facts(self) -> tuple[bytes, bytes, int] | None:
        """Return the structures of adamw.cpp and their number, None for what the compiled step does not take."""
        chosen: list[Tensor] = []
        now: list[float] = []
        key: list[Any] = [id(self.state)]
        for group in self.param_groups:
            there = [parameter for parameter in group["params"] if parameter.grad is not None]
            chosen += there
            key += [len(there), group["weight_decay"], group["betas"][1], group["eps"], group["amsgrad"]]
            key += [group["maximize"], *(parameter.data_ptr() for parameter in there)]
            for parameter in there:
                if not _plain(parameter.grad):
                    return None
                now += (parameter.grad.data_ptr(), group["lr"], group["betas"][0])
        # What stays from step to step is gathered once, and key says whether it has stayed; schedules move the rest.
        if key != self._key:
            self._parameters, self._key = self._gathered(), key
        if self._parameters is None:
            return None
        return self._parameters, struct.pack(_NOW * len(chosen), *now), len(chosen)

    def _gathered(self) -> bytes | None:
        rows: list[float] = []
        for group in self.param_groups:
            if group["amsgrad"] or group["maximize"]:
                return None
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter not in self.state:
                    self.state[parameter] = _begun(parameter)
                state = self.state[parameter]
                tables = parameter, state["exp_avg"], state["exp_avg_sq"], state["step"]
                if not all(map(_plain, tables)):
                    return None
                rows += (parameter.numel(), *(table.data_ptr() for table in tables))
                rows += (group["weight_decay"], group["betas"][1], group["eps"])
        return struct.pack(_PARAMETER * (len(rows) // 8), *rows)


def _begun(parameter: Tensor) -> dict[str, Tensor]:
    moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
    return {"step": torch.zeros((), dtype=torch.float32, device=parameter.device), **moments}


def _plain(table: Tensor) -> bool:
    return table.dtype == torch.float32 and table.is_cpu and table.is_contiguous()
