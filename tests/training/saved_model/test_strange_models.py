"""A model folder of a stranger, made with full knowledge of the code, runs nothing: it is refused in one sentence."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
import yaml
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tltool.errors import CheckpointError
from tltool.model.property_model import PropertyModel
from tltool.training.saved_model import checkpoint, upgrades

RAN: list[str] = []


def run(*words: object, **named: object) -> None:
    """Stand for whatever a stranger would like to run."""
    RAN.append("ran")


@pytest.fixture
def saved(source: PropertyModel, tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "model", source)
    return tmp_path / "model"


def sealed(folder: Path) -> Path:
    """Make the manifest fit the files."""
    sums = {f.name: checkpoint._sha256(f) for f in folder.iterdir() if f.name != "manifest.json"}
    (folder / "manifest.json").write_text(json.dumps(sums), encoding="utf-8")
    return folder


def with_spec(folder: Path, change: Any) -> Path:
    spec = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    change(spec)
    (folder / "model.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    return sealed(folder)


LAUNCH = {"words": ["plugins=[subprocess]", "data.adapter._target_=subprocess.run"], "stage": "pretrain"}
LOAD = {"plugins": ["subprocess"], "path": "elsewhere"}
CALLS: list[dict[str, Any]] = [
    {"_target_": "tltool.command_line.launch.launch", **LAUNCH},
    {"_target_": "tltool.training.saved_model.checkpoint.load", **LOAD},
    {"part": "tltool.command_line.launch.launch", **LAUNCH},
    {"part": "launch", **LAUNCH},
    {"part": "subprocess.run", "args": ["true"]},
    {"part": "tltool.model.encoders.cgcnn.torch.load", "f": "x"},
    {"part": "nn.Linear", "in_features": 3},
    {"part": ["CGCNN"]},
    {"part": "CGCNN", "_target_": "tltool.command_line.launch.launch"},
]


@pytest.mark.parametrize("schema", range(1, upgrades.SCHEMA + 1))
@pytest.mark.parametrize("place", ["encoder", "readout", "trunk", "head"])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: str(next(iter(call.values()))))
def test_a_part_is_a_known_part_of_its_place(saved: Path, place: str, call: dict[str, Any], schema: int) -> None:
    folder = with_spec(saved, lambda spec: spec.update({place: call, "schema": schema}))
    with pytest.raises(CheckpointError, match=r"cannot be used|does not contain"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "where",
    [
        lambda spec: spec["encoder"].update(dim={"_target_": "tltool.command_line.launch.launch", **LAUNCH}),
        lambda spec: spec["readout"].update(levels=[{"_target_": "tltool.command_line.launch.launch", **LAUNCH}]),
        lambda spec: spec["readout"].update(parts={"readout": {"part": "tltool.command_line.launch.launch"}}),
        lambda spec: spec["readout"].update(parts={"anything": {"part": "Pool"}}),
        lambda spec: spec.update(graph={"_target_": "tltool.command_line.launch.launch", **LAUNCH}),
        lambda spec: spec.update(elements=[{"_target_": "os.system", "command": "true"}]),
        lambda spec: spec.update(plugins=["tests"], encoder={"part": f"{__name__}.run"}),
        lambda spec: spec.update(trunk=spec["encoder"]),
        lambda spec: spec.update(encoder=spec["trunk"]),
    ],
)
def test_no_call_anywhere_and_no_plugin_from_a_file(saved: Path, where: Any) -> None:
    folder = with_spec(saved, where)
    with pytest.raises(CheckpointError, match=r"cannot be used|does not contain|takes no|cannot be read"):
        checkpoint.load(folder)
    assert not RAN


def test_a_user_may_still_trust_a_package(saved: Path) -> None:
    dotted = "tltool.model.encoders.cgcnn.CGCNN"
    folder = with_spec(saved, lambda spec: spec["encoder"].update(part=dotted))
    assert checkpoint.load(folder, plugins=["tltool.model.encoders.cgcnn"]).spec["encoder"]["_target_"] == dotted


def with_head(folder: Path, estimator: object) -> Path:
    (name,) = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))["quantities"]
    skops.io.dump(estimator, folder / f"head-{name}.skops")
    return with_spec(folder, lambda spec: spec.update(estimators=[name]))


@pytest.mark.parametrize("function", [np.array2string, np.save, np.testing.measure, run])
def test_a_head_holds_no_function(saved: Path, function: Any) -> None:
    steps = make_pipeline(FunctionTransformer(function), LinearRegression())
    with pytest.raises(CheckpointError, match=r"contains .*, which is not allowed; do not use this model"):
        checkpoint.load(with_head(saved, steps))


def test_a_head_predicts(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="contains no estimator that can predict"):
        checkpoint.load(with_head(shutil.copytree(saved, tmp_path / "list"), [1, 2]))
    folder = with_head(shutil.copytree(saved, tmp_path / "zip"), LinearRegression())
    (head,) = folder.glob("head-*.skops")
    head.write_bytes(b"no zip at all")
    with pytest.raises(CheckpointError, match="is not an estimator in skops format"):
        checkpoint.load(sealed(folder))
    with zipfile.ZipFile(head, "w") as made:
        made.writestr("schema.json", "{}")
    with pytest.raises(CheckpointError, match="is not an estimator in skops format"):
        checkpoint.load(sealed(folder))


def test_a_yaml_is_plain_and_small(saved: Path, tmp_path: Path) -> None:
    text = (saved / "model.yaml").read_text(encoding="utf-8")
    aliases = "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}]\n" for k in range(1, 40))
    for n, more in enumerate(
        [
            aliases,
            f"deep: {'[' * 500}{']' * 500}\n",
            f"schema: {upgrades.SCHEMA}\n",
            "strange: !!python/name:os.system\n",
        ]
    ):
        folder = shutil.copytree(saved, tmp_path / str(n))
        (folder / "model.yaml").write_text(text + more, encoding="utf-8")
        with pytest.raises(CheckpointError, match="cannot be read as a model folder"):
            checkpoint.load(sealed(folder))
    (saved / "manifest.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot be read as a model folder"):
        checkpoint.load(saved)


@pytest.mark.parametrize("place", ["encoder", "trunk"])
def test_a_size_that_no_tensor_has_fills_no_memory(saved: Path, place: str) -> None:
    key = {"encoder": "dim", "trunk": "width"}[place]
    with pytest.raises(CheckpointError, match="is larger than any tensor of the model"):
        checkpoint.load(with_spec(saved, lambda spec: spec[place].update({key: 10**9})))


@pytest.mark.parametrize("key", ["graph", "quantities", "encoder", "elements"])
def test_a_spec_that_lacks_a_key_says_which(saved: Path, key: str) -> None:
    with pytest.raises(CheckpointError, match=f"lacks {key}"):
        checkpoint.load(with_spec(saved, lambda spec: spec.pop(key)))


def test_what_is_saved_is_data(saved: Path) -> None:
    text = (saved / "model.yaml").read_text(encoding="utf-8")
    assert "_target_" not in text
    assert "tltool." not in text
