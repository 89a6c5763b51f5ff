"""A transferred model as the source of another transfer, on the command line: all steps are told."""

import json
from pathlib import Path

import pytest
from commands import run

from tltool.model.property_model import PropertyModel
from tltool.training.saved_model import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]


def transfer(home: Path, *words: str) -> str:
    few = ["split.train_size=20", "threads=1", f"runs={home}/runs"]
    return run(home, "transfer", *words, *few).stderr


def test_two_transfers_and_the_verdict(source: PropertyModel, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "source", source)
    transfer(tmp_path, "target=refractive_index", "mode=features", "source=source", "hydra.run.dir=runs/transfer/one")
    second = ["target=dielectric", "source=runs/transfer/one"]
    said = transfer(tmp_path, *second, "mode=lora", "fit.epochs=1", "hydra.run.dir=runs/transfer/two")
    assert "trained on unknown (part), then " in said
    assert "(dielectric, features)." in said
    assert "there is no scratch run with this seed" in said.replace("\n", " ")
    origins = checkpoint.read_spec(tmp_path / "runs" / "transfer" / "two" / "model")["provenance"]
    assert [(o["stage"], o.get("mode")) for o in origins] == [
        ("pretrain", None), ("transfer", "features"), ("transfer", "lora"),
    ]  # fmt: skip
    metrics = json.loads((tmp_path / "runs" / "transfer" / "two" / "metrics.json").read_text())
    assert len(metrics["chain"]) == 3
    assert metrics["chain"][-1].endswith("(dielectric, lora)")
    assert metrics["trainable_parameters"] > 1000
    transfer(tmp_path, *second, "mode=scratch", "fit.epochs=1")
    said = transfer(tmp_path, *second, "mode=lora", "fit.epochs=1").replace("\n", " ")
    assert "than that of scratch with the same seed and rows" in said, said
