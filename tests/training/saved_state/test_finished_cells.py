"""What decides the numbers of a run of a sweep: config, data and every model that it begins with."""

import json
from pathlib import Path
from typing import Any

import pytest

from tltool.training.saved_state.finished_cells import digest


def a_model(folder: Path, content: str) -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "manifest.json").write_text(json.dumps({"model.yaml": content}))
    (folder / "model" / "model.yaml").write_text(content)
    return folder


@pytest.mark.parametrize("stage", ["prepare", "pretrain", "report"])
def test_a_stage_that_takes_no_model_has_a_digest(stage: str, tmp_path: Path) -> None:
    config: dict[str, Any] = {"stage": stage, "runs": str(tmp_path), "seed": 0}
    assert digest(config) == digest(config | {"runs": str(tmp_path / "other")})
    assert digest(config) != digest(config | {"seed": 1})


def test_each_of_several_sources_counts(tmp_path: Path) -> None:
    one, other = (str(a_model(tmp_path / name, name) / "model") for name in ("one", "other"))
    config: dict[str, Any] = {"stage": "transfer", "runs": str(tmp_path), "source": [one, other]}
    before = digest(config)
    assert before == digest(config)
    (Path(other) / "manifest.json").write_text("{}")
    assert digest(config) != before
