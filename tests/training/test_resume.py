"""A training that was interrupted goes on as if it had not been."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import a_fit, batches_of, fresh_model

from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.errors import CheckpointError, ConfigError, ResourceError
from tltool.model.property_model import PropertyModel
from tltool.model.surgery import edit
from tltool.training import resume
from tltool.training.fit import Trained, train
from tltool.training.scaled_labels import scalers

CONFIG: dict[str, Any] = {
    "stage": "pretrain",
    "seed": 0,
    "fit": {"epochs": 9, "loss": "l1"},
    "runs": "runs",
    "keep_every": 0,
    "resume": None,
}


class Killed(Exception):
    """What ends a training in these tests."""


def trained(
    data: Batches, keeper: resume.Keeper | None = None, kill: int = 0, **keys: Any
) -> tuple[PropertyModel, list[dict[str, Any]], Trained | None]:
    """Train a fresh model with dropout, up to epoch ``kill`` if one is named; return it and what was logged."""
    model = fresh_model(data.quantities, overrides=("trunk.dropout=0.2",))
    edit.new_heads(model, scalers(data, reference=False, scale="linear"))
    events: list[dict[str, Any]] = []

    def log(event: dict[str, Any]) -> None:
        if event["event"] != "epoch":
            return
        if event["epoch"] == kill:
            raise Killed
        events.append({k: v for k, v in event.items() if k != "seconds"})

    torch.manual_seed(0)
    fit = replace(a_fit(log, **({"epochs": 9} | keys)), keeper=keeper)
    try:
        return model, events, train(model, data, fit)
    except Killed:
        return model, events, None


def a_keeper(folder: Path, begun: Path | None = None, minutes: float | None = 0, **changed: Any) -> resume.Keeper:
    folder.mkdir(exist_ok=True)
    return resume.Keeper(folder, minutes, begun, CONFIG | changed, lambda text: None)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"schedule": "onecycle", "ema": 0.9, "select": "best"},
        {"schedule": "cosine", "ema": 0.9, "select": "last", "patience": 2},
        {"loss_balance": "uncertainty", "select": "best"},
    ],
)
def test_it_goes_on_bit_for_bit(part: Dataset, tmp_path: Path, keys: dict[str, Any]) -> None:
    data = batches_of(part, ("e_form", "e_above_hull"))
    whole, events, result = trained(data, **keys)
    _, first, nothing = trained(data, a_keeper(tmp_path / "a"), kill=5, **keys)
    assert nothing is None
    _, second, _ = trained(data, a_keeper(tmp_path / "b", tmp_path / "a"), kill=7, **keys)
    model, third, again = trained(data, a_keeper(tmp_path / "c", tmp_path / "b"), **keys)
    assert first + second + third == events
    assert again == result
    assert all(torch.equal(table, model.state_dict()[name]) for name, table in whole.state_dict().items())


def test_one_state_is_there_and_none_after_the_end(part: Dataset, tmp_path: Path) -> None:
    data = batches_of(part)
    keeper = a_keeper(tmp_path / "a")
    trained(data, keeper, kill=4)
    names = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert names == ["state-000003.pt", "state.json"]
    assert "resume=" in resume.told(tmp_path / "a", "Interrupted; run it again.")
    assert "after epoch 3," in resume.told(tmp_path / "a", "Interrupted; run it again.")
    keeper.done()
    assert not list((tmp_path / "a").iterdir())
    assert resume.told(tmp_path / "a", "Interrupted; run it again.") == "Interrupted; run it again."
    for minutes in (None, 60):
        trained(data, a_keeper(tmp_path / "b", minutes=minutes), kill=4)
        assert not list((tmp_path / "b").iterdir()), "nothing is kept before its time"
    keeper = a_keeper(tmp_path / "b", minutes=60)
    keeper._began -= 3600
    trained(data, keeper)
    assert json.loads((tmp_path / "b" / "state.json").read_text())["epoch"] == 9, "what follows may take long"
    model, events, _ = trained(data, a_keeper(tmp_path / "c", tmp_path / "b"))
    assert not events
    assert all(torch.equal(table, model.state_dict()[name]) for name, table in trained(data)[0].state_dict().items())


def test_a_kill_while_it_is_written_leaves_the_one_before(
    part: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = batches_of(part)
    save, calls = torch.save, iter(range(10))

    def dying(state: Any, file: Any) -> None:
        if next(calls) == 2:
            file.write(b"half of it")
            raise Killed
        save(state, file)

    monkeypatch.setattr(torch, "save", dying)
    trained(data, a_keeper(tmp_path / "a"))
    monkeypatch.undo()
    assert len(list((tmp_path / "a").glob("state-*.pt"))) == 2
    whole, events, _ = trained(data)
    model, rest, _ = trained(data, a_keeper(tmp_path / "b", tmp_path / "a"))
    assert rest == events[2:]
    assert all(torch.equal(table, model.state_dict()[name]) for name, table in whole.state_dict().items())


def test_a_signal_waits_until_it_is_written(part: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save

    def interrupted(state: Any, file: Any) -> None:
        if state["epoch"] == 2:
            signal.raise_signal(signal.SIGINT)
        save(state, file)

    monkeypatch.setattr(torch, "save", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            trained(batches_of(part), a_keeper(tmp_path / "a"))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert json.loads((tmp_path / "a" / "state.json").read_text())["epoch"] == 2


def test_what_cannot_be_gone_on_with(part: Dataset, tmp_path: Path) -> None:
    data = batches_of(part)
    trained(data, a_keeper(tmp_path / "a"), kill=4)
    with pytest.raises(CheckpointError, match="has no saved training state"):
        trained(data, a_keeper(tmp_path / "b", tmp_path))
    other = batches_of(part, seed=1)
    with pytest.raises(CheckpointError, match="other rows or labels"):
        trained(other, a_keeper(tmp_path / "b", tmp_path / "a"))
    file = tmp_path / "a" / "state-000003.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state-000003\.pt is damaged"):
        trained(data, a_keeper(tmp_path / "b", tmp_path / "a"))
    with pytest.raises(ConfigError, match="keep_every=-1"):
        a_keeper(tmp_path / "b", minutes=-1)
    gone = a_keeper(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ResourceError, match="keep_every=null"):
        trained(data, gone)


def test_by_name_and_by_latest(part: Dataset, tmp_path: Path) -> None:
    data, said = batches_of(part), []
    runs = tmp_path / "runs"
    config = CONFIG | {"runs": str(runs)}
    for name, state, started in (("one", "interrupted", "1"), ("two", "running", "2"), ("three", "finished", "3")):
        folder = runs / "pretrain" / name
        folder.mkdir(parents=True)
        trained(data, a_keeper(folder), kill=3)
        (folder / "status.json").write_text(json.dumps({"state": state, "started": started}))
        (folder / "run.lock").write_text("no number")

    def begun(**changed: Any) -> Path | None:
        return resume.keeper(config | changed, tmp_path, said.append).begun

    assert begun() is None
    assert begun(resume="latest") == runs / "pretrain" / "two"
    assert begun(resume="latest", device="cuda", keep_every=3) == runs / "pretrain" / "two"
    assert not said
    assert begun(resume="latest", seed=1) is None
    assert "no interrupted run" in said[0]
    assert begun(resume=str(runs / "pretrain" / "one")) == runs / "pretrain" / "one"
    with pytest.raises(ConfigError, match=r"was started with other values of fit\.loss, seed; use the same values"):
        begun(resume=str(runs / "pretrain" / "one"), seed=1, fit={"epochs": 9, "loss": "mse"})
    lock = runs / "pretrain" / "two" / "run.lock"
    lock.write_text(f"{os.getpid()}\n")
    assert begun(resume="latest") == runs / "pretrain" / "one", "a run that still works is not taken"
    os.utime(lock, (0, 0))
    assert begun(resume="latest") == runs / "pretrain" / "two", "its number is another's now, who began later"


def test_a_state_that_was_overtaken_is_gone(part: Dataset, tmp_path: Path) -> None:
    data = batches_of(part)
    trained(data, a_keeper(tmp_path / "a"), kill=3)
    trained(data, a_keeper(tmp_path / "b", tmp_path / "a", minutes=60), kill=5)
    assert (tmp_path / "a" / "state.json").exists(), "the second has kept nothing yet"
    keeper = a_keeper(tmp_path / "b", tmp_path / "a")
    trained(data, keeper, kill=5)
    assert not list((tmp_path / "a").iterdir())
    assert (tmp_path / "b" / "state.json").exists()
    last = a_keeper(tmp_path / "c", tmp_path / "b", minutes=60)
    trained(data, last)
    last.done()
    assert not list((tmp_path / "b").iterdir())


def test_a_state_of_another_version_is_refused(part: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = batches_of(part)
    trained(data, a_keeper(tmp_path / "a"), kill=3)
    read = resume._read
    monkeypatch.setattr(resume, "_read", lambda folder: read(folder) | {"model": {}})
    with pytest.raises(CheckpointError, match="saved by another version of tltool or PyTorch; leave resume= out"):
        trained(data, a_keeper(tmp_path / "b", tmp_path / "a"))
