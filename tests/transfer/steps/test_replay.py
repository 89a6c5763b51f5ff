"""Rows of the source beside those of the target: what they change, what they must not, and what is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support import a_fit, batches_of, config, fresh_model, graph_settings_of

from tltool import instantiate, machine
from tltool.data import store
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.graph import crystal_graphs
from tltool.data.store import Store
from tltool.errors import ConfigError, DataError
from tltool.model.kernels.cpp_kernels import CppKernels
from tltool.model.kernels.install import Kernels
from tltool.model.property_model import PropertyModel
from tltool.model.surgery import edit
from tltool.sweep.stacked_fit import train_all
from tltool.training import cuda_graphs
from tltool.training.backend import CPU, Backend
from tltool.training.fit import predict, train
from tltool.training.scaled_labels import scalers
from tltool.transfer.steps import replay

VANISHING = 1e-30
"""A weight that is not 0, and whose gradients are lost beside those of the target."""
WAYS = {
    "finetune": ["mode=finetune"],
    "head of the source": ["mode=finetune", "mode.head=keep"],
    "gradual": ["mode=finetune", "mode.unfreeze=1"],
    "probe first": ["mode=finetune", "mode.probe_first=true", "mode.l2_sp=0.1", "mode.layer_decay=0.9"],
    "frozen encoder": ["mode=freeze"],
    "frozen block": ["mode=freeze", "mode.parts=[encoder.blocks.0,encoder.embedding]"],
    "lora": ["mode=lora"],
}


@pytest.fixture(scope="module")
def target(part: Dataset) -> Batches:
    """Another quantity of the same crystals, few rows."""
    return batches_of(part, ("e_above_hull",), seed=3, train_size=40)


@pytest.fixture(scope="module")
def rows(part: Dataset) -> Batches:
    """The rows of the source, with its labels."""
    return batches_of(part, test=0.3)


def run(
    source: PropertyModel, data: Batches, rows: Batches | None, weight: float, *words: str, **keys: Any
) -> PropertyModel:
    node = config("transfer", *(words or ["mode=finetune"]), f"mode.replay={weight}")["mode"]
    backend = keys.pop("backend", CPU)
    keys = {"epochs": 7 if node.get("unfreeze") else 3} | keys
    return instantiate.call(node, source, data, replace(a_fit(**keys), source_rows=rows, backend=backend))


def same(one: PropertyModel, other: PropertyModel) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(table, theirs[name]) for name, table in mine.items())


def error_after(model: PropertyModel, when: str = "after") -> float:
    return model.spec["replay"]["quantities"]["e_form"][when]["test"]


def test_weight_0_is_what_the_loop_alone_makes_to_the_bit(
    source: PropertyModel, target: Batches, rows: Batches
) -> None:
    fit = a_fit(ema=0.9)
    torch.manual_seed(fit.seed)
    plain = edit.copy_of(source)
    edit.give_head(plain, scalers(target, fit.settings.reference, fit.settings.scale), "new")
    train(plain, target, fit)
    found = run(source, target, rows, 0.0, ema=0.9)
    assert same(found, plain)
    assert "replay" not in found.spec


@pytest.mark.parametrize("way", WAYS)
def test_a_weight_that_vanishes_leaves_the_target_as_it_is(
    source: PropertyModel, target: Batches, rows: Batches, way: str
) -> None:
    """The rows of the target, their order and the running statistics do not depend on those of the source.

    Clipping would add up the norms of more gradients, in another order.
    """
    plain = run(source, target, rows, 0.0, *WAYS[way], clip=None)
    found = run(source, target, rows, VANISHING, *WAYS[way], clip=None)
    assert found.state_dict().keys() == plain.state_dict().keys()
    for name, table in found.state_dict().items():
        torch.testing.assert_close(table, plain.state_dict()[name], rtol=1e-6, atol=1e-7, msg=name)
    assert "source_task" not in dict(found.named_children())


def test_a_large_weight_keeps_more_of_the_source(source: PropertyModel, target: Batches, rows: Batches) -> None:
    events: list[dict] = []
    how = {"ema": 0, "epochs": 25, "select": "last"}
    rehearsed = rows.split["train"][:16]
    few = replace(rows, split={"train": rehearsed, "val": rehearsed[:0], "test": rehearsed})
    without = run(source, target, few, VANISHING, **how)
    found = run(source, target, few, 10.0, log=events.append, **how)
    assert error_after(found, "before") == error_after(without, "before")
    assert error_after(found) < 0.5 * error_after(without)
    (said,) = [event["text"] for event in events if event["event"] == "say"]
    assert "of its test rows (mode.replay=10): e_form MAE" in said
    assert f"{error_after(found):.4g} eV/atom after" in said


def test_frozen_parts_stay_equal_to_the_bit(source: PropertyModel, target: Batches, rows: Batches) -> None:
    model = run(source, target, rows, 5.0, *WAYS["frozen block"], ema=0.9)
    held = [k for k in source.state_dict() if k.startswith(("encoder.blocks.0.", "encoder.embedding."))]
    assert any(name.endswith("norm_edges.mean") for name in held)
    assert all(torch.equal(model.state_dict()[name], source.state_dict()[name]) for name in held)


def test_the_source_is_not_changed_and_the_seed_decides(source: PropertyModel, target: Batches, rows: Batches) -> None:
    before = {name: table.clone() for name, table in source.state_dict().items()}
    one, again, other = (run(source, target, rows, 1.0, seed=seed, ema=0.9) for seed in (0, 0, 1))
    assert all(torch.equal(table, before[name]) for name, table in source.state_dict().items())
    assert same(one, again)
    assert one.spec == again.spec
    assert not same(one, other)
    fewer = replace(rows, split={**rows.split, "train": rows.split["train"][:7]})
    assert not same(one, run(source, target, fewer, 1.0, ema=0.9)), "the rows of the source matter"


@pytest.mark.parametrize("encoder", ["megnet", "alignn"])
def test_every_encoder_keeps_the_statistics_of_the_target(demo: Store, encoder: str) -> None:
    records = store.gather([demo.record(row) for row in range(30)], demo.attributes)
    crystals = [records.crystal(row) for row in range(len(records))]
    few = Dataset(records, crystal_graphs.build(crystals, graph_settings_of(encoder)))
    data, rows = (batches_of(few, (name,)) for name in ("e_above_hull", "e_form"))
    source = fresh_model(encoder=encoder)
    edit.new_heads(source, scalers(rows, reference=False, scale="linear"))
    plain, found, replayed = (run(source, data, rows, weight, epochs=1, clip=None) for weight in (0.0, VANISHING, 1.0))
    for name, table in found.state_dict().items():
        torch.testing.assert_close(table, plain.state_dict()[name], rtol=1e-6, atol=1e-7)
    assert not same(plain, replayed)


def test_compiled_kernels_replay_the_same(
    source: PropertyModel, target: Batches, rows: Batches, cpp: CppKernels
) -> None:
    plain = run(source, target, rows, 1.0)
    found = run(source, target, rows, 1.0, backend=Backend(torch.device("cpu"), Kernels("compiled", cpp)))
    np.testing.assert_allclose(predict(found, target, "test"), predict(plain, target, "test"), atol=1e-4)
    assert error_after(found) == pytest.approx(error_after(plain), rel=1e-3)


def test_what_trains_several_models_or_replays_graphs_gives_way(
    source: PropertyModel, target: Batches, rows: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unused(*given: object) -> None:
        raise AssertionError("a graph would not know the rows of the source")

    asked: list[object] = []
    monkeypatch.setattr(cuda_graphs, "way", unused)
    node = config("transfer", "mode.replay=1")["mode"]
    fit = replace(a_fit(epochs=1), source_rows=rows, together=lambda given: asked.extend(train_all([given, given])))
    instantiate.call(node, source, target, fit)
    assert asked == [None, None]


def test_what_cannot_be_replayed_is_refused(
    source: PropertyModel, target: Batches, rows: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    for weight in ("-1", "nan", "inf"):
        with pytest.raises(ConfigError, match=r"mode\.replay=.* must be a number of at least 0"):
            run(source, target, rows, weight)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"needs rows of the source, and none are given; use mode\.replay=0\.$"):
        run(source, target, None, 1.0)
    with pytest.raises(ConfigError, match="would change nothing, because all that source and target share is frozen"):
        run(source, target, rows, 1.0, "mode=freeze", "mode.parts=[encoder,readout,trunk]")
    ridge = instantiate.call(config("transfer", "mode=features", "mode/regressor=svr")["mode"], source, rows, a_fit())
    with pytest.raises(ConfigError, match="the head of the source is an estimator"):
        run(ridge, target, rows, 1.0)
    monkeypatch.setattr(machine, "ranks", lambda: 2)
    with pytest.raises(ConfigError, match="start it without torchrun"):
        run(source, target, rows, 1.0)


def test_without_epochs_and_without_tests_of_the_source(source: PropertyModel, target: Batches, rows: Batches) -> None:
    assert same(run(source, target, None, 1.0, epochs=0), run(source, target, None, 0.0, epochs=0))
    events: list[dict] = []
    none = rows.split["test"][:0]
    alone = replace(rows, split={**rows.split, "val": none, "test": none})
    found = run(source, target, alone, 1.0, epochs=1, log=events.append)
    assert found.spec["replay"]["measured"] == {}
    assert not [event for event in events if event["event"] == "say"]
    validated = run(source, target, replace(rows, split={**rows.split, "test": none}), 1.0, epochs=1, log=events.append)
    assert validated.spec["replay"]["quantities"]["e_form"]["after"]["val"] > 0
    assert "of its validation rows" in next(event["text"] for event in events if event["event"] == "say")


def test_every_row_has_its_turn_before_one_comes_again(source: PropertyModel, target: Batches, rows: Batches) -> None:
    model = edit.copy_of(source)
    few = replace(rows, split={**rows.split, "train": rows.split["train"][:10]})
    with replay.beside(source, model, replace(a_fit(), source_rows=few), 1.0) as further:
        drawn = torch.cat([further._drawn(4) for _ in range(5)])
    for turn in torch.split(drawn, 10):
        assert sorted(turn.tolist()) == sorted(few.split["train"].tolist())
    assert drawn[:10].tolist() != drawn[10:].tolist()
