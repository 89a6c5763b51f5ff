"""The padded loop trains as the ordinary one does, asks the device for nothing, and gives way where there is no graph.

There is no GPU here: instead of a CUDA graph stands the step itself, and what a capture forbids is looked for with
tensors that have no values.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import recorded_graph
import support
import torch
from support import a_fit, batches_of, fresh_model, graph_settings_of
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from tltool.data.batches import padded
from tltool.data.batches.batches import Batches
from tltool.data.batches.padded import Padded
from tltool.data.batches.tensor_table import Source
from tltool.data.dataset import Dataset
from tltool.data.graph import crystal_graphs
from tltool.model.kernels import install
from tltool.model.property_model import PropertyModel
from tltool.model.surgery import edit
from tltool.training import cuda_graphs, fit, loss, scaled_labels
from tltool.training.backend import Backend
from tltool.transfer.finetune import finetune


@pytest.fixture(autouse=True)
def _kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute with the kernels of a GPU, as far as they are PyTorch's."""
    monkeypatch.setattr(support, "BACKEND", Backend(torch.device("cpu"), install.choose("torch")))


def as_it_is(step: cuda_graphs.Step, parameters: object, say: object) -> cuda_graphs.Step:
    return step


def data_of(part: Dataset, encoder: str, rows: int) -> Batches:
    few = Dataset(
        part.store,
        crystal_graphs.build([part.store.crystal(row) for row in range(len(part.store))], graph_settings_of(encoder)),
    )
    return batches_of(few, ("e_form", "e_above_hull"), train_size=rows)


def trained(data: Batches, encoder: str, **keys: object) -> tuple[PropertyModel, list[dict]]:
    events: list[dict] = []
    model = fresh_model(data.quantities, encoder=encoder)
    edit.new_heads(model, scaled_labels.scalers(data, reference=False, scale="linear"))
    torch.manual_seed(0)
    edit.renew(model)
    fit.train(model, data, a_fit(events.append, **keys))
    return model, [event for event in events if event["event"] == "epoch"]


@pytest.mark.parametrize(
    ("encoder", "keys"),
    [
        ("cgcnn", {"batch_size": 16, "epochs": 4}),
        ("cgcnn", {"batch_size": 12, "loss": "huber", "loss_balance": "uncertainty", "select": "last"}),
        ("cgcnn", {"batch_size": 1000, "schedule": "constant", "clip": None, "ema": 0.0}),
        ("megnet", {"batch_size": 24}),
        ("alignn", {"batch_size": 24, "epochs": 2}),
    ],
)
@pytest.mark.usefixtures("double")
def test_the_padded_loop_trains_as_the_ordinary_one(
    part: Dataset, monkeypatch: pytest.MonkeyPatch, encoder: str, keys: dict
) -> None:
    data = data_of(part, encoder, 49)
    plain, expected = trained(data, encoder, **keys)
    rooms = []
    cut = padded._select
    monkeypatch.setattr(padded, "_select", lambda *given: rooms.append(given[2]) or cut(*given))
    monkeypatch.setattr(cuda_graphs, "way", lambda device: as_it_is)
    other, events = trained(data, encoder, **keys)
    assert rooms, "padded batches were cut"
    assert [e["train_loss"] for e in events] == pytest.approx([e["train_loss"] for e in expected], rel=1e-5)
    assert [e["val_MAE"] for e in events] == [pytest.approx(e["val_MAE"], rel=1e-5) for e in expected]
    a, b = fit.predict(other, data, "test"), fit.predict(plain, data, "test")
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    rooms.clear()
    trained(data, encoder, **keys, cuda_graphs=False)
    assert not rooms


