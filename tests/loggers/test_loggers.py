"""Every shipped logger hears of every event and of the end; one that fails costs a run nothing."""

import copy
import csv
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import run
from support import ROOT, config

from tltool.command_line.launch import Launch
from tltool.errors import ConfigError
from tltool.run_folder.loggers import Logger, made
from tltool.run_folder.run import Run

NAMES = sorted(path.stem for path in (ROOT / "configs" / "logger").glob("*.yaml"))
EPOCH = {"event": "epoch", "epoch": 1, "epochs": 2, "train_loss": 0.5, "learning_rate": 0.01, "seconds": 1.5}
EVENTS: list[dict[str, Any]] = [
    {"event": "say", "text": "Begin."},
    EPOCH | {"val_MAE": {"e_form": 0.25, "gap": 1.0}},
    EPOCH | {"epoch": 2, "val_MAE": {"e_form": 0.125, "gap": 0.5}},
    {"event": "another", "of": "a later version"},
]
SHORT = ["fit.epochs=2", "split.train_size=40", "threads=1", "hydra.run.dir=run"]


class Wandb:
    """A stand-in for the package wandb, which is large: notes how it is called."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.summary: dict[str, float] = {}
        self.code: int | None = None

    def init(self, **asked: Any) -> "Wandb":
        self.asked = asked
        return self

    def log(self, row: dict[str, float], *, step: int) -> None:
        self.rows.append((step, row))

    def finish(self, *, exit_code: int) -> None:
        self.code = exit_code


@pytest.fixture(autouse=True)
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    """Give the stand-in to whoever imports wandb."""
    there = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=there.init))  # type: ignore[arg-type]
    return there


class Hears:
    """Notes what it is told; fails from event number ``fails`` on."""

    def __init__(self, fails: int | None = None) -> None:
        self.told: list[Any] = []
        self.fails = fails

    def log(self, event: Mapping[str, Any], /) -> None:
        self.told.append(dict(event))
        if self.fails is not None and len(self.told) > self.fails:
            raise OSError("no more room\nsecond line")

    def close(self, state: str, /) -> None:
        self.told.append(state)
        if self.fails is not None:
            raise OSError("no more room")


def logged(folder: Path) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in event.items() if key != "time"} for event in events]


def told(folder: Path, **loggers: Logger) -> None:
    """Tell ``loggers`` of ``EVENTS`` in a run in ``folder``."""
    run = Run(folder, "pretrain")
    run.attach(loggers)
    for event in EVENTS:
        run.log(event)
    run.close("finished", 0, "")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_logger_takes_every_event_and_changes_none(name: str, tmp_path: Path) -> None:
    given = copy.deepcopy(EVENTS)
    told(tmp_path / "run", **made(config("pretrain", f"logger={name}")["logger"], tmp_path))
    assert given == EVENTS
    assert logged(tmp_path / "run") == EVENTS  # no word of a failure
    # A run that ends before it has begun is closed too.
    run = Run(tmp_path / "short", "pretrain")
    run.attach(made(config("pretrain", f"logger={name}")["logger"], tmp_path / "short"))
    run.close("failed", 1, "")
    assert logged(tmp_path / "short") == []


def test_a_logger_hears_of_every_event_and_of_the_end(tmp_path: Path) -> None:
    hears = Hears()
    told(tmp_path / "run", mine=hears)
    assert hears.told == [*EVENTS, "finished"]


@pytest.mark.parametrize("fails", range(len(EVENTS) + 1))
def test_one_that_fails_is_named_once_and_nothing_is_lost(
    fails: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = Hears(), Hears(fails)
    told(tmp_path / "run", bad=bad, good=good)
    says = "The logger bad stopped (OSError: no more room); the run continues, and log.jsonl has every event."
    (sentence,) = [event for event in logged(tmp_path / "run") if event.get("text") == says]
    assert [event for event in logged(tmp_path / "run") if event != sentence] == EVENTS
    assert [event for event in good.told if event != sentence] == [*EVENTS, "finished"]
    assert len(bad.told) == fails + 1
    assert " ".join(capsys.readouterr().err.split()).count(says) == 1
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "finished"


def test_what_is_no_logger_and_what_does_not_start_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strange_loggers.py").write_text(
        "class Silent:\n    def __init__(self, folder, /): pass\n\n"
        "class Absent:\n    def __init__(self, folder, /): raise ImportError('no module called wandb')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, says in (
        ("Silent", "it needs the methods log and close"),
        ("Absent", "ImportError: no module called wandb"),
    ):
        node = {"_target_": f"strange_loggers.{name}"}
        with pytest.raises(ConfigError, match=says):
            made({"mine": node}, tmp_path, ["strange_loggers"])
        with pytest.raises(ConfigError, match="may not be used"):
            made({"mine": node}, tmp_path)


def test_csv_has_a_row_an_epoch_with_units(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    told(tmp_path / "run", **made(config("pretrain", "logger=csv")["logger"], tmp_path / "run"))
    assert (tmp_path / "run" / "epochs.csv").read_text(encoding="utf-8").splitlines() == [
        "epoch,time (s),learning rate,train loss,val MAE e_form (eV/atom),val MAE gap (eV)",
        "1,1.5,0.01,0.5,0.25,1.0",
        "2,1.5,0.01,0.5,0.125,0.5",
    ]


def test_the_error_of_a_class_is_no_mae(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    loggers = made(config("pretrain", "logger=csv")["logger"], tmp_path / "run")
    events = [
        {"event": "quantities", "units": {"class": "1"}, "errors": {"class": "probability error"}},
        {
            "event": "epoch",
            "epoch": 1,
            "seconds": 1.5,
            "learning_rate": 0.1,
            "train_loss": 0.5,
            "val_MAE": {"class": 1},
        },
    ]
    for event in events:
        loggers["csv"].log(event)
    header = (tmp_path / "run" / "epochs.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header.endswith(",train loss,val probability error class")


def test_on_the_command_line(tmp_path: Path) -> None:
    run(tmp_path, "pretrain", "logger=csv", "logger.csv.file=table.csv", *SHORT)
    rows = list(csv.DictReader((tmp_path / "run" / "table.csv").read_text(encoding="utf-8").splitlines()))
    epochs = [event for event in logged(tmp_path / "run") if event["event"] == "epoch"]
    assert [float(row["train loss"]) for row in rows] == [event["train_loss"] for event in epochs]
    assert [float(row["val MAE e_form (eV/atom)"]) for row in rows] == [e["val_MAE"]["e_form"] for e in epochs]
    done = run(tmp_path, "pretrain", "+logger.mine._target_=os.system", *SHORT[:-1], "hydra.run.dir=other", code=2)
    assert "logger._target_='os.system' may not be used: it must be or start with tltool.loggers." in done.stderr


METRICS = {"quantities": {"e_form": {"unit": "eV/atom", "test": {"MAE": 0.1, "n": 3}}}}


def test_tensorboard_has_a_step_an_epoch_and_the_test_error(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(METRICS))
    told(tmp_path / "run", **made(config("pretrain", "logger=tensorboard")["logger"], tmp_path / "run"))
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    found.Reload()
    steps = {tag: [(e.step, pytest.approx(e.value)) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert steps == {
        "train loss": [(1, 0.5), (2, 0.5)],
        "learning rate": [(1, 0.01), (2, 0.01)],
        "val MAE/e_form (eV/atom)": [(1, 0.25), (2, 0.125)],
        "val MAE/gap (eV)": [(1, 1.0), (2, 0.5)],
        "test MAE/e_form (eV/atom)": [(2, 0.1)],
    }


def test_wandb_is_offline_and_has_a_row_an_epoch_and_the_test_error(tmp_path: Path, wandb: Wandb) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(METRICS))
    (tmp_path / "run" / "config.yaml").write_text("seed: 3\n")
    told(tmp_path / "run", **made(config("pretrain", "logger=wandb")["logger"], tmp_path / "run"))
    assert wandb.asked["mode"] == "offline"
    assert wandb.asked["config"] == {"seed": 3}
    assert Path(wandb.asked["dir"]) == tmp_path / "run"
    assert [step for step, _ in wandb.rows] == [1, 2]
    assert wandb.rows[1][1]["val MAE gap (eV)"] == 0.5
    assert wandb.summary == {"test MAE e_form (eV/atom)": 0.1}
    assert wandb.code == 0


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_missing_ends_the_run_before_it_begins(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    says = f"logger={name} needs a package that is not installed; run pip install 'tltool[{name}]'."
    with pytest.raises(ConfigError, match=re.escape(says)):
        made(config("pretrain", f"logger={name}")["logger"], tmp_path)
    monkeypatch.setattr(Launch, "_run", lambda *_: pytest.fail("the run began"))
    assert says in run(tmp_path, "transfer", f"logger={name}", code=2).stderr
    assert list(tmp_path.iterdir()) == []
