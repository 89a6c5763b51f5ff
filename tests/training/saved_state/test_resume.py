"""A training that was interrupted goes on as if it had not been."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from support import a_fit, batches_of, fresh_model

from tltool import interruption
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.errors import CheckpointError, ConfigError, ResourceError
from tltool.model.property_model import PropertyModel
from tltool.model.surgery import edit
from tltool.training.fit import Trained, train
from tltool.training.saved_state import files, resume
from tltool.training.scaled_labels import scalers

SMALL = ("encoder.dim=16", "encoder.blocks=1")
CONFIG: dict[str, Any] = {
    "stage": "pretrain",
    "seed": 0,
    "fit": {"epochs": 9, "loss": "l1"},
    "runs": "runs",
    "keep_every": 0,
    "resume": None,
    "resume_allow": [],
}


@pytest.fixture(scope="module")
def data(part: Dataset) -> Batches:
    """Few rows, which are two steps an epoch."""
    return batches_of(part, train_size=40)


class Killed(Exception):
    """What ends a training in these tests."""


def trained(
    data: Batches, keeper: resume.Keeper | None = None, kill: int = 0, **keys: Any
) -> tuple[PropertyModel, list[dict[str, Any]], Trained | None]:
    """Train a fresh model with dropout, up to epoch ``kill`` if one is named; return it and what was logged."""
    model = fresh_model(data.quantities, overrides=("trunk.dropout=0.2", *SMALL))
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


@pytest.fixture(scope="module")
def uninterrupted(data: Batches) -> Callable[..., tuple[PropertyModel, list[dict[str, Any]], Trained | None]]:
    """Trainings that nothing interrupts, each made once."""
    made: dict[str, Any] = {}

    def of(**keys: Any) -> tuple[PropertyModel, list[dict[str, Any]], Trained | None]:
        if str(keys) not in made:
            made[str(keys)] = trained(data, **keys)
        return made[str(keys)]

    return of


def a_keeper(folder: Path, begun: Path | None = None, minutes: float | None = 0, **changed: Any) -> resume.Keeper:
    folder.mkdir(exist_ok=True)
    return resume.Keeper(folder, minutes, begun, CONFIG | changed, lambda text: None)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"schedule": "onecycle", "ema": 0.9, "select": "best"},
        {"schedule": "cosine", "ema": 0.5, "select": "last", "patience": 3},
        {"loss_balance": "uncertainty", "select": "best"},
    ],
)
def test_it_goes_on_bit_for_bit(part: Dataset, tmp_path: Path, keys: dict[str, Any]) -> None:
    data = batches_of(part, ("e_form", "e_above_hull"), train_size=40)
    whole, events, result = trained(data, **keys)
    _, first, nothing = trained(data, a_keeper(tmp_path / "a"), kill=5, **keys)
    assert nothing is None
    _, second, _ = trained(data, a_keeper(tmp_path / "b", tmp_path / "a"), kill=7, **keys)
    model, third, again = trained(data, a_keeper(tmp_path / "c", tmp_path / "b"), **keys)
    assert first + second + third == events
    assert len(events) == (8 if "patience" in keys else 9), "patience ends it one epoch early"
    assert again == result
    assert all(torch.equal(table, model.state_dict()[name]) for name, table in whole.state_dict().items())


def states(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_two_states_are_there_and_none_after_the_end(data: Batches, uninterrupted: Any, tmp_path: Path) -> None:
    keeper = a_keeper(tmp_path / "a")
    trained(data, keeper, kill=4)
    assert states(tmp_path / "a") == ["state-000002-0000000.pt", "state-000003-0000000.pt", "state.json"]
    words = ["fit.epochs=9", "hydra.run.dir=a", "resume=latest"]
    told = resume.told(tmp_path / "a", "Interrupted", "pretrain", words)
    assert told == (
        "Interrupted after epoch 3, and the state is saved; this continues: tltool pretrain fit.epochs=9 "
        f"resume={tmp_path / 'a'}"
    )
    assert resume.quoted("my runs/it's") == "'my runs/it\\'s'"
    keeper.done()
    assert not list((tmp_path / "a").iterdir())
    told = resume.told(tmp_path / "a", "Interrupted", "pretrain", words)
    assert told.startswith("Interrupted; no state is saved, and this starts again: tltool pretrain fit.epochs=9 hydra")
    for minutes in (None, 60):
        trained(data, a_keeper(tmp_path / "b", minutes=minutes), kill=4)
        assert not list((tmp_path / "b").iterdir()), "nothing is kept before its time"
    trained(data, a_keeper(tmp_path / "b", minutes=60))
    assert json.loads((tmp_path / "b" / "state.json").read_text())["states"][0]["epoch"] == 9, (
        "evaluation may take long"
    )
    model, events, _ = trained(data, a_keeper(tmp_path / "c", tmp_path / "b"))
    assert not events
    assert same(model, uninterrupted()[0])


def same(one: PropertyModel, other: PropertyModel) -> bool:
    return all(torch.equal(table, other.state_dict()[name]) for name, table in one.state_dict().items())


def test_a_kill_while_it_is_written_leaves_the_ones_before(
    data: Batches, uninterrupted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    whole, events, _ = uninterrupted()
    model, rest, _ = trained(data, a_keeper(tmp_path / "b", tmp_path / "a"))
    assert rest == events[2:]
    assert same(model, whole)


@pytest.mark.parametrize(
    ("sent", "call"),
    # In the first step, amid an epoch, in its validation and in an epoch after the second.
    [(signal.SIGTERM, 1), (signal.SIGINT, 3), (signal.SIGUSR1, 3), (signal.SIGTERM, 5), (signal.SIGTERM, 12)],
)
def test_a_signal_in_a_step_or_in_validation_loses_nothing(
    data: Batches, uninterrupted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals, call: int
) -> None:
    keys = {"schedule": "onecycle", "ema": 0.9, "select": "best", "batch_size": 10, "epochs": 4}
    calls = iter(range(1, 1000))
    whole, events, result = uninterrupted(**keys)

    def interrupted(*given: Any) -> None:
        if next(calls) == call:
            signal.raise_signal(sent)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        interruption.install()
        with pytest.raises(KeyboardInterrupt if sent == signal.SIGINT else SystemExit):
            hooked(data, a_keeper(tmp_path / "a", minutes=60), interrupted, **keys)
    finally:
        interruption.install()  # no signal is pending any more
        for number, handler in before.items():
            signal.signal(number, handler)
    assert states(tmp_path / "a")[-1] == "state.json", "within the first ten minutes as well"
    model, rest, again = trained(data, a_keeper(tmp_path / "b", tmp_path / "a"), **keys)
    assert rest == events[-len(rest) :]
    assert again == result
    assert same(model, whole)


def hooked(data: Batches, keeper: resume.Keeper, hook: Any, **keys: Any) -> None:
    """Train as ``trained`` does, and call ``hook`` in every forward pass, those of validation as well."""
    made = fresh_model

    def model(*given: Any, **more: Any) -> PropertyModel:
        found = made(*given, **more)
        found.encoder.register_forward_hook(hook)
        return found

    with patch.dict(globals(), {"fresh_model": model}):
        trained(data, keeper, **keys)


def test_a_damaged_state_is_passed_over_for_the_one_before(data: Batches, uninterrupted: Any, tmp_path: Path) -> None:
    said: list[str] = []
    whole, events, _ = uninterrupted()
    trained(data, a_keeper(tmp_path / "a"), kill=6)
    newest, older = sorted((tmp_path / "a").glob("*.pt"), reverse=True)
    flip(newest)
    keeper = resume.Keeper(tmp_path / "b", None, tmp_path / "a", CONFIG, said.append)
    model, rest, _ = trained(data, keeper)
    assert said == [
        f"{newest} is damaged; the state before it is used, after epoch 4.",
        f"Continuing {tmp_path / 'a'} after epoch 4.",
    ]
    assert rest == events[4:]
    assert same(model, whole)
    flip(older)
    with pytest.raises(CheckpointError, match=r"state-000004-0000000\.pt is damaged; leave resume= out"):
        trained(data, a_keeper(tmp_path / "b", tmp_path / "a"))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "constant"])
def test_more_epochs_and_allowed_changes(data: Batches, uninterrupted: Any, tmp_path: Path, schedule: str) -> None:
    fit = {"batch_size": 32, "loss": "l1", "schedule": schedule}
    small, large = {"fit": fit | {"epochs": 6}}, {"fit": fit | {"epochs": 9}}
    trained(data, a_keeper(tmp_path / "a", **small), kill=4, schedule=schedule, epochs=6)
    (tmp_path / "a" / "status.json").write_text(json.dumps({"state": "interrupted"}))
    config = CONFIG | large | {"resume": str(tmp_path / "a"), "resume_allow": [], "optimiser": {"lr": 1}}
    keeper = resume.keeper(config | {"resume_allow": ["optimiser"]}, tmp_path, lambda text: None)
    assert keeper.changed == ["fit.epochs", "optimiser"]
    with pytest.raises(ConfigError, match=r"other values of optimiser; .* resume_allow=\[optimiser\]"):
        resume.keeper(config, tmp_path, print)
    with pytest.raises(ConfigError, match="resume_allow names optimizer, which is no key"):
        resume.keeper(config | {"resume_allow": ["optimizer"]}, tmp_path, print)
    fewer = config | {"fit": fit | {"epochs": 5}, "resume_allow": ["optimiser"]}
    with pytest.raises(ConfigError, match=r"other values of fit\.epochs"):
        resume.keeper(fewer, tmp_path, print)
    _, rest, _ = trained(data, keeper, schedule=schedule, epochs=9)
    _, whole, _ = uninterrupted(schedule=schedule)
    rates = [event["learning_rate"] for event in rest]
    assert [event["epoch"] for event in rest] == [4, 5, 6, 7, 8, 9]
    assert rates == pytest.approx([event["learning_rate"] for event in whole[3:]], rel=1e-6)


def test_what_cannot_be_gone_on_with(data: Batches, part: Dataset, tmp_path: Path) -> None:
    trained(data, a_keeper(tmp_path / "a"), kill=4)
    with pytest.raises(CheckpointError, match="has no saved training state"):
        trained(data, a_keeper(tmp_path / "b", tmp_path))
    other = batches_of(part, seed=1, train_size=40)
    with pytest.raises(CheckpointError, match="other rows or labels"):
        trained(other, a_keeper(tmp_path / "b", tmp_path / "a"))
    with pytest.raises(ConfigError, match="keep_every=-1"):
        a_keeper(tmp_path / "b", minutes=-1)
    gone = a_keeper(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ResourceError, match="keep_every=null"):
        trained(data, gone)


def test_by_name_and_by_latest(data: Batches, tmp_path: Path) -> None:
    said: list[str] = []
    runs = tmp_path / "runs"
    config = CONFIG | {"runs": str(runs)}
    for name, state, started in (("one", "interrupted", "1"), ("two", "running", "2"), ("three", "finished", "3")):
        folder = runs / "pretrain" / name
        folder.mkdir(parents=True)
        trained(data, a_keeper(folder), kill=3)
        (folder / "status.json").write_text(json.dumps({"state": state, "started": started}))
        (folder / "run.lock").write_text("no number")

    def begun(**changed: Any) -> Path | None:
        return resume.keeper(config | changed, tmp_path / "new", said.append).begun

    assert begun() is None
    assert begun(resume="latest") == runs / "pretrain" / "two"
    assert begun(resume="latest", device="cuda", keep_every=3) == runs / "pretrain" / "two"
    assert not said
    assert begun(resume="latest", seed=1) is None
    assert "no interrupted run" in said[0]
    assert begun(resume=str(runs / "pretrain" / "one")) == runs / "pretrain" / "one"
    with pytest.raises(ConfigError, match=r"was started with other values of fit\.loss, seed; use the same values"):
        begun(resume=str(runs / "pretrain" / "one"), seed=1, fit={"epochs": 9, "loss": "mse"})


def test_a_run_that_works_is_not_taken(data: Batches, tmp_path: Path) -> None:
    said: list[str] = []
    config = CONFIG | {"runs": str(tmp_path)}
    folders = [tmp_path / "pretrain" / name for name in ("one", "two")]
    for started, folder in enumerate(folders):
        folder.mkdir(parents=True)
        trained(data, a_keeper(folder), kill=3)
        (folder / "status.json").write_text(json.dumps({"state": "running", "started": str(started)}))
    script = (
        "import sys; from pathlib import Path; from tltool.run_folder import owner\n"
        "assert owner.take(Path(sys.argv[1]), again=False); print('here', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folders[1])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        os.utime(folders[1] / "run.lock", (0, 0))
        assert resume.keeper(config | {"resume": "latest"}, tmp_path, said.append).begun == folders[0]
        with pytest.raises(ConfigError, match=f"still works \\(process {process.pid} on "):
            resume.keeper(config | {"resume": str(folders[1])}, tmp_path, said.append)
        process.kill()
    assert resume.keeper(config | {"resume": "latest"}, tmp_path, said.append).begun == folders[1]
    for file in (folders[1]).glob("*.pt"):
        flip(file)
    assert resume.keeper(config | {"resume": "latest"}, tmp_path, said.append).begun == folders[0]
    assert said[-1].startswith(f"The state in {folders[1]} is damaged")
    (tmp_path / "pretrain" / "odd").mkdir()
    for odd in ("[1]", "3", "{", '{"state": 5}', "[" * 100_000):
        (tmp_path / "pretrain" / "odd" / "status.json").write_text(odd)
        (tmp_path / "pretrain" / "odd" / "state.json").write_text(odd)
        assert resume.keeper(config | {"resume": "latest"}, tmp_path, said.append).begun == folders[0]


def test_a_state_that_was_overtaken_is_gone(data: Batches, tmp_path: Path) -> None:
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


def test_a_state_of_another_version_is_refused(data: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(data, a_keeper(tmp_path / "a"), kill=3)
    read = files.read
    monkeypatch.setattr(files, "read", lambda folder, say: read(folder, say) | {"model": {}})
    with pytest.raises(CheckpointError, match="saved by another version of tltool or PyTorch; leave resume= out"):
        trained(data, a_keeper(tmp_path / "b", tmp_path / "a"))
