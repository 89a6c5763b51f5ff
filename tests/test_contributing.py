"""What CONTRIBUTING.md shows works as written: in a copy, each block becomes the file it names, and nothing else."""

import contextlib
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from forks import fork, import_from
from support import ROOT

pytestmark = pytest.mark.slow

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^`([^`\n]+)`\n\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = {name: text for name, _, text in BLOCK.findall(PAGE)}
INSERTED = re.compile(
    r"[Ii]n `(\S+)`, (above|as the last of) `(\w+)`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
QUICK = ["fit.epochs=1", "threads=1"]


ALONE = """
import sys

sys.meta_path[:] = [finder for finder in sys.meta_path if finder.__module__.startswith("_frozen_importlib")]
sys.path.insert(0, sys.argv.pop(1))
import pytest

sys.exit(pytest.main(sys.argv[1:]))
"""
"""Runs pytest with the tltool in a folder, whatever finders other installations have."""


def run(home: Path, *words: str) -> str:
    """Run Python in ``home``, whose packages come first; return what it said."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    env |= {"PYTHONPATH": str(home), "COLUMNS": "200"}
    done = subprocess.run([sys.executable, *words], cwd=home, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a copy of the repository with the files of the page in it, and a table of 46 rows, three of them bad."""
    home = tmp_path_factory.mktemp("home")
    for name in ("tltool", "configs", "tests"):
        others = shutil.ignore_patterns("__pycache__", *["configs"] * (name == "tltool"))
        shutil.copytree(ROOT / name, home / name, ignore=others)
    shutil.copy(ROOT / "pyproject.toml", home)
    (home / "tltool" / "configs").symlink_to(home / "configs")  # as the installed package has it
    for name, where, table, text in INSERTED.findall(PAGE):
        code = (home / name).read_text(encoding="utf-8")
        start = code.index(f"\n{table} = (\n")
        end = code.index("\n)\n", start)
        at, new = {"above": (start, f"\n{text}\n"), "as the last of": (end, f"\n    {text[:-1]},")}[where]
        code = code[:at] + new + code[at:]
        (home / name).write_text(code, encoding="utf-8")
    (home / "table").mkdir()
    for name, text in FILES.items():
        file = home / name if "/" in name else home / "table" / name
        assert not file.exists(), f"{name} would change what is there"
        file.write_text(text, encoding="utf-8")
    pairs = product(["Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Al"], ["O", "S", "F", "N"])
    rows = [f"{m}{x},{3.5 + 0.1 * i},{m},{x},{-200 - 9 * i}" for i, (m, x) in enumerate(pairs)]
    with (home / "table" / "cubes.csv").open("a", encoding="utf-8") as file:
        file.write("\n".join([*rows, "dummy,4,Xx,Cl,-1", "blank,4,Cs,I,", "words,large,Cs,I,-1"]) + "\n")
    return home


def test_the_page_shows_one_python_and_one_yaml_file_each() -> None:
    groups = {"data/adapters": "data", "model/encoders": "encoder", "transfer": "mode", "loggers": "logger"}
    for folder, configs in groups.items():
        (code,) = [Path(name) for name in FILES if name.startswith(f"tltool/{folder}/")]
        assert f"configs/{configs}/{code.stem}.yaml" in FILES


COMMANDS = {
    "prepare": ["prepare", "data=cubes", "data.root=table"],
    "pretrain": [
        *["pretrain", "data=cubes", "data.root=table", "encoder=neighbour_mean", "logger=[csv,progress]"],
        *["fit.epochs=2", "threads=1", "hydra.run.dir=short"],
    ],
    "transfer": ["transfer", "target=cubes", "target.data.root=table", "mode=bias_only", "source=short", *QUICK],
    "report": ["report", "inputs=[short]", "output=page"],
}


@pytest.fixture(scope="module")
def said(home: Path, kernel_folder: Path) -> dict[str, str]:
    """What each of the commands said. They run one after another, in one process, with the tltool of ``home``."""

    def work() -> None:
        import_from(home)
        cli = importlib.import_module("tltool.cli")
        texts = {}
        for name, words in COMMANDS.items():
            text = io.StringIO()
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                code = cli._answer(words)
            assert code == 0, text.getvalue()
            texts[name] = text.getvalue()
        (home / "said.json").write_text(json.dumps(texts), encoding="utf-8")

    # The data set made here must not stay behind in a cache that others use; kernels are those of all tests.
    (home / "cache").mkdir()
    kernel_folder.mkdir(parents=True, exist_ok=True)
    (home / "cache" / "kernels").symlink_to(kernel_folder)
    process = fork(work, home, TLTOOL_CACHE=str(home / "cache"))
    assert process.wait(timeout=240) == 0, process.said()
    found: dict[str, str] = json.loads((home / "said.json").read_text(encoding="utf-8"))
    return found


def test_a_dataset_an_encoder_and_a_mode_work(said: dict[str, str]) -> None:
    assert "43 records kept, 3 left out" in said["prepare"]
    assert "2 left out: lattice constant or enthalpy is not a number (first: blank)" in said["prepare"]
    assert "1 left out: a site is not a real element" in said["prepare"]
    assert "Pretraining on 35 crystals of cubes" in said["pretrain"]
    assert "bias_only to cubes: 35 training" in said["transfer"]
    # The biases of receiver (64) and trunk (128), and the head (128 + 1).
    assert "321 parameters train" in said["transfer"]


def test_a_metric_shows_up_everywhere(said: dict[str, str], home: Path) -> None:
    assert "median error" in said["pretrain"]
    errors = json.loads((home / "short" / "metrics.json").read_text(encoding="utf-8"))["quantities"]["e_form"]["test"]
    assert 0 < errors["median error"] < errors["RMSE"]
    assert "| test median error |" in (home / "page" / "report.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("said")
def test_a_logger_hears(home: Path) -> None:
    assert (home / "short" / "progress.txt").read_text(encoding="utf-8") == "finished\n"
    assert len((home / "short" / "epochs.csv").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.long
def test_the_contract_tests_find_them_and_they_keep_the_contracts(home: Path) -> None:
    mirrors = ["model/test_encoders.py", "transfer/test_laws.py", "loggers/test_loggers.py"]
    tests = ["test_configs.py", "test_doors.py", "test_metrics.py", *mirrors]
    chosen = "(cubes or neighbour_mean or bias_only or doors or truth or progress) and not regressor"
    words = ["-p", "no:cacheprovider", "-p", "no:xdist", "-q", "-rA", "-k", chosen]
    said = run(home, "-c", ALONE, str(home), *words, *(f"tests/{name}" for name in tests))
    for name, test in zip(("neighbour_mean", "bias_only", "progress"), mirrors, strict=True):
        assert re.search(rf"PASSED tests/{test}::\S+\[[^\]]*{name}", said), said
    assert "PASSED tests/test_metrics.py::test_a_metric_says_the_truth_about_itself[median error]" in said
    for name in FILES:
        if name.endswith(".yaml"):
            assert re.search(rf"PASSED \S+\[{name.removeprefix('configs/')}\]", said), said


def test_the_blocks_keep_the_house_style(home: Path) -> None:
    code = [name for name in FILES if name.endswith(".py")] + [name for name, *_ in INSERTED.findall(PAGE)]
    run(home, "-m", "ruff", "check", "--no-cache", *code)
    run(home, "-m", "ruff", "format", "--no-cache", "--check", *code)


TESTS = {"encoder": "model/test_encoders.py", "mode": "transfer/test_laws.py", "logger": "loggers/test_loggers.py"}


@pytest.mark.parametrize(("group", "test"), TESTS.items())
def test_the_contract_tests_glob(group: str, test: str) -> None:
    text = (ROOT / "tests" / test).read_text(encoding="utf-8")
    assert f'(ROOT / "configs" / "{group}").glob("*.yaml")' in text
