"""What else a saved model holds: an estimator, the index of its crystals, functionals, logarithms, parts of plugins."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from support import fresh_model
from torch import nn

from tltool.errors import CheckpointError, ResourceError
from tltool.model.property_model import PropertyModel
from tltool.model.sklearn_head import EstimatorHead
from tltool.training.saved_model import checkpoint, upgrades


def spec_of(folder: Path) -> dict[str, object]:
    return OmegaConf.to_container(OmegaConf.load(folder / "model.yaml"))  # type: ignore[return-value]


def with_estimator(model: PropertyModel, estimator: object) -> PropertyModel:
    model.heads["e_form"] = EstimatorHead(estimator)
    return model


def test_an_estimator_comes_back_beside_a_linear_head(tmp_path: Path) -> None:
    model = fresh_model(("e_form", "gap")).eval()
    rows = torch.randn(20, model.trunk.dim, generator=torch.Generator().manual_seed(0))
    regressor = Ridge().fit(rows.double().numpy(), rows[:, 0].double().numpy())
    with_estimator(model, regressor)
    checkpoint.save(tmp_path / "model", model)
    assert spec_of(tmp_path / "model")["estimators"] == ["e_form"]
    assert spec_of(tmp_path / "model")["schema"] == upgrades.SCHEMA
    back = checkpoint.load(tmp_path / "model")
    assert isinstance(back.heads["e_form"], EstimatorHead)
    assert isinstance(back.heads["gap"], nn.Linear)
    for name in ("e_form", "gap"):
        torch.testing.assert_close(back.heads[name](rows), model.heads[name](rows))


def test_an_estimator_that_holds_a_function_of_the_system_is_refused_by_name(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(9, 3))
    harmful = make_pipeline(FunctionTransformer(os.path.abspath), Ridge())
    harmful[-1].fit(rows, rows[:, 0])
    checkpoint.save(tmp_path / "model", with_estimator(fresh_model(), harmful))
    with pytest.raises(CheckpointError, match=r"head-e_form\.skops contains posixpath\.abspath, which is not allowed"):
        checkpoint.load(tmp_path / "model")


def test_the_index_of_the_crystals_comes_back(tmp_path: Path) -> None:
    model = fresh_model()
    model.seen = {"fingerprint": np.arange(5, dtype=np.uint64), "ids": np.array([[1, 2]], dtype=np.int32)}
    checkpoint.save(tmp_path / "model", model)
    back = checkpoint.load(tmp_path / "model").seen
    assert {k: (v.dtype, v.tolist()) for k, v in back.items()} == {
        k: (v.dtype, v.tolist()) for k, v in model.seen.items()
    }
    checkpoint.save(tmp_path / "without", fresh_model())
    assert checkpoint.load(tmp_path / "without").seen == {}


def test_the_manifest_has_the_sum_of_every_other_file(tmp_path: Path) -> None:
    model = with_estimator(fresh_model(), Ridge().fit(np.eye(3), np.ones(3)))
    model.seen = {"a": np.zeros(1)}
    checkpoint.save(tmp_path / "deep" / "er" / "model", model)
    folder = tmp_path / "deep" / "er" / "model"
    text = (folder / "manifest.json").read_text()
    sums = json.loads(text)
    assert list(sums) == ["head-e_form.skops", "model.safetensors", "model.yaml", "seen.safetensors"]
    assert text.endswith("\n")
    assert [p.name for p in folder.parent.iterdir()] == ["model"]
    (folder / "model.yaml").write_text((folder / "model.yaml").read_text() + "# a remark\n")
    with pytest.raises(CheckpointError, match=r"model\.yaml has changed since the model was saved"):
        checkpoint.read_spec(folder)


def test_a_model_is_never_saved_over_another(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "model", fresh_model())
    before = (tmp_path / "model" / "manifest.json").read_text()
    with pytest.raises(
        ResourceError, match=r"Cannot save the model to .*model \(.*not empty\); free disk space or choose"
    ):
        checkpoint.save(tmp_path / "model", fresh_model(seed=1))
    assert (tmp_path / "model" / "manifest.json").read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_functionals_and_logarithms_are_rebuilt(tmp_path: Path) -> None:
    plain = fresh_model(("e_form", "K_VRH"))
    model = checkpoint.build(plain.spec | {"functionals": ["PBE", "SCAN"], "logarithmic": ["K_VRH"]})
    checkpoint.save(tmp_path / "model", model)
    back = checkpoint.load(tmp_path / "model")
    assert back.encoder.functional.weight.shape == (2, back.encoder.dim)
    assert {name: scaler.logarithmic for name, scaler in back.scalers.items()} == {"e_form": False, "K_VRH": True}
    assert not [name for name in plain.state_dict() if "functional" in name]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n- list\n", "is no table of keys; copy the whole model folder again"),
        ("encoder: {}\n", "has schema None, which no version of tltool has written; copy the whole model folder again"),
        ("schema: 0\n", "has schema 0, which no version"),
        ("schema: true\n", "has schema True, which no version"),
        (
            f"schema: {upgrades.SCHEMA + 1}\n",
            f"has schema {upgrades.SCHEMA + 1}, but this version of tltool reads schemas 1 to {upgrades.SCHEMA}; "
            "upgrade tltool",
        ),
    ],
)
def test_a_description_of_an_unknown_schema_is_refused_in_a_sentence(text: str, words: str, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "model", fresh_model())
    file = tmp_path / "model" / "model.yaml"
    file.write_text(text)
    sums = {f.name: checkpoint._sha256(f) for f in file.parent.iterdir() if f.name != "manifest.json"}
    (file.parent / "manifest.json").write_text(json.dumps(sums))
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(tmp_path / "model")
    assert str(caught.value).startswith(f"{file} {words}")
    assert str(caught.value).count(". ") == 0


TRUNK = """
from torch import nn


class Trunk(nn.Module):
    def __init__(self, dim, /):
        super().__init__()
        self.dim = dim

    def forward(self, rows):
        return 2 * rows
"""


def test_a_part_from_elsewhere_needs_its_package_among_the_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_trunk_of_a_test.py").write_text(TRUNK)
    monkeypatch.syspath_prepend(tmp_path)
    spec = fresh_model().spec | {"trunk": {"_target_": "own_trunk_of_a_test.Trunk"}}
    model = checkpoint.build(spec, ["own_trunk_of_a_test"])
    checkpoint.save(tmp_path / "model", model)
    back = checkpoint.load(tmp_path / "model", plugins=["own_trunk_of_a_test"])
    assert type(back.trunk).__name__ == "Trunk"
    with pytest.raises(CheckpointError, match=r"model\.yaml cannot be used: .*own_trunk_of_a_test\.Trunk"):
        checkpoint.load(tmp_path / "model")
