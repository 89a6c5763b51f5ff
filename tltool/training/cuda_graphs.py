"""Replay training steps on a GPU as CUDA graphs, one per padded size, so that the GPU does not wait for Python.

A batch of CGCNN needs a few hundred short kernels. Starting them one by one from Python takes several times as long as
their computation. A CUDA graph starts all of them at once, from the selection of the rows to the clipped gradients. It
needs constant sizes (``data/batches/padded.py``) and a step that copies nothing back from the device. The optimiser is
not in the graph: a fused optimiser is one kernel per parameter group, and it uses numbers of the schedule that a graph
would freeze (OneCycle changes Adam's first beta, which the fused kernel gets from the host).
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from tltool.data.batches import padded
from tltool.data.batches.batches import Batches
from tltool.data.batches.padded import Padded, Room
from tltool.data.batches.tensor_table import Batch
from tltool.training.settings import Epoch

Step = Callable[[], Tensor]
"""Compute the gradients of the prepared batch, store them in the parameters, and return the loss (scalar)."""
Way = Callable[[Step, Sequence[nn.Parameter], Callable[[str], None]], Step]
"""Wrap a step into an equivalent one; arguments: the step, its parameters, and a function for messages."""

_WARM = 3  # ordinary steps before a capture, of PyTorch's notes on CUDA graphs


def way(device: torch.device) -> Way | None:
    """Return the function that replays steps on ``device``; None if steps are not replayed, as on the CPU."""
    return through_graphs() if device.type == "cuda" else None


def padded_passes(
    data: Batches,
    size: int,
    learn: Callable[[Batch], Tensor],
    parameters: Sequence[nn.Parameter],
    through: Way,
    log: Callable[[dict[str, Any]], None],
) -> Epoch:
    """Return a function that runs an epoch of padded batches of ``size`` crystals, each ``through`` a replay function.

    ``learn`` leaves the gradients of a batch, of ``parameters``, and returns its loss.
    """
    say = said(log)
    return _padded(data, size, learn, lambda step: through(step, parameters, say))


def said(log: Callable[[dict[str, Any]], None]) -> Callable[[str], None]:
    """Return what logs a sentence."""
    return lambda text: log({"event": "say", "text": text})


def _padded(data: Batches, size: int, learn: Callable[[Batch], Tensor], through: Callable[[Step], Step]) -> Epoch:
    device = data.labels.device
    table = padded.closed(data.table)
    labels = torch.cat([data.labels, data.labels.new_full((1, data.labels.shape[1]), torch.nan)])
    sizes, rows = padded.counts(data.table), data.split["train"].cpu()
    ready = padded.rooms(sizes[rows.numpy()], size)
    at_hand = torch.zeros(ready[0].crystals, dtype=torch.int64, device=device)

    def step(room: Room) -> Step:
        return lambda: learn(Batch(Padded(table, room), labels[at_hand], at_hand))

    made = {room: through(step(room)) for room in ready}

    def epoch(order: torch.Generator, done: int) -> Iterator[tuple[Tensor, Tensor]]:
        plan = padded.epoch(rows, sizes, ready, size, order)
        laid_out = (plan.rows.pin_memory() if device.type == "cuda" else plan.rows).to(device, non_blocking=True)
        for line, room, held in islice(zip(laid_out, plan.rooms, plan.held, strict=True), done, None):
            at_hand.copy_(line)
            # A batch too large for what is ready is rare, and goes the ordinary way.
            yield made.get(room, step(room))(), line[:held]

    return epoch


def through_graphs() -> Way:
    """Return the way through CUDA graphs: a step is replayed after some ordinary calls; none is once a capture failed.

    That is said once.
    """
    # One memory for all graphs: none reads what another left, but for gradients, which are used at once.
    pool = torch.cuda.graph_pool_handle()
    possible = True

    def replayed(step: Step, parameters: Sequence[nn.Parameter], say: Callable[[str], None]) -> Step:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        calls = 0
        replay: Step | None = None

        def run() -> Tensor:
            nonlocal calls, replay, possible
            calls += 1
            if replay is None and possible and calls > _WARM:
                try:
                    replay = _captured(step, parameters, side, pool)
                except RuntimeError as error:
                    possible = False
                    torch.cuda.synchronize()
                    say(
                        f"CUDA graphs do not work for this model ({str(error).splitlines()[0]}); training continues "
                        "without them."
                    )
            return _beside(step, side) if replay is None else replay()

        return run

    return replayed


def _beside(step: Step, side: torch.cuda.Stream) -> Tensor:
    current = torch.cuda.current_stream()
    side.wait_stream(current)
    with torch.cuda.stream(side):
        loss = step()
    current.wait_stream(side)
    return loss


def _captured(step: Step, parameters: Sequence[nn.Parameter], side: torch.cuda.Stream, pool: Any) -> Step:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=side):
        loss = step()
    # A graph writes to the gradients of its own capture, whichever graph was replayed last.
    gradients = [parameter.grad for parameter in parameters]

    def replay() -> Tensor:
        graph.replay()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss

    return replay
