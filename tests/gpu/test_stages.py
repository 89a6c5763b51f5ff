"""Every stage, encoder and mode on a GPU gives what it gives on the CPU.

Both train in single precision with the same seed, so that they part only by rounding, which training makes grow: after
three epochs losses may differ by 1 %, errors on test rows by 10 %. A trained model itself has to predict the same on
both devices to 2e-3 of the standard deviation of the predictions, since matrix products may be rounded to TF32.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import ROOT, Command

ENCODERS = sorted(file.stem for file in (ROOT / "configs" / "encoder").glob("*.yaml"))
MODES = sorted(file.stem for file in (ROOT / "configs" / "mode").glob("*.yaml"))
SMALL = ["split.train_size=200", "fit.epochs=3", "fit.batch_size=32"]
NARROW = {"alignn": ["encoder.dim=32"], "alignn_small": ["encoder.dim=32"]}


def events(folder: Path, kind: str) -> list[dict]:
    """Return the events of a run of this kind."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event.get("event") == kind]


def error(folder: Path, part: str = "test") -> float:
    """Return the MAE of the first quantity on ``part``."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return float(next(iter(metrics["quantities"].values()))[part]["MAE"])


def predictions(folder: Path) -> "pd.Series[float]":
    """Return the predictions of a run by id."""
    table = pd.read_csv(folder / "predictions.csv")
    return table[table["split"] == "test"].set_index("id")["prediction"].sort_index()


@pytest.fixture(scope="session")
def sources(tltool: Command, gpu: str) -> dict[str, tuple[Path, Path]]:
    """Return a pretraining of each encoder, on the GPU and on the CPU."""
    return {}


def pretrained(sources: dict[str, tuple[Path, Path]], tltool: Command, gpu: str, encoder: str) -> tuple[Path, Path]:
    """Return the runs of ``encoder`` on the GPU and on the CPU, made the first time."""
    if encoder not in sources:
        words = [f"encoder={encoder}", *NARROW.get(encoder, []), *SMALL]
        sources[encoder] = tltool("pretrain", *words, f"device={gpu}"), tltool("pretrain", *words, "device=cpu")
    return sources[encoder]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_pretraining_is_that_of_the_cpu(
    sources: dict[str, tuple[Path, Path]], tltool: Command, gpu: str, encoder: str
) -> None:
    own, cpu = pretrained(sources, tltool, gpu, encoder)
    found, expected = ([e["train_loss"] for e in events(folder, "epoch")] for folder in (own, cpu))
    assert found == pytest.approx(expected, rel=0.01)
    assert error(own) == pytest.approx(error(cpu), rel=0.1)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_model_of_one_device_predicts_the_same_on_the_other(
    sources: dict[str, tuple[Path, Path]], tltool: Command, gpu: str, encoder: str
) -> None:
    for run in pretrained(sources, tltool, gpu, encoder):
        here, there = (predictions(tltool("eval", f"model={run}", f"device={name}")) for name in (gpu, "cpu"))
        assert list(here.index) == list(there.index)
        assert len(here) > 100
        np.testing.assert_allclose(here, there, atol=2e-3 * float(there.std()), rtol=0)


@pytest.mark.parametrize("encoder", ["cgcnn", "megnet"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_transfers(
    sources: dict[str, tuple[Path, Path]], tltool: Command, gpu: str, encoder: str, mode: str
) -> None:
    source, _ = pretrained(sources, tltool, gpu, encoder)
    words = ["target=bulk_modulus", f"mode={mode}", f"source={source}", "split.train_size=100"]
    if mode != "features":
        words += ["fit.epochs=4"]
    own, cpu = (tltool("transfer", *words, f"device={name}") for name in (gpu, "cpu"))
    if mode not in ("features", "auto"):
        # The same start on both devices: what a mode draws, it draws on the CPU.
        found, expected = (events(folder, "epoch")[0]["train_loss"] for folder in (own, cpu))
        assert found == pytest.approx(expected, rel=0.01)
    assert error(own) == pytest.approx(error(cpu), rel=0.25 if mode == "auto" else 0.15)


def test_files_are_predicted_the_same(
    sources: dict[str, tuple[Path, Path]], tltool: Command, gpu: str, tmp_path: Path
) -> None:
    source, _ = pretrained(sources, tltool, gpu, "cgcnn")
    (tmp_path / "NaCl.vasp").write_text(
        "NaCl\n1.0\n0.0 2.8 2.8\n2.8 0.0 2.8\n2.8 2.8 0.0\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"
    )
    found = []
    for name in (gpu, "cpu"):
        file = tmp_path / f"{name}.csv"
        tltool("predict", f"model={source}", f"input={tmp_path / 'NaCl.vasp'}", f"output={file}", f"device={name}")
        found.append(pd.read_csv(file).select_dtypes("number").iloc[0].to_numpy(dtype=float))
    np.testing.assert_allclose(found[0], found[1], rtol=5e-3, atol=5e-3)
