"""Faults 14, 15 and 17 of the list in docs/reliability.md: numbers that are not finite, and too little memory."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from commands import run
from support import a_fit, batches_of, fresh_model

from tltool.data.dataset import Dataset
from tltool.errors import NumericError, ResourceError
from tltool.evaluation.predictor import Predictor
from tltool.model.property_model import PropertyModel
from tltool.model.surgery import edit
from tltool.training import single_fit
from tltool.training.fit import train
from tltool.training.saved_state import resume
from tltool.training.scaled_labels import scalers

CONFIG = {"stage": "pretrain", "fit": {"epochs": 3, "batch_size": 32}}


def spoil(monkeypatch: pytest.MonkeyPatch, what: str, steps: set[int]) -> None:
    """Make the loss or a gradient of some steps, counted from 1, infinite; statistics of the batch suffer as well."""
    learn, calls = single_fit.Step.__call__, iter(range(1, 10_000))

    def spoilt(self: single_fit.Step, batch: Any) -> torch.Tensor:
        if next(calls) not in steps:
            return learn(self, batch)
        weight = next(p for p in self.model.parameters() if p.ndim > 1)
        with torch.no_grad():
            kept = weight.clone()
            weight += torch.inf if what == "loss" else 0.0
        hook = None if what == "loss" else weight.register_hook(lambda slope: slope * torch.inf)
        loss = learn(self, batch)
        if hook is not None:
            hook.remove()
        with torch.no_grad():
            weight.copy_(kept)
        return loss

    monkeypatch.setattr(single_fit.Step, "__call__", spoilt)


def trained(data: Any, events: list[dict[str, Any]], keeper: resume.Keeper | None = None, **keys: Any) -> PropertyModel:
    model = fresh_model(data.quantities)
    edit.new_heads(model, scalers(data, reference=False, scale="linear"))
    torch.manual_seed(0)
    fit = a_fit(events.append, **keys)
    train(model, data, replace(fit, keeper=keeper, ids=[f"id-{row}" for row in range(200)]))
    return model


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_14_a_step_that_is_not_finite_is_left_out_and_named(
    part: Dataset, monkeypatch: pytest.MonkeyPatch, what: str, clip: float | None
) -> None:
    data, events = batches_of(part), []
    spoil(monkeypatch, what, {2, 7})
    model = trained(data, events, clip=clip, ema=0.9)
    assert all(bool(torch.isfinite(table).all()) for table in model.state_dict().values())
    bad = [event for event in events if event["event"] == "bad_step"]
    assert [event["epoch"] for event in bad] == [1, 2]
    assert all(len(event["ids"]) == 32 and re.fullmatch(r"id-\d+", event["ids"][0]) for event in bad)
    said = [event["text"] for event in events if event["event"] == "say"]
    assert said[0].startswith("A step of epoch 1 is left out, because its loss or gradient is not finite (id-")
    losses = [event["train_loss"] for event in events if event["event"] == "epoch"]
    assert len(losses) == 3
    assert all(0 < loss < 10 for loss in losses)


def test_14_after_too_many_the_state_is_from_before(
    part: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = batches_of(part)
    spoil(monkeypatch, "loss", set(range(27, 100)))
    keeper = resume.Keeper(tmp_path, 0, None, CONFIG, print)
    with pytest.raises(NumericError, match=r"was not finite in .*epoch 2; lower optimiser\.lr or set fit\.clip=1"):
        trained(data, [], keeper, epochs=30, batch_size=8)
    assert [state["epoch"] for state in json.loads((tmp_path / "state.json").read_text())["states"]] == [1]


class Memory:
    """Stands for a device with room for few crystals."""

    def __init__(self, room: int) -> None:
        self.room = room

    def __call__(self, module: Any, given: Any, found: Any) -> None:
        if int(given[0].crystal.max()) + 1 > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize(("room", "says"), [(9, r"fit\.batch_size=8 fits"), (0, "even for one crystal")])
def test_15_out_of_memory_names_a_batch_size_that_fits(
    part: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, says: str
) -> None:
    data, made = batches_of(part), fresh_model

    def small(*given: Any) -> PropertyModel:
        model = made(*given)
        model.encoder.register_forward_hook(Memory(room))
        return model

    monkeypatch.setitem(globals(), "fresh_model", small)
    keeper = resume.Keeper(tmp_path, 10, None, CONFIG, print)
    with pytest.raises(ResourceError, match=says) as error:
        trained(data, [], keeper)
    assert f"use resume={tmp_path} resume_allow=[fit.batch_size]." in str(error.value)
    assert (tmp_path / "state.json").is_file()


def test_15_predict_halves_its_batch(part: Dataset, source: PropertyModel) -> None:
    items = [(part.store.ids[row], part.store.crystal(row)) for row in range(30)]
    expected = Predictor(source).table(items)
    hook = source.encoder.register_forward_hook(Memory(4))
    try:
        found = Predictor(source).table(items)
        hook.remove()
        hook = source.encoder.register_forward_hook(Memory(0))
        none = Predictor(source).table(items[:3])
    finally:
        hook.remove()
    assert found.prediction.tolist() == pytest.approx(expected.prediction.tolist(), abs=1e-5)
    assert none.prediction.isna().all()
    assert none.status.str.contains("needs more memory than there is").all()


def test_17_one_bad_structure_never_ends_predict(
    part: Dataset, source: PropertyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [(part.store.ids[row], part.store.crystal(row)) for row in range(20)]
    bad = items[7][1]
    graph = Predictor.graph

    def failing(self: Predictor, crystals: list[Any]) -> Any:
        if any(crystal is bad for crystal in crystals):
            raise ZeroDivisionError("float division by zero")
        return graph(self, crystals)

    monkeypatch.setattr(Predictor, "graph", failing)
    found = Predictor(source).table(items)
    assert found.prediction.isna().tolist() == [row == 7 for row in range(20)]
    assert found.status[7] == f"{items[7][0]}: cannot be predicted (ZeroDivisionError: float division by zero)"


@pytest.mark.slow
def test_17_odd_cells_are_rows_of_a_prediction(tmp_path: Path) -> None:
    """One atom, no neighbour within the cutoff, atoms on one place, a cell without volume."""
    cell = "data_x\n_cell_length_a {a}\n_cell_length_b {a}\n_cell_length_c {a}\n" + "".join(
        f"_cell_angle_{name} {{angle}}\n" for name in ("alpha", "beta", "gamma")
    )
    sites = "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
    files = {
        "one": cell.format(a=3.6, angle=90) + sites + "Cu 0 0 0\n",
        "far": cell.format(a=30, angle=90) + sites + "Cu 0 0 0\n",
        "same": cell.format(a=4, angle=90) + sites + "Cu 0 0 0\nAl 0 0 0\n",
        "flat": cell.format(a=4, angle=120) + sites + "Cu 0 0 0\n",
    }
    (tmp_path / "in").mkdir()
    for name, text in files.items():
        (tmp_path / "in" / f"{name}.cif").write_text(text)
    run(tmp_path, "predict", "model=bundled", "input=in", "output=out.csv")
    table = pd.read_csv(tmp_path / "out.csv").drop_duplicates("id").set_index("id")
    assert table.prediction["one"] == pytest.approx(table.prediction["one"])
    for name in ("same", "flat"):
        assert pd.isna(table.prediction[name])
        assert f"{name}.cif: " in table.status[name]
    assert not pd.isna(table.prediction["far"]) or "far" in table.status["far"]
