"""What only a GPU does: replayed graphs, bfloat16, its own memory, and going on after an interruption."""

import json
from pathlib import Path

import pytest
import torch
from support import Command

from tltool.training.saved_state import resume

WORDS = ["split.train_size=600", "fit.batch_size=64"]


def epochs(folder: Path) -> list[dict]:
    """Return what was logged of each epoch."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event.get("event") == "epoch"]


def said(folder: Path) -> str:
    """Return all sentences of a run."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return " ".join(event["text"] for event in map(json.loads, lines) if event.get("event") == "say")


@pytest.mark.parametrize("encoder", ["cgcnn", "megnet", "alignn_small"])
def test_replayed_graphs_train_as_plain_steps_do(tltool: Command, gpu: str, encoder: str) -> None:
    words = [*WORDS, f"encoder={encoder}", "fit.epochs=3", f"device={gpu}"]
    replayed, plain = (tltool("pretrain", *words, f"fit.cuda_graphs={on}") for on in ("true", "false"))
    assert "CUDA graphs do not work" not in said(replayed)
    found, expected = ([e["train_loss"] for e in epochs(folder)] for folder in (replayed, plain))
    assert found == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("encoder", ["cgcnn", "megnet", "alignn_small"])
def test_bfloat16_learns_what_single_precision_learns(tltool: Command, gpu: str, encoder: str) -> None:
    words = [*WORDS, f"encoder={encoder}", "fit.epochs=10", f"device={gpu}"]
    half, single = (tltool("pretrain", *words, f"fit.mixed_precision={on}") for on in ("true", "false"))
    # Losses of single batches vary by 16 % between runs that differ in rounding alone; errors on other rows do not.
    found, expected = (epochs(folder)[-1]["val_MAE"]["e_form"] for folder in (half, single))
    assert found == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("kernels", ["torch", "triton"])
def test_kernels_are_those_that_were_asked_for(tltool: Command, gpu: str, real: bool, kernels: str) -> None:
    if kernels == "triton" and not real:
        kernels = "compiled"
    folder = tltool("pretrain", *WORDS, "fit.epochs=2", f"device={gpu}", f"kernels={kernels}")
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    assert kernels in json.dumps(environment)


def test_an_interrupted_training_goes_on(tltool: Command, gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*WORDS, "fit.epochs=6", "keep_every=0", f"device={gpu}"]
    whole = tltool("pretrain", *words)
    keep = resume.Keeper.keep

    def stopped(self: resume.Keeper, *given: object, **keys: object) -> None:
        keep(self, *given, **keys)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resume.Keeper, "keep", stopped)
        first = tltool("pretrain", *words, code=75)
    rest = tltool("pretrain", *words, f"resume={first}")
    found = [e["train_loss"] for e in epochs(first) + epochs(rest)]
    assert len(found) == 6
    # Sums over edges are added in another order each time, so that two runs on a GPU are equal to rounding only.
    assert found == pytest.approx([e["train_loss"] for e in epochs(whole)], rel=0.01)


def test_too_little_memory_is_said(
    tltool: Command, gpu: str, real: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*WORDS, "fit.epochs=2", "fit.batch_size=600", f"device={gpu}"]
    if real:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(0.0005)
    else:
        monkeypatch.setattr("tltool.training.single_fit.passes", lambda *given: _no_memory())
    try:
        tltool("pretrain", *words, code=6)
    finally:
        if real:
            torch.cuda.set_per_process_memory_fraction(1.0)
    assert "Out of memory; lower fit.batch_size" in capsys.readouterr().err


def _no_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_a_device_that_is_not_there_is_refused(tltool: Command, gpu: str, capsys: pytest.CaptureFixture[str]) -> None:
    count = torch.cuda.device_count()
    tltool("pretrain", *WORDS, f"device=cuda:{count}", code=6)
    assert f"device=cuda:{count} is not available" in capsys.readouterr().err


def test_a_device_is_taken_by_its_number(tltool: Command, gpu: str, real: bool) -> None:
    last = f"cuda:{torch.cuda.device_count() - 1}" if real else "cpu"
    folder = tltool("pretrain", *WORDS, "fit.epochs=2", f"device={last}")
    assert len(epochs(folder)) == 2
