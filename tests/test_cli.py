"""The command line as a shell sees it: words in, exit code, output and files out."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Done, run, start
from forks import begin

from tltool.command_line.usage import STAGES

pytestmark = pytest.mark.slow

FAST = ["fit.epochs=1", "split.train_size=40"]
ENDLESS = ["fit.epochs=100000", "split.train_size=40"]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLTOOL_OFFLINE", "1")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a short pretraining has run."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLTOOL_OFFLINE", "1")
        run(folder, "pretrain", "fit.epochs=1", "split.train_size=300")
    return folder


def run_folder(done: Done, cwd: Path) -> Path:
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("Run folder: ")]
    return cwd / line.removeprefix("Run folder: ")


def test_help_and_version_are_quick_and_light(tmp_path: Path) -> None:
    for words in (["--help"], ["--version"], ["-h"]):
        code = (
            f"import sys; sys.argv = ['tltool', *{words!r}]\nfrom tltool.cli import main\n"
            "try:\n main()\nexcept SystemExit as e:\n print(e.code, 'torch' in sys.modules, 'hydra' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
        assert done.stdout.splitlines()[-1] == "0 False False"
    assert all(stage in run(tmp_path, "--help").stdout for stage in STAGES)


def test_no_stage_and_typos(tmp_path: Path) -> None:
    assert "usage: tltool STAGE" in run(tmp_path, code=2).stderr
    done = start(tmp_path, "pretrian", code=2)
    assert "Did you mean 'pretrain'?" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["pretrain", "+sead=3"], 2, "pretrain has no key 'sead'. Did you mean 'seed'?"),
        (["pretrain", "+data.rooot=3"], 2, "There is no key data.rooot"),
        (["pretrain", "data=demmo"], 2, "demmo"),
        (["pretrain", "quantities=[e_fomr]"], 2, "Did you mean 'e_form'?"),
        (["pretrain", "quantities=[gap]"], 3, "has no label 'gap'"),
        (["pretrain", "data=pbe"], 3, "alexandria_[0-9][0-9][0-9]*.json.bz2"),
        (["pretrain", "data=pbe", "data.root=nowhere"], 3, "data.root=nowhere does not exist"),
        (["pretrain", "encoder._target_=os.system"], 2, "may not be used"),
        (["pretrain", "split.test=0.00001"], 3, "test split is empty"),
        (["pretrain", "device=cuda:77"], 6, "device=cuda:77"),
        (["pretrain", "threads=none"], 2, "threads="),
        (["pretrain", "optimiser.lr=1e30", "fit.clip=null", "fit.schedule=constant"], 5, "lower optimiser.lr"),
        (["transfer", "source=elsewhere"], 4, "'tltool pretrain'"),
        (["transfer", "mode=freeze", "mode.parts=[encodr]"], 2, "no part has the name 'encodr'"),
        (["transfer", "graph.cutoff=6.0"], 4, "cutoff=6.0, but the source model has cutoff=8.0"),
        (["transfer", "graph=strict"], 4, "shells=strict, but the source model has shells=shared"),
        (["transfer", "split.train_size=5000"], 2, "train_size=5000"),
        (["transfer", "target=matbench_steels"], 2, "matbench_steels holds compositions without structures"),
        (["pretrain", "data=matbench_expt_gap"], 2, "use another task, such as target=matbench_phonons"),
        (["transfer", "split=matbench", "split.fold=5"], 2, "fold=5 must be 0 to 4"),
        (["transfer", "split=matbench"], 3, "needs a Matbench task"),
        (["transfer", "target=matbench_phonons"], 3, "matbench_phonons.json.gz"),
        (["eval", "runs=elsewhere"], 4, "tltool transfer target=bulk_modulus"),
        (["predict", "model=nowhere", "input=x"], 4, "no model at nowhere"),
        (["predict"], 2, "input must be given, as input=VALUE"),
        (["report", "runs=elsewhere"], 3, "tltool transfer target=bulk_modulus"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else None,
)  # fmt: skip
def test_bad_input_is_one_sentence_and_an_exit_code(home: Path, words: list[str], code: int, says: str) -> None:
    done = run(home, *words, code=None)
    assert says in done.stderr
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("tltool: ")]
    assert says in said
    assert "Error executing job" not in done.stderr


def test_the_traceback_is_in_the_run_folder(home: Path) -> None:
    done = run(home, "pretrain", "quantities=[gap]", code=3)
    log = home / done.stderr.split("(details: ")[1].split(")")[0]
    assert "Traceback" in log.read_text()
    assert json.loads((log.parent / "status.json").read_text())["code"] == 3


def test_a_run_folder_holds_everything(home: Path) -> None:
    done = run(home, "transfer", *FAST)
    assert "log10(GPa)" in done.stdout
    assert "GPa" in done.stdout
    folder = run_folder(done, home)
    names = {p.name for p in folder.iterdir()}
    assert names >= {
        "config.yaml", "log.jsonl", "metrics.json", "predictions.csv", "predictions.parquet", "environment.json",
        "split.csv", "parity.png", "model", "status.json",
    }  # fmt: skip
    import pandas as pd

    table = pd.read_csv(folder / "predictions.csv")
    assert list(table.columns[:6]) == ["id", "split", "quantity", "label", "prediction", "unit"]
    assert set(table.unit) == {"log10(GPa)"}
    assert set(table.split) == {"train", "val", "test"}
    metrics = json.loads((folder / "metrics.json").read_text())
    test = table[table.split == "test"]
    found = metrics["quantities"]["log10_K_VRH"]["test"]
    assert found["MAE"] == pytest.approx((test.label - test.prediction).abs().mean(), rel=1e-6)
    events = [json.loads(line)["event"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert "load_report" in events
    assert "epoch" in events

    evaluated = run(home, "eval", f"model={folder}")
    again = json.loads((run_folder(evaluated, home) / "metrics.json").read_text())["quantities"]["log10_K_VRH"]["test"]
    assert again == pytest.approx(found, rel=1e-5)


def test_a_sweep_goes_on_past_a_failed_cell(home: Path) -> None:
    run(home, "transfer", "-m", "mode=scratch,features", "seed=0,1", "mode.level=1", *FAST, "workers=1", code=2)
    # In this process, whose words are read here.
    words = ["mode=features", "mode.level=1,9,0", "split.train_size=40", "workers=1"]
    done = run(home, "transfer", "-m", *words, code=2)
    assert "use 0 to 3" in done.stderr
    assert "mode.level=9  failed (" in done.stderr
    assert len(re.findall(r"^mode\.level=[01]  MAE ", done.stderr, re.MULTILINE)) == 2


def test_four_runs_of_one_second_share_no_folder(home: Path) -> None:
    begun = [begin(home, "prepare") for _ in range(4)]
    said = [process.communicate(timeout=240)[1] for process in begun]
    assert [process.returncode for process in begun] == [0] * 4
    folders = {line for text in said for line in text.splitlines() if line.startswith("Run folder: ")}
    assert len(folders) == 4


def test_a_taken_folder_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "run.lock").write_text("4711\n")
    done = run(home, "transfer", f"hydra.run.dir={tmp_path}", code=2)
    assert "holds a run that was killed, of process 4711; name another" in done.stderr


def killed_once(ready: Callable[[], bool], *words: str, home: Path) -> str:
    """Run tltool until ``ready``, terminate it, and return what it said."""
    process = begin(home, *words)
    for _ in range(1200):
        if ready():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75
    return said


def test_termination_leaves_a_status(home: Path) -> None:
    log = home / "long" / "log.jsonl"
    words = ["transfer", "mode=scratch", *ENDLESS, "hydra.run.dir=long"]
    said = killed_once(lambda: log.exists() and '"epoch"' in log.read_text(), *words, home=home)
    again = shlex.join(["tltool", *words])
    assert f"tltool: Terminated; this starts again: {again}\n" in said
    assert json.loads((home / "long" / "status.json").read_text())["state"] == "interrupted"


def test_an_interrupted_pretraining_goes_on(home: Path) -> None:
    words = ["pretrain", "fit.epochs=20", "split.train_size=120", "keep_every=0", "runs=resumed", "overlap=none"]
    words += ["split.val=0.02", "split.test=0.02"]
    state = home / "resumed" / "pretrain" / "begun" / "state.json"
    said = killed_once(state.exists, *words, "hydra.run.dir=resumed/pretrain/begun", "resume=latest", home=home)
    assert "no interrupted run to continue" in said
    epoch = json.loads(state.read_text())["states"][0]["epoch"]
    again = shlex.join(["tltool", *words, f"resume={state.parent}"])
    assert f"Terminated after epoch {epoch}, and the state is saved; this continues: {again}\n" in said
    assert json.loads((state.parent / "status.json").read_text())["code"] == 75

    refused = run(home, *words, "resume=resumed/pretrain/begun", "optimiser.lr=0.1", code=2)
    assert "was started with other values of optimiser.lr" in refused.stderr
    done = run(home, *words, "resume=latest", "hydra.run.dir=rest")
    assert f"Continuing resumed/pretrain/begun after epoch {epoch}" in done.stderr
    assert not list((home / "rest").glob("state*"))
    assert not state.exists(), "resume=latest begins again from here on"
    run(home, *words, "hydra.run.dir=whole")
    errors = [json.loads((home / name / "metrics.json").read_text())["quantities"] for name in ("rest", "whole")]
    assert errors[0] == errors[1]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_terminated_sweep_starts_no_further_cell(home: Path, workers: int, sent: signal.Signals) -> None:
    sweep = home / f"long-sweep-{workers}-{sent}"
    words = ["transfer", "-m", "mode=scratch,finetune", "seed=0,1", *ENDLESS, f"hydra.sweep.dir={sweep}"]
    process = begin(home, *words, f"workers={workers}")
    for _ in range(1200):
        logs = [sweep / cell / "log.jsonl" for cell in "01"]
        if all(log.exists() and '"epoch"' in log.read_text() for log in logs):
            break
        time.sleep(0.05)
    process.send_signal(sent)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 75
    assert "Traceback" not in said
    assert said.count("Interrupted; this goes on with the runs that are left: tltool transfer -m mode=scratch,") == 1
    for cell in "01":
        status = json.loads((sweep / cell / "status.json").read_text())
        assert (status["state"], status["code"]) == ("interrupted", 75)
    assert not (sweep / "2" / "status.json").exists()


def test_runs_of_a_sweep_give_what_they_give_alone(home: Path) -> None:
    import pandas as pd

    words = ["mode=finetune", "fit.epochs=3", "split.train_size=40"]
    # What its processes write is read, too.
    sweep = begin(home, "transfer", "-m", "seed=0,1,2,3", "hydra.sweep.dir=many", "workers=2", *words)
    said, progress = sweep.communicate(timeout=240)
    assert sweep.returncode == 0, progress
    lines = [line for line in progress.splitlines() if re.match(r"seed=\d  MAE \S+ log10\(GPa\)  \(\d of 4", line)]
    assert sorted(line[:6] for line in lines) == ["seed=0", "seed=1", "seed=2", "seed=3"]
    assert "epoch" not in progress
    assert f"Run folders: {home / 'many'}" in progress
    assert len(re.findall(r"^ *finetune(?: \(best\))? +4 ", said, re.MULTILINE)) == 1
    alone = run_folder(run(home, "transfer", "seed=3", *words), home)
    one, other = (pd.read_csv(folder / "predictions.csv") for folder in (alone, home / "many" / "3"))
    assert list(one.id) == list(other.id)
    assert (one.prediction - other.prediction).abs().max() < 1e-5
    assert {p.name for p in alone.iterdir()} == {p.name for p in (home / "many" / "3").iterdir()}
    assert json.loads((home / "many" / "3" / "metrics.json").read_text())["seed"] == 3
    run(home, "eval", "model=many/2")


def test_a_run_that_fails_does_not_take_the_others_down(home: Path) -> None:
    words = ["split.train_size=40,5000", "seed=0,1", "mode=finetune", "fit.epochs=1", "hydra.sweep.dir=mixed"]
    done = run(home, "transfer", "-m", *words, "workers=1", code=2)
    states = [json.loads((home / "mixed" / str(k) / "status.json").read_text())["state"] for k in range(4)]
    assert states == ["finished", "finished", "failed", "failed"]
    assert done.stderr.count("tltool: split.train_size=5000") == 2


def test_the_environment_says_what_was_run(home: Path) -> None:
    done = run(home, "transfer", "mode=features", "split.train_size=40")
    facts = json.loads((run_folder(done, home) / "environment.json").read_text())
    assert facts["command"] == "tltool transfer mode=features split.train_size=40"
    assert facts["kernels"] in ("compiled", "torch")
    assert facts["packages"]["torch"]


def test_completion_goes_through_the_stage(tmp_path: Path) -> None:
    def offered(line: str) -> set[str]:
        done = run(tmp_path, "-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
        return set(done.stdout.split())

    assert offered("tltool pre") == {"prepare", "pretrain", "predict"}
    assert offered("tltool ") == set(STAGES)
    assert {"data=demo", "data=pbe"} <= offered("tltool pretrain data=")
    assert {"mode=freeze", "mode=finetune"} <= offered("tltool transfer mode=f")
    assert "complete" in run(tmp_path, "-sc", "install=bash").stdout


def test_hydra_keeps_working(tmp_path: Path) -> None:
    assert "epochs: 7" in run(tmp_path, "pretrain", "fit.epochs=7", "--cfg", "job").stdout
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "short.yaml").write_text("# @package _global_\nfit:\n  epochs: 11\n")
    words = ["pretrain", "--config-dir", "mine", "experiment=short", "--cfg", "job"]
    assert "epochs: 11" in run(tmp_path, *words).stdout
    assert "bulk_modulus" in run(tmp_path, "transfer", "--help").stdout
