"""Two processes on two GPUs (NCCL) train what one does; on one GPU there is nothing to test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import ROOT


def test_two_gpus_train_what_one_does(gpu: str, real: bool, tmp_path: Path) -> None:
    if real and torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU only")
    words = ["pretrain", "split.train_size=400", "fit.epochs=3", "fit.batch_size=64"]
    words += ["kernels=torch", f"device={'auto' if real else 'cpu'}", f"cache={tmp_path / 'cache'}"]
    losses = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        start = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={count}", "--standalone"]
        command = [*(start if count > 1 else [sys.executable]), "-m", "tltool", *words, f"hydra.run.dir={folder}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        losses.append([e["train_loss"] for e in map(json.loads, lines) if e.get("event") == "epoch"])
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
