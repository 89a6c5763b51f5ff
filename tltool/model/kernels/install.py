"""Choose the fast kernels for a device, and install them in a model in place of the plain operations.

A module of a model computes with a kernel while its own ``forward`` is one of ``_forms``, which gives the same to 1e-5.
On the CPU ``auto`` takes ``compiled``: whole encoders in C++ where there is a form of them; on CUDA ``triton``: the
gate of CGCNN as kernels of that language. ``torch`` takes what is written in PyTorch with a backward pass of its own,
``dgl`` the plain encoders with DGL's message passing. On the CPU plain message passing is faster than DGL's on graphs
of this size (docs/performance_notes.md), and on a GPU it needs no CUDA build of DGL, so ``auto`` does not take DGL.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tltool.crystal_graph import Graph
from tltool.errors import ConfigError, ResourceError
from tltool.model import message_passing
from tltool.model.encoders.alignn import ALIGNN, Layer
from tltool.model.encoders.cgcnn import CGCNN, Convolution
from tltool.model.encoders.megnet import EdgeUpdate, Layers
from tltool.model.kernels import cgcnn_cpp, cpp_library, rows_cpp, self_check
from tltool.model.kernels.cpp_kernels import CppKernels
from tltool.model.layers.basis import Gaussians
from tltool.model.property_model import PropertyModel

NAMES = ("compiled", "dgl", "torch", "triton")
_CPU = torch.device("cpu")
Forms = Mapping[type[nn.Module], Callable[..., Any]]


class Kernels:
    """The kernels ``name``, one of ``NAMES``; ``cpp`` are the compiled kernels, if any."""

    def __init__(self, name: str, cpp: CppKernels | None = None) -> None:
        self.name, self.cpp = name, cpp
        self._forms = _forms(name, cpp)
        self.operations = _operations(name, cpp)

    def install(self, model: nn.Module) -> None:
        """Make ``model`` and all its parts compute with these kernels, instead of earlier ones."""
        for module in model.modules():
            vars(module).pop("forward", None)
            if isinstance(module, PropertyModel):
                module.operations = self.operations
            if type(module) in self._forms:
                module.forward = partial(self._forms[type(module)], module)


def choose(
    name: str,
    /,
    device: torch.device = _CPU,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
    threads: int | str = 1,
) -> Kernels:
    """Return the kernels ``name`` (``auto`` or one of ``NAMES``) for ``device``.

    What has to be compiled goes into ``folder``, without which nothing is, and ``say`` hears of it. Compiled kernels
    take ``threads``, see ``CppKernels``. Raises ConfigError for another name, where DGL does not import, for
    ``compiled`` on another device than the CPU and for ``triton`` on another than CUDA, and ResourceError where they
    cannot be had; ``auto`` then makes do with ``torch``.
    """
    if name not in ("auto", *NAMES):
        raise ConfigError(f"kernels={name} is not known; use auto, {', '.join(NAMES[:-1])} or {NAMES[-1]}.")
    if name == "compiled" and device.type != "cpu":
        raise ConfigError(f"kernels=compiled works on device=cpu, not on {device}; use kernels=auto.")
    cpp = CppKernels(folder, say, threads)
    if name == "compiled":
        self_check.load(cpp)
    if name == "triton":
        _load_triton(device)
    if name == "auto":
        name = _fastest(device, cpp, say)
    return Kernels(name, cpp if name == "compiled" else None)


def _load_triton(device: torch.device) -> None:
    """Make sure of the kernels on ``device``; ConfigError if it is not for them, ResourceError if they do not work."""
    try:
        from tltool.model.kernels import cgcnn_triton
    except ImportError as error:
        raise ResourceError(f"Triton cannot be imported ({error}); install triton, or use kernels=torch.") from error
    if device.type != "cuda" and not cgcnn_triton.interpreted():
        raise ConfigError(f"kernels=triton works on device=cuda, not on {device}; use kernels=auto.")
    cgcnn_triton.tried(device)


def _fastest(device: torch.device, cpp: CppKernels, say: Callable[[str], None]) -> str:
    if device.type == "cuda":
        try:
            _load_triton(device)
        except ResourceError as error:
            say(f"{error} This run continues with kernels=torch.")
            return "torch"
        return "triton"
    if device.type != "cpu":
        return "torch"
    try:
        self_check.load(cpp)
    except ResourceError as error:
        # To have no compiler is no fault; one that fails is worth a line.
        if cpp.folder is not None and cpp_library.compiler() is not None:
            say(f"{error} This run continues with kernels=torch.")
        return "torch"
    return "compiled"


def _forms(name: str, cpp: CppKernels | None) -> Forms:
    """Return what is called in place of the ``forward`` of a module of each kind, with the module first."""
    if name == "dgl":
        return {}
    from tltool.model.kernels import alignn_conv, cgcnn_gate

    forms: dict[type[nn.Module], Callable[..., Any]] = {
        Convolution: partial(cgcnn_gate.convolution, triton=name == "triton"),
        ALIGNN: alignn_conv.encode,
        Layer: alignn_conv.layer,
    }
    if cpp is not None:
        from tltool.model.kernels import megnet_layers

        forms |= {
            CGCNN: partial(_cgcnn, cpp),
            Gaussians: partial(_gaussians, cpp),
            Layers: partial(megnet_layers.layers, cpp),
            EdgeUpdate: partial(megnet_layers.edge_layers, cpp),
        }
    return forms


def _operations(name: str, cpp: CppKernels | None) -> Mapping[str, Callable[..., Tensor]]:
    """Return the message-passing operations in place of the plain ones, by name."""
    if name == "dgl":
        from tltool.model.kernels import dgl

        return dgl.operations()
    return {} if cpp is None else {"crystal_mean": partial(_crystal_mean, cpp)}


def _cgcnn(cpp: CppKernels, encoder: CGCNN, graph: Graph) -> list[Tensor]:
    """Compute ``CGCNN.forward``."""
    vectors = encoder.embedding(encoder.table)
    if not cpp.takes(vectors):
        return CGCNN.forward(encoder, graph)
    sites = rows_cpp.spread(cpp, vectors, graph.number)
    basis = encoder.basis(graph.distance)
    if self_check.fits(cpp, graph, sites, basis):
        blocks = [cgcnn_cpp.of_block(block) for block in encoder.blocks if isinstance(block, Convolution)]
        return cgcnn_cpp.convolutions(cpp, graph, sites, basis, blocks)
    levels = [sites]
    for block in encoder.blocks:
        sites = block(sites, basis, graph)
        levels.append(sites)
    return levels


def _gaussians(cpp: CppKernels, module: Gaussians, distance: Tensor) -> Tensor:
    """Compute ``Gaussians.forward``."""
    if distance.requires_grad or not cpp.takes(distance, module.centres):
        return Gaussians.forward(module, distance)
    return rows_cpp.gaussians(cpp, distance, module.centres, module.width)


def _crystal_mean(cpp: CppKernels, graph: Graph, sites: Tensor) -> Tensor:
    """Compute ``message_passing.crystal_mean``."""
    if not cpp.takes(sites, graph.multiplicity):
        return message_passing.crystal_sum(graph, sites * graph.multiplicity[:, None]) / graph.n_sites()[:, None]
    share = graph.once("site share", lambda: graph.multiplicity / graph.n_sites().index_select(0, graph.crystal))
    return rows_cpp.collect(cpp, sites, graph.crystal, share, graph.n_crystals)
