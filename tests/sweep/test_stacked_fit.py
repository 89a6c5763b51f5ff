"""Several fits at once give what each of them gives alone."""

import gc
import weakref
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import support
import torch
from support import a_fit, batches_of, fresh_model

from tltool.data.dataset import Dataset
from tltool.errors import NumericError
from tltool.model.kernels import cpp_library
from tltool.model.kernels.cpp_kernels import CppKernels
from tltool.model.kernels.install import Kernels
from tltool.model.property_model import PropertyModel
from tltool.model.surgery import edit, low_rank
from tltool.quantities import as_text
from tltool.sweep import stacked_batch, stacked_cgcnn, stacked_model
from tltool.sweep.stacked_fit import train_all
from tltool.training.backend import CPU, Backend
from tltool.training.fit import Trained, Training, predict, train
from tltool.training.scaled_labels import scalers
from tltool.transfer.steps import embeddings

pytestmark = pytest.mark.skipif(cpp_library.compiler() is None, reason="no C++ compiler is here")


@pytest.fixture(autouse=True)
def _kernels(cpp: CppKernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled kernels in whatever ``a_fit`` returns."""
    backend = Backend(torch.device("cpu"), Kernels("compiled", cpp))
    monkeypatch.setattr(support, "BACKEND", backend)


def a_training(
    part: Dataset,
    source: PropertyModel,
    seed: int,
    mode: str = "finetune",
    size: int = 40,
    quantities: tuple[str, ...] = ("e_form",),
    **keys: Any,
) -> Training:
    """What a mode hands to ``train``, of a split and a head of its own."""
    data = batches_of(part, quantities, seed=seed, train_size=size)
    fit = a_fit(seed=seed, **{"batch_size": 13, "ema": 0.9} | keys)
    torch.manual_seed(seed)
    model = edit.copy_of(source).to(torch.get_default_dtype())
    if mode == "scratch":
        edit.renew(model)
    edit.new_heads(model, scalers(data, reference=mode == "scratch", scale="linear"))
    values = None
    if mode == "lora":
        edit.freeze(model, ["encoder", "readout", "trunk"])
        low_rank.insert(model, [".*"], 2, 8.0)
    if mode == "freeze":
        edit.freeze(model, ["encoder"])
        values = partial(embeddings.values_of_embedding, embeddings.table(model, data))
    if mode == "features":
        edit.freeze(model, ["encoder", "readout", "trunk"])
        with torch.no_grad():
            values = partial(embeddings.values_of_hidden, model.trunk(embeddings.table(model, data)))
    return Training(model, data, fit, values, lambda name: 0.5 if name.startswith("encoder") else 1.0, None, None)


def with_classes(part: Dataset) -> Dataset:
    """The data set with a class of three and one of two, by its energies, some of which are missing."""
    energy = part.store.label("e_form")
    labels = {
        name: np.where(np.isfinite(energy), np.digitize(energy, np.nanquantile(energy, at)), np.nan)
        for name, at in (("bond", [0.3, 0.7]), ("is_metal", [0.5]))
    }
    define = as_text({"bond": {"classes": ["a", "b", "c"]}})
    own = replace(
        part.store, labels={**part.store.labels, **labels}, attributes={**part.store.attributes, "define": define}
    )
    return replace(part, store=own)


def alone(given: Training) -> Trained:
    return train(given.model, given.data, given.fit, values=given.values, scale=given.scale)


def worst(one: Training, other: Training) -> float:
    """The largest difference of their predictions, in spreads of the labels."""
    pairs = [(predict(t.model, t.data, "test"), t.model.scalers["e_form"].spread) for t in (one, other)]
    return float(np.abs(pairs[0][0] - pairs[1][0]).max() / float(pairs[0][1]))


@pytest.mark.parametrize("mode", ["finetune", "scratch", "lora", "freeze", "features"])
def test_every_mode_gives_the_numbers_of_separate_runs(part: Dataset, source: PropertyModel, mode: str) -> None:
    logs: list[list[dict]] = [[] for _ in range(6)]
    several, separate = (
        [
            (t := a_training(part, source, seed, mode))._replace(fit=replace(t.fit, log=logs[begin + seed].append))
            for seed in range(3)
        ]
        for begin in (0, 3)
    )
    found = train_all(several)
    for k, training in enumerate(separate):
        expected = alone(training)
        assert found[k][:2] == expected[:2]
        assert found[k].validation == pytest.approx(expected.validation, rel=1e-4)
        assert worst(several[k], training) < 1e-5
        assert logs[k].pop() == logs[3 + k].pop() == {"event": "kept", "epoch": expected.best_epoch}
        assert [e["epoch"] for e in logs[k]] == [e["epoch"] for e in logs[3 + k]] == [1, 2, 3]
        for key in ("train_loss", "learning_rate"):
            assert [e[key] for e in logs[k]] == pytest.approx([e[key] for e in logs[3 + k]], rel=1e-4)
        assert not several[k].model.training
    assert worst(several[0], several[1]) > 1e-2


@pytest.mark.parametrize(
    "keys",
    [
        {"schedule": "constant", "clip": None, "ema": 0.0, "loss": "mse"},
        {"schedule": "cosine", "select": "last", "loss": "huber"},
        {"patience": 1, "epochs": 12, "ema": 0.0},
        {"batch_size": 1000},
        {"batch_size": 39, "weights": {"e_form": 2.0}},
    ],
)
def test_every_setting_gives_the_numbers_of_separate_runs(
    part: Dataset, source: PropertyModel, double: None, keys: dict
) -> None:
    several, separate = ([a_training(part, source, seed, **keys) for seed in range(2)] for _ in range(2))
    found = train_all(several)
    for k, training in enumerate(separate):
        assert found[k] == pytest.approx(alone(training), rel=1e-8)
        assert worst(several[k], training) < 1e-8


@pytest.mark.parametrize("mode", ["scratch", "freeze"])
def test_classes_give_the_numbers_of_separate_runs(part: Dataset, source: PropertyModel, mode: str) -> None:
    own, names = with_classes(part), ("bond", "e_form", "is_metal")
    several, separate = (
        [a_training(own, source, seed, mode, quantities=names, weights={"bond": 2.0}) for seed in range(2)]
        for _ in range(2)
    )
    found = train_all(several)
    for k, training in enumerate(separate):
        expected = alone(training)
        assert found[k][:2] == expected[:2]
        assert found[k].validation == pytest.approx(expected.validation, rel=1e-4)
        pair = [predict(t.model, t.data, "test") for t in (several[k], training)]
        assert pair[0].shape[1] == 5
        np.testing.assert_allclose(pair[0], pair[1], atol=1e-4)


def test_a_fit_that_fails_leaves_the_others_as_they_are(part: Dataset, source: PropertyModel) -> None:
    several, separate = ([a_training(part, source, seed) for seed in range(3)] for _ in range(2))
    with torch.no_grad():
        several[1].model.heads["e_form"].weight.fill_(torch.inf)
    found = train_all(several)
    assert found[1] is None, "it is trained alone"
    with pytest.raises(NumericError):
        alone(several[1])
    for k in (0, 2):
        assert found[k][:2] == alone(separate[k])[:2]
        assert worst(several[k], separate[k]) < 1e-5


def test_what_takes_no_part_stays_as_it_is(part: Dataset, source: PropertyModel) -> None:
    shallow = edit.copy_of(source)
    shallow.readout.levels = (1,)
    several, separate = ([a_training(part, shallow, seed) for seed in range(2)] for _ in range(2))
    train_all(several)
    alone(separate[0])
    before = dict(source.named_parameters())["encoder.blocks.2.neighbour.weight"]
    for training in (several[0], separate[0]):
        assert torch.equal(dict(training.model.named_parameters())["encoder.blocks.2.neighbour.weight"], before)
    assert worst(several[0], separate[0]) < 1e-5


def test_models_have_tensors_of_their_own_afterwards(part: Dataset, source: PropertyModel) -> None:
    several = [a_training(part, source, seed, epochs=1) for seed in range(2)]
    train_all(several)
    places = {p.untyped_storage().data_ptr() for t in several for p in t.model.parameters()}
    assert len(places) == sum(1 for t in several for _ in t.model.parameters())


def test_what_cannot_be_stacked_is_left_to_itself(part: Dataset, source: PropertyModel) -> None:
    plain = a_training(part, source, 0, epochs=1)
    other = a_training(part, source, 1, epochs=1)
    adafactor = replace(other.fit, optimiser=lambda groups: torch.optim.Adafactor(groups))
    dropout = a_training(part, source, 1, epochs=1)
    dropout.model.trunk.dropout.p = 0.1
    megnet = a_training(part, fresh_model(encoder="megnet"), 1, epochs=1)
    for odd in (
        other._replace(penalty=lambda: torch.zeros(())),
        other._replace(before=lambda epoch: None),
        other._replace(values=lambda model, batch: model.values(model.embed(batch.graph))),
        other._replace(fit=adafactor),
        a_training(part, source, 1, epochs=1, loss_balance="uncertainty"),
        a_training(part, source, 1, epochs=2),
        a_training(part, source, 1, size=41, epochs=1),
        dropout,
        megnet,
    ):
        assert train_all([plain, odd]) == [None, None]
    alone = [t._replace(fit=replace(t.fit, backend=CPU)) for t in (plain, other)]
    assert train_all(alone) == [None, None]


def test_a_step_keeps_nothing_in_memory(part: Dataset, source: PropertyModel, cpp: CppKernels) -> None:
    several = [a_training(part, source, seed) for seed in range(2)]
    names = [name for name, _ in several[0].model.named_parameters()]
    whole = stacked_model.stack_of(cpp, [t.model for t in several], [names])
    rows = torch.stack([t.data.split["train"][:4] for t in several])
    graph, parts = stacked_batch.select(several[0].data.table, rows)
    gc.disable()
    try:
        levels = stacked_cgcnn.levels(cpp, source.encoder, graph, parts, lambda name: whole.tables[f"encoder.{name}"])
        there = [weakref.ref(level) for level in levels]
        levels[-1].sum().backward()
        del levels
        assert [ref() for ref in there] == [None] * len(there)
    finally:
        gc.enable()
