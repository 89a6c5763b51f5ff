"""Numbers of the crystal as a whole go from tags into the state, and what is missing is named."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support import a_fit, batches_of, fresh_model

from tltool.data.dataset import Dataset
from tltool.errors import ConfigError, DataError
from tltool.evaluation.predictor import Predictor
from tltool.model.surgery.edit import new_heads
from tltool.training import crystal_state
from tltool.training.fit import predict, train
from tltool.training.scaled_labels import scalers


def charged(part: Dataset) -> Dataset:
    """The same crystals with a charge each, and labels that are the charge."""
    charges = np.arange(len(part.store)) % 3 - 1
    tags = {**part.store.tags, "charge": [str(q) for q in charges], "note": ["-"] * len(charges)}
    return replace(part, store=replace(part.store, tags=tags, labels={"e_form": charges.astype(float)}))


def test_a_model_learns_from_a_tag(part: Dataset) -> None:
    whole = charged(part)
    data = batches_of(whole)
    assert crystal_state.placed(data, whole.store, {}) is data
    data = crystal_state.placed(data, whole.store, {"state": ["charge"]})
    assert data.table.state is not None
    assert data.table.state[data.rows(), 0].tolist() == whole.store.label("e_form")[data.rows().numpy()].tolist()
    model = fresh_model(encoder="megnet", overrides=("encoder.state_inputs=1",))
    new_heads(model, scalers(data, reference=False, scale="linear"))
    train(model, data, a_fit(epochs=12))
    label = data.labels[data.split["test"]].numpy()
    assert np.abs(predict(model, data, "test") - label).mean() < 0.5 * np.abs(label).mean()

    model.spec |= {"state": ["charge"]}
    items = [("a", whole.store.crystal(3))]
    first, second = (Predictor(model, state={"charge": q}).table(items).prediction[0] for q in (-1, 1))
    assert second > first + 0.5


def test_what_is_missing_is_named(part: Dataset) -> None:
    whole = charged(part)
    with pytest.raises(DataError, match=r"has no tag 'spin' .tags: charge, "):
        crystal_state.placed(batches_of(whole), whole.store, {"state": ["spin"]})
    with pytest.raises(DataError, match="the tag note is '-', which is not a number"):
        crystal_state.placed(batches_of(whole), whole.store, {"state": ["charge", "note"]})
    with pytest.raises(ConfigError, match=r"does not match the model; give state=\{charge: NUMBER\}"):
        crystal_state.given({"state": ["charge"]}, {})
    with pytest.raises(ConfigError, match="does not match the model; give no state="):
        crystal_state.given({}, {"charge": 1})
    some: Any = "one"
    with pytest.raises(ConfigError, match="charge='one' must be a number"):
        crystal_state.given({"state": ["charge"]}, {"charge": some})


def test_the_encoder_makes_room() -> None:
    node = {"_target_": "x", "state_inputs": 0}
    assert crystal_state.encoder_with(node, ["charge", "spin"]) == {"_target_": "x", "state_inputs": 2}
    assert crystal_state.encoder_with({"_target_": "x"}, []) == {"_target_": "x"}
    with pytest.raises(ConfigError, match="has no state inputs; use encoder=megnet"):
        crystal_state.encoder_with({"_target_": "x"}, ["charge"])


def test_a_batch_takes_its_rows(part: Dataset) -> None:
    whole = charged(part)
    data = crystal_state.placed(batches_of(whole), whole.store, {"state": ["charge"]})
    graph = data.to("cpu").table.select(data.split["test"][:4])
    assert graph.state is not None
    assert torch.equal(graph.state, data.table.state[data.split["test"][:4]])  # type: ignore[index]