def test_what_a_way_through_padding_would_change_goes_as_it_is(
    part: Dataset, source: PropertyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    monkeypatch.setattr(cuda_graphs, "way", lambda device: lambda step, *given: used.append(1) or step)
    data = batches_of(part, train_size=32)
    how = {"head": "new", "lr_scale": None, "layer_decay": 1.0, "probe_first": False, "l2_sp": 0.0, "replay": 0.0}
    finetune(source, data, a_fit(epochs=6), unfreeze=1, **how)
    assert not used, "parts join in on the way"
    finetune(source, data, a_fit(epochs=1), unfreeze=None, **how | {"l2_sp": 0.1})
    assert used


def step_without_values(data: Batches, model: PropertyModel, source: Source) -> torch.Tensor:
    """Take a step with tensors without values: what asks for one raises (see also ``test_on_a_device.py``)."""
    install.choose("torch").install(model)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        rows = mode.from_tensor(torch.arange(9))
        error = loss.loss("l1", model.train().values(model.embed(source.select(rows))), data.labels[rows])
        parameters = [p for p in model.parameters() if p.requires_grad]
        found = torch.autograd.grad(error, parameters, allow_unused=True)
        norm = nn.utils.get_total_norm([gradient for gradient in found if gradient is not None])
    return error * norm


def padded_source(data: Batches) -> Padded:
    return Padded(padded.closed(data.table), padded.rooms(padded.counts(data.table), 8)[-1])


def test_an_ordinary_step_does_and_so_does_cgat(part: Dataset) -> None:
    data = data_of(part, "cgcnn", 40)
    with pytest.raises(DataDependentOutputException):
        step_without_values(data, fresh_model(data.quantities), data.table)
    data = data_of(part, "cgat", 40)
    with pytest.raises(DynamicOutputShapeException, match="nonzero"):
        step_without_values(data, fresh_model(data.quantities, encoder="cgat"), padded_source(data))


def test_on_the_cpu_there_is_no_way() -> None:
    assert cuda_graphs.way(torch.device("cpu")) is None


class Stream:
    def wait_stream(self, other: object) -> None:
        pass


@contextmanager
def nothing(*given: object, **keys: object) -> Iterator[None]:
    yield


def scripted_cuda(monkeypatch: pytest.MonkeyPatch, capture: Callable) -> list[str]:
    """Stand in for CUDA, with ``capture`` as ``torch.cuda.graph``; return where replays are noted."""
    replays: list[str] = []

    class Graph:
        def replay(self) -> None:
            replays.append("replay")

    names = {"Stream": Stream, "stream": nothing, "current_stream": Stream, "graph": capture, "CUDAGraph": Graph}
    for name, stand_in in (names | {"graph_pool_handle": lambda: 0, "synchronize": lambda: None}).items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return replays


@pytest.mark.parametrize(
    ("encoder", "keys"),
    [
        ("cgcnn", {"batch_size": 8, "epochs": 6}),
        ("cgcnn", {"batch_size": 9, "epochs": 6, "loss_balance": "uncertainty", "clip": 0.1, "select": "last"}),
        ("megnet", {"batch_size": 8, "epochs": 4}),
        ("alignn", {"batch_size": 12, "epochs": 4}),
    ],
)
@pytest.mark.usefixtures("double")
def test_replayed_operations_train_as_python_does(
    part: Dataset, monkeypatch: pytest.MonkeyPatch, encoder: str, keys: dict
) -> None:
    data = data_of(part, encoder, 49)
    plain, expected = trained(data, encoder, **keys)
    made: list[recorded_graph.CUDAGraph] = []

    def noted() -> recorded_graph.CUDAGraph:
        made.append(recorded_graph.CUDAGraph())
        return made[-1]

    scripted_cuda(monkeypatch, recorded_graph.graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", noted)
    monkeypatch.setattr(cuda_graphs, "way", lambda device: cuda_graphs.through_graphs())
    other, events = trained(data, encoder, **keys)
    assert len(made) > 1, "a graph for each of several sizes"
    assert sum(graph.replays for graph in made) > len(expected)
    assert [e["train_loss"] for e in events] == pytest.approx([e["train_loss"] for e in expected], rel=1e-6)
    a, b = fit.predict(other, data, "test"), fit.predict(plain, data, "test")
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_a_step_is_captured_once_and_brings_its_own_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    replays = scripted_cuda(monkeypatch, nothing)
    weight = nn.Parameter(torch.ones(()))
    calls = []

    def step() -> torch.Tensor:
        calls.append(1)
        weight.grad = torch.full((), float(len(calls)))
        return torch.tensor(5.0)

    run = cuda_graphs.through_graphs()(step, [weight], print)
    for _ in range(6):
        weight.grad = None
        assert run() == 5.0
        assert weight.grad is not None
    assert len(calls) == 4, "three ordinary steps, then the capture"
    assert len(replays) == 3
    assert weight.grad == 4.0


def test_a_capture_that_fails_is_said_once_and_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def fails(*given: object, **keys: object) -> Iterator[None]:
        yield
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    replays = scripted_cuda(monkeypatch, fails)
    said: list[str] = []
    way = cuda_graphs.through_graphs()
    for _ in range(2):
        run = way(lambda: torch.tensor(5.0), [], said.append)
        assert [float(run()) for _ in range(6)] == [5.0] * 6
    assert len(said) == 1
    assert "not permitted" in said[0]
    assert not replays
