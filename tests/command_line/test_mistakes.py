"""Mistakes on a command line: each ends with one sentence that says what to do next, its exit code, and no torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run
from support import ROOT

from tltool.command_line import early_checks
from tltool.command_line.composition import refuse_bombs
from tltool.command_line.launch import Launch
from tltool.command_line.mistakes import near_keys
from tltool.errors import ConfigError
from tltool.model.kernels import install
from tltool.training import loss, settings

CIF = "data_x\n_cell_length_a 4\n_cell_length_b 4\n_cell_length_c 4\n"

MISTAKES = [
    # a path in place of a name
    ("transfer target=./own", 2,
     "target=./own is a path, and target takes a name; use target=folder target.data.root=./own."),
    ("pretrain data=./own", 2, "use data=folder data.root=./own."),
    ("pretrain data=own/props.csv", 2, "use data=table data.root=own/props.csv."),
    # brackets and spaces in a header
    ("transfer target=folder target.data.root=own target.data.adapter.columns=[kappa_[W/mK]]", 2,
     "put the value in quotes of two kinds: 'target.data.adapter.columns=[\"kappa_[W/mK]\"]'."),
    ("transfer target=folder target.data.root=own[1", 2, "'target.data.root=\"own[1\"'."),
    # a key without its path, or another word for it
    ("transfer lr=0.1", 2, "There is no key 'lr'. Did you mean 'optimiser.lr'?"),
    ("transfer fit.epoch=3", 2, "There is no key 'fit.epoch'. Did you mean 'fit.epochs'?"),
    ("transfer epochs=3", 2, "Did you mean 'fit.epochs'?"),
    ("transfer fit.lr=1", 2, "Did you mean 'optimiser.lr'?"),
    ("transfer fut.epochs=3", 2, "There is no key 'fut.epochs'. Did you mean 'fit.epochs'?"),
    ("transfer sed=1", 2, "Did you mean 'seed'?"),
    ("transfer split.fold=1", 2, "There is no key 'split.fold' with this split=; split=matbench has it."),
    ("transfer encoder=cgcnn", 2, "train another source with tltool pretrain encoder=NAME"),
    ("transfer encoder.dim=8", 2, "train another source with tltool pretrain encoder=NAME"),
    ("transfer data=folder", 2, "use target=NAME, or your own as target=folder target.data.root=DIR."),
    ("pretrain mode=freeze", 2, "pretrain takes no mode; it belongs to tltool transfer."),
    ("transfer bulk_modulus", 2, "'bulk_modulus' is no setting; write KEY=VALUE, such as target=bulk_modulus."),
    ("transfer --epochs=3", 2, "transfer takes no --epochs=3; settings have no dashes, write epochs=VALUE."),
    ("transfer mode= freeze", 2, "mode= and freeze stand apart; write mode=freeze without a space."),
    # a name
    ("transfer mode=finetun", 2, "mode=finetun is not known. Did you mean 'finetune'? tltool transfer --help mode"),
    ("transfer target=bulk_modulos", 2, "Did you mean 'bulk_modulus'?"),
    ("transfer mode=features mode/regressor=rigde", 2, "Did you mean 'ridge'?"),
    ("transfer fit.loss=l3", 2, "fit.loss=l3 is not known; use l1, mse or huber."),
    ("transfer device=gpu", 2, "device=gpu is not known; use auto, cpu, cuda or cuda:NUMBER."),
    ("transfer kernels=fast", 2, "kernels=fast is not known; use auto, compiled, dgl, torch or triton."),
    # a number, a type
    ("transfer optimiser.lr=-1", 2, "optimiser.lr=-1 must be a number above 0."),
    ("transfer optimiser.lr=fast", 2, "optimiser.lr=fast must be a number above 0."),
    ("transfer seed=-1", 2, "seed=-1 must be a whole number of 0 or more and at most 4294967295."),
    ("transfer seed=0.5", 2, "seed=0.5 must be a whole number"),
    ("transfer fit.epochs=ten", 2, "fit.epochs=ten must be a whole number of 0 or more."),
    ("transfer fit.batch_size=0", 2, "fit.batch_size=0 must be a whole number of 1 or more."),
    ("transfer split.val=-0.1", 2, "split.val=-0.1 must be a number of 0 or more."),
    ("transfer mode=freeze mode.parts=encoder", 2, "mode.parts=encoder must be a list, as [encoder]."),
    ("transfer mode.probe_first=3", 2, "mode.probe_first=3 must be true or false."),
    ("pretrain encoder.dim=wide", 2, "encoder.dim=wide must be a whole number."),
    ("pretrain +fit.epocs=3", 2, "fit takes no 'epocs' (tltool.training.fit.Settings). Did you mean 'epochs'?"),
    ("transfer -m optimiser.lr=-1,-2 seed=0,1", 2, "optimiser.lr=-1 must be a number above 0."),
    ("transfer mode=freeze -m seed=0,1 fit.epochs=ten", 2, "fit.epochs=ten must be a whole number"),
    # a table
    ("transfer target=folder target.data.root=words", 3, "no column holds numbers to learn (kappa (text))"),
    ("transfer target=folder target.data.root=own target.data.quantities=[kapa]", 3,
     "has no column 'kapa'. Did you mean 'kappa'?"),
    ("transfer target=folder target.data.root=own target.data.quantities=[bulk_modulus]", 3,
     "tltool knows bulk_modulus as K_VRH."),
    ("transfer target=folder target.data.root=own target.data.adapter.id_column=name", 3,
     "has no column 'name'. Known: id, kappa."),
    ("transfer target=folder target.data.root=own target.data.adapter.columns=[kap]", 3,
     "Name the columns of the labels with target.data.adapter.columns=[...], and that of the ids with"),
    ("transfer target=folder target.data.root=others", 3,
     "no column holds the names of the structure files; 'id' has x, y, z, and the files are a.cif."),
    ("transfer target=folder target.data.root=bare", 3, "there is no table of labels; put a CSV"),
    ("transfer target=folder target.data.root=own/props.csv", 3,
     "is a file; name the folder that holds the structures and their table."),
    ("transfer target=table target.data.root=own/props.csv", 3,
     "no column holds the structures; 'structure' is not there, only id, kappa."),
    ("transfer target=formulas target.data.root=own/props.csv", 3, "no column holds the formulas; 'formula' is not"),
    # a path
    ("transfer target=folder target.data.root=nowhere", 3, "target.data.root=nowhere does not exist"),
    ("pretrain data=folder data.root=nowhere", 3, "data.root=nowhere does not exist"),
    ("transfer source=nowhere", 4, "There is no model at nowhere; make one with 'tltool pretrain'"),
    ("transfer runs=own/props.csv", 6, "(Not a directory); name a folder that can be written with runs=."),
    ("transfer runs=/proc/none", 6, "name a folder that can be written with runs=."),
    ("transfer hydra.run.dir=done", 2, "done holds a run that is finished; name another with hydra.run.dir="),
    ("predict model=own input=nowhere", 3, "input=nowhere does not exist; name a structure file, a folder of them"),
    ("predict model=own input=empty", 3, "no structure file"),
    ("predict model=none input=own", 4, "There is no model at none"),
]  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("own", "empty", "done", "words", "others", "bare"):
        (tmp_path / name).mkdir()
    for name in ("own", "words", "others", "bare"):
        (tmp_path / name / "a.cif").write_text(CIF)
    (tmp_path / "words" / "props.csv").write_text("id,kappa\na,large\n")
    (tmp_path / "others" / "props.csv").write_text("id,kappa\nx,1\ny,2\nz,3\n")
    (tmp_path / "own" / "props.csv").write_text("id,kappa\na,1\n")
    (tmp_path / "done" / "run.lock").write_text("4711\n")
    (tmp_path / "done" / "status.json").write_text(json.dumps({"state": "finished"}))
    return tmp_path


@pytest.mark.parametrize(("words", "code", "says"), MISTAKES)
def test_a_mistake_is_one_sentence_with_the_next_step(
    words: str, code: int, says: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Launch, "_run", lambda *_: pytest.fail("the run began"))
    before = sorted(home.rglob("*"))
    done = run(home, *words.split(), code=None)
    assert says in done.stderr
    assert done.returncode == code
    assert done.stdout == ""
    assert "search path" not in done.stderr
    (line,) = set(done.stderr.splitlines())
    assert line.startswith("tltool: ")
    assert len(line) < 300
    assert sorted(home.rglob("*")) == before, "no folder is left of a run that did not begin"


@pytest.mark.slow
def test_no_mistake_waits_for_torch(home: Path) -> None:
    code = (
        "import sys\nimport quick_hydra\nfrom tltool import cli\n"
        "with quick_hydra.quick():\n"
        "    for words in sys.argv[1:]:\n"
        "        sys.argv = ['tltool', *words.split()]\n"
        "        try:\n            cli.main()\n        except SystemExit:\n            pass\n"
        "        print('torch' in sys.modules, words)\n"
        "        sys.modules.pop('torch', None)\n"
    )
    words = [row[0] for row in MISTAKES]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=home, env=env, capture_output=True, text=True, check=True
    )
    assert [line for line in done.stdout.splitlines() if line.startswith("True")] == []
    assert len(done.stdout.splitlines()) == len(words)


def test_the_words_of_early_checks_are_those_of_the_code() -> None:
    known = {key.removeprefix("fit."): words for key, words in early_checks.WORDS.items() if key.startswith("fit.")}
    assert known == settings._KNOWN | {"loss": loss.KINDS}
    assert early_checks.WORDS["kernels"] == ("auto", *install.NAMES)


def test_flags_may_stand_anywhere(tmp_path: Path) -> None:
    assert "epochs: 7" in run(tmp_path, "transfer", "fit.epochs=7", "--cfg", "job", "seed=3").stdout


@pytest.mark.parametrize(
    ("key", "found"),
    [("lr", "'optimiser.lr'"), ("a.epoch", "'a.epochs'"), ("b.lr", "'optimiser.lr'"), ("xyz", ""), ("see", "'seed'")],
)
def test_the_nearest_key_has_its_whole_path(key: str, found: str) -> None:
    known = ["optimiser.lr", "mode.optimiser.lr", "a.epochs", "seed", "split.seed", "a._target_"]
    assert near_keys(key, known) == found


def test_a_yaml_of_the_user_is_no_bomb(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}]\n" for k in range(1, 40))
    (tmp_path / "experiment" / "mine.yaml").write_text("fit: &fit {epochs: 1}\n", encoding="utf-8")
    refuse_bombs(["--config-dir", str(tmp_path)])
    (tmp_path / "experiment" / "mine.yaml").write_text(bomb, encoding="utf-8")
    for words in (
        ["--config-dir", str(tmp_path)],
        [f"--config-dir={tmp_path}"],
        [f"hydra.searchpath=[file://{tmp_path}]"],
    ):
        with pytest.raises(ConfigError, match=r"mine\.yaml has aliases"):
            refuse_bombs(words)
