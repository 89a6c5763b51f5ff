"""Train one model with several processes, which ``torchrun`` starts.

Every process (a rank) runs the whole stage. Each global batch is divided into one part per rank. Sums over its crystals
are sums over all ranks (``model/all_reduce.py``), and PyTorch's DistributedDataParallel adds up the gradients, so all
ranks have the same weights as a single process would. Only rank 0 writes files. With one process, these functions do
nothing.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from typing import NamedTuple, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from tltool import interruption, machine
from tltool.data.batches.tensor_table import Batch
from tltool.errors import ConfigError, ResourceError
from tltool.model import all_reduce
from tltool.model.property_model import PropertyModel
from tltool.training.saved_state.resume import Progress

_POLL = 0.1  # seconds
_AGREE = 16  # steps
Compute = Callable[[PropertyModel, Batch], Tensor]
P = ParamSpec("P")
R = TypeVar("R")

_store: Store | None = None
_job, _turn = 0, 0


class Failure(NamedTuple):
    """What ended a run: exit code, state and sentence, and the traceback."""

    code: int
    state: str
    message: str
    trace: str


def meet() -> None:
    """Wait until every rank has reached the next job."""
    global _store, _job, _turn
    if machine.ranks() == 1:
        return
    if _store is None:
        _store, *_ = next(rendezvous("env://"))
    _job, _turn = _job + 1, 0
    _tell(f"here {machine.rank()}")
    _wait(*(f"here {rank}" for rank in range(machine.ranks())))


def join(device: torch.device) -> None:
    """Connect the ranks for this job, with NCCL on CUDA and with gloo otherwise."""
    if _store is None:
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    store = PrefixStore(_key("group"), _store)
    dist.init_process_group(backend, store=store, rank=machine.rank(), world_size=machine.ranks())


def check(now: Progress) -> None:
    """End this process between two steps if a signal arrived; several ranks end after the same step.

    Then rank 0 gets the whole sum of losses in ``now``. To agree costs a message, so the ranks do it now and then only.
    """
    if not all_reduce.active():
        interruption.check()
    elif now.steps % _AGREE == 0 and now.total is not None:
        ask = torch.tensor(float(interruption.pending()), device=now.total.device)
        if float(all_reduce.total(ask)):
            now.total = all_reduce.total(now.total)
            raise interruption.exception()


def part_ways() -> None:
    """End this job on every rank when rank 0 has finished it."""
    if machine.rank() == 0:
        _tell("finished")
    else:
        _wait("finished")
    if dist.is_initialized():
        dist.destroy_process_group()


def settled(own: Failure) -> Failure:
    """Return the failure that ends this run on all ranks: ``own``, or that of the rank that failed first."""
    if _store is None:
        return own
    try:
        return Failure(*json.loads(_store.compare_set(_key("failed"), "", json.dumps(own))))
    except (RuntimeError, ValueError, TypeError):
        return own  # torchrun itself is gone


def lost(error: BaseException) -> bool:
    """Return whether ``error`` means that another rank no longer answers."""
    words = str(error).lower()
    return machine.ranks() > 1 and isinstance(error, RuntimeError) and ("gloo" in words or "nccl" in words)


@contextmanager
def first() -> Iterator[None]:
    """Run the body on rank 0 first, then on the other ranks, which find the result. There is no time limit."""
    global _turn
    _turn += 1
    turn = f"turn {_turn}"
    if machine.rank():
        _wait(turn)
    yield
    if machine.rank() == 0:
        _tell(turn)


def place(device: str) -> str:
    """Return the name of the device of this rank; with CUDA, each process of a machine has its own GPU."""
    if machine.ranks() == 1 or device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return device
    if device not in ("auto", "cuda"):
        raise ConfigError(
            f"device={device} is one device for {machine.ranks()} processes; use device=auto, cuda or cpu."
        )
    if torch.cuda.is_available() and machine.local_rank() >= torch.cuda.device_count():
        raise ResourceError(
            f"There are more processes than GPUs ({torch.cuda.device_count()}) on this machine; lower "
            "--nproc_per_node, or use device=cpu."
        )
    return f"cuda:{machine.local_rank()}"


def kernels(name: str, say: Callable[[str], None]) -> str:
    """Return the kernels to use: with several ranks plain PyTorch, since compiled kernels know only one rank."""
    if machine.ranks() == 1 or name not in ("auto", "compiled"):
        return name
    say(f"{machine.ranks()} processes train with kernels=torch, because compiled kernels work in one process only.")
    return "torch"


def together(train: Callable[P, R]) -> Callable[P, R]:
    """Return ``train`` with sums over batches that include all ranks."""

    @wraps(train)
    def on_all(*args: P.args, **keys: P.kwargs) -> R:
        if not dist.is_initialized():
            return train(*args, **keys)
        with all_reduce.joined():
            return train(*args, **keys)

    return on_all


def shared(model: PropertyModel, compute: Compute, batch_size: int, seed: int) -> Compute:
    """Return ``compute`` with the gradients of all ranks added up; buffers start with the values of rank 0.

    Raise ConfigError if a batch has fewer crystals than there are ranks.
    """
    if not all_reduce.active():
        return compute
    if batch_size < machine.ranks():
        raise ConfigError(
            f"fit.batch_size={batch_size} is divided among {machine.ranks()} processes; use at least {machine.ranks()}."
        )
    if machine.rank():
        torch.manual_seed(seed + machine.rank())  # the ranks drop out different features
    for buffer in model.buffers():
        if buffer.is_floating_point():
            dist.broadcast(buffer, 0)
    wrapped: dict[tuple[str, ...], nn.Module] = {}

    def of_all(model: PropertyModel, batch: Batch) -> Tensor:
        # What trains may change from one epoch to the next; between, what has no gradient never has one.
        trainable = tuple(name for name, p in model.named_parameters() if p.requires_grad)
        if trainable not in wrapped:
            wrapped.clear()
            wrapped[trainable] = _wrapped(_Network(model, compute))
        return wrapped[trainable](batch)  # type: ignore[no-any-return]

    return of_all


def _wrapped(network: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        # Its new name is not in older versions.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(network, broadcast_buffers=False, static_graph=True)


class _Network(nn.Module):
    def __init__(self, model: PropertyModel, compute: Compute) -> None:
        super().__init__()
        self.model, self.compute = model, compute

    def forward(self, batch: Batch) -> Tensor:
        return self.compute(self.model, batch)


def parts(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield this rank's part of every batch; the sizes of the parts differ by at most one crystal."""
    return map(_part, batches) if all_reduce.active() else iter(batches)


def gathered(compute: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
    """Return ``compute(batch)`` (c, q); each rank computes its part."""
    if not all_reduce.active():
        return compute(batch)
    found = compute(_part(batch))
    whole = found.new_zeros(len(batch.rows), *found.shape[1:])
    whole[_mine(len(batch.rows))] = found
    return all_reduce.total(whole)


def _part(batch: Batch) -> Batch:
    mine = _mine(len(batch.rows))
    return replace(batch, labels=batch.labels[mine], rows=batch.rows[mine])


def _mine(n: int) -> slice:
    return slice(n * machine.rank() // machine.ranks(), n * (machine.rank() + 1) // machine.ranks())


def _key(word: str) -> str:
    return f"job {_job} {word}"


def _tell(word: str) -> None:
    if _store is not None:
        _store.set(_key(word), "1")


def _wait(*words: str) -> None:
    """Wait for ``words`` of this job; raise ResourceError if a rank fails meanwhile."""
    while _store is not None and not _store.check([_key(word) for word in words]):
        if _store.check([_key("failed")]):
            raise ResourceError("Another process of this run failed; see its message.")
        time.sleep(_POLL)
