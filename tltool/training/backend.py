"""Choose the backend of a run once: kernels, device and threads. It is passed down as one value."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from tltool.errors import ResourceError
from tltool.training import distributed

if TYPE_CHECKING:
    from tltool.model.kernels.install import Kernels

M = TypeVar("M", bound=nn.Module)
F = TypeVar("F", bound=Callable[..., Any])
_COMPILER = "torch._dynamo"


@dataclass(frozen=True)
class Backend:
    """The ``kernels`` that replace plain operations (None: plain PyTorch), and the ``device``."""

    device: torch.device
    kernels: "Kernels | None" = None

    @property
    def name(self) -> str:
        """Name of the kernels; ``plain`` without any."""
        return "plain" if self.kernels is None else self.kernels.name

    def prepare(self, model: M) -> M:
        """Move ``model`` to the device and make it compute with the kernels; return it."""
        if self.kernels is not None:
            self.kernels.install(model)
        return model.to(self.device)


CPU = Backend(torch.device("cpu"))
"""Plain PyTorch on the CPU."""


def choose(
    kernels: str, device: str, threads: int | str, say: Callable[[str], None], *, compiles: bool = True
) -> Backend:
    """Return the backend for ``kernels``, ``device`` and ``threads`` of a config; ``auto`` chooses the fastest.

    Compiled kernels take ``threads``, and ``say`` hears what is compiled, unless nothing ``compiles``. Without the
    optional folder ``model/kernels`` all is computed by plain PyTorch. Raises ConfigError and ResourceError for what is
    not known or not there.
    """
    where = device_called(device)
    try:
        from tltool.model.kernels import cpp_library, install
    except ModuleNotFoundError as error:
        if kernels not in ("auto", "torch") or not str(error.name).startswith("tltool.model.kernels"):
            raise ResourceError(f"kernels={kernels} is not installed; use kernels=auto.") from error
        return Backend(where)
    folder: Path | None = cpp_library.folder() if compiles else None
    return Backend(where, install.choose(distributed.kernels(kernels, say), where, folder, say, threads))


def device_called(name: str) -> torch.device:
    """Return the device ``name``; ``auto`` is CUDA if available. Raise ResourceError if the device is not available.

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
            f"device={name} is not available ({str(error).splitlines()[0]}); use device=auto or cpu."
        ) from error


class _UnusedCompiler(ModuleType):
    """Stands for the compiler until more is asked of it than to leave a function alone; then it gives the real one."""

    @staticmethod
    def graph_break(msg: str = "") -> None:
        """Do nothing: there is no graph."""

    @staticmethod
    def disable(fn: F, recursive: bool = True, **options: Any) -> F:
        """Return the function as it is."""
        return fn

    def __getattr__(self, name: str) -> Any:
        # Those who look through all modules ask for such names; an import of a part asks for the path.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        if sys.modules.get(_COMPILER) is self:
            del sys.modules[_COMPILER]
        return getattr(importlib.import_module(_COMPILER), name)


def leave_out_compiler() -> None:
    """Keep ``torch._dynamo`` from being imported until somebody uses it; do nothing if it was imported already.

    The first optimiser imports it, only to tell the compiler which functions it must leave alone, and that takes as
    long as the import of PyTorch itself. tltool compiles nothing with it.
    """
    if _COMPILER not in sys.modules:
        sys.modules[_COMPILER] = torch._dynamo = _UnusedCompiler(_COMPILER)
