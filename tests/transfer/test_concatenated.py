"""Extra features of ``mode=features``: descriptors, the input of the source's heads, and its predictions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import QUOTIENT, a_fit, batches_of, config, fresh_model

from tltool import instantiate
from tltool.data import store
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.formats.formulas import composition
from tltool.data.graph import crystal_graphs
from tltool.data.record import Record
from tltool.errors import ConfigError
from tltool.model.property_model import PropertyModel
from tltool.model.readouts import descriptors
from tltool.training.fit import predict
from tltool.training.saved_model import checkpoint


@pytest.fixture(scope="module")
def target(part: Dataset) -> Batches:
    return batches_of(part, ("e_above_hull",), seed=3, train_size=40)


def features(source: PropertyModel, data: Batches, *overrides: str) -> PropertyModel:
    node = config("transfer", "mode=features", "mode.level=[]", *overrides)["mode"]
    return instantiate.call(node, source, data, a_fit())


def test_each_word_gives_its_columns(source: PropertyModel, target: Batches) -> None:
    graph = target.graph("train")
    with torch.no_grad():
        embedding = source.embed(graph)
        columns = {
            "elements": descriptors.of_elements(graph),
            "geometry": descriptors.of_geometry(graph),
            "trunk": source.trunk(embedding),
            "labels": source(graph),
        }
        for word, expected in columns.items():
            torch.testing.assert_close(features(source, target, f"mode.extra_features=[{word}]").embed(graph), expected)
        every = features(
            source, target, "mode.level=[1]", "mode.extra_features=[labels,trunk,geometry,elements]"
        ).embed(graph)
        level = features(source, target, "mode.level=[1]").embed(graph)
    torch.testing.assert_close(every, torch.cat([level, *columns.values()], dim=1))


@pytest.mark.parametrize("regressor", ["ridge", "gaussian_process"])
def test_it_survives_the_disk_and_is_a_source_itself(
    regressor: str, source: PropertyModel, target: Batches, tmp_path: Path
) -> None:
    words = "mode.extra_features=[elements,geometry,trunk,labels]"
    model = features(source, target, "mode.level=[0]", words, f"mode/regressor={regressor}")
    model.spec["quantities"] = {"e_above_hull": {"unit": "eV/atom"}}
    checkpoint.save(tmp_path / "model", model)
    again = checkpoint.load(tmp_path / "model")
    np.testing.assert_array_equal(predict(again, target, "test"), predict(model, target, "test"))
    second = features(again, target, "mode.extra_features=[trunk,elements]")
    assert np.isfinite(predict(second, target, "test")).all()
    if regressor == "ridge":
        twice = features(again, target, "mode.extra_features=[labels]")
        torch.testing.assert_close(twice.embed(target.graph("test")), again(target.graph("test")))
    else:
        with pytest.raises(ConfigError, match="whose heads are networks"):
            features(again, target, "mode.extra_features=[labels]")


def test_predictions_of_a_source_on_a_logarithmic_scale_stand_as_logarithms(part: Dataset, target: Batches) -> None:
    volume = batches_of(part, ("e_form",), seed=1)
    positive = Batches(volume.table, volume.labels.exp(), volume.quantities, volume.split)
    node = config("transfer", "mode=scratch")["mode"]
    source = instantiate.call(node, fresh_model(), positive, a_fit(scale="log"))
    source.spec["logarithmic"] = ["e_form"]
    found = features(source, target, "mode.extra_features=[labels]").embed(target.graph("test"))
    torch.testing.assert_close(found, source(target.graph("test")).log())


def test_descriptors_of_elements_need_formulas_only(source: PropertyModel, tmp_path: Path) -> None:
    texts = [f"{metal}{n}O{k}" for metal in ("Li", "Na", "Mg", "Ca", "Ti") for n in (1, 2) for k in (1, 2, 2.5)]
    records = store.gather([Record(f"r{n}", composition(t, ""), {"gap": n / 9}) for n, t in enumerate(texts)], {})
    table = crystal_graphs.build([records.crystal(n) for n in range(len(texts))], QUOTIENT)
    data = batches_of(Dataset(records, table), ("gap",))
    model = features(source, data, "mode.extra_features=[elements]")
    assert np.isfinite(predict(model, data, "test")).all()
    for word in ("geometry", "labels", "trunk"):
        with pytest.raises(ConfigError, match="are formulas"):
            features(source, data, f"mode.extra_features=[elements,{word}]")


def test_words_there_are_not(source: PropertyModel, target: Batches) -> None:
    with pytest.raises(ConfigError, match=r"mode\.extra_features=\['colour'\] is not known"):
        features(source, target, "mode.extra_features=[colour]")
    with pytest.raises(ConfigError, match="level"):
        features(source, target)
    with pytest.raises(ConfigError, match="list of levels"):
        features(source, target, "mode.level=trunk", "mode.extra_features=[labels]")
