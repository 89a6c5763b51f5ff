"""The recipes for containers name files that are there, and the same Python, which tltool supports."""

import re
import tomllib
from pathlib import Path

from support import ROOT

RECIPES = ROOT / "scripts" / "containers"
APPTAINER = (RECIPES / "tltool.def").read_text(encoding="utf-8")
DOCKER = (RECIPES / "Dockerfile").read_text(encoding="utf-8")


def test_the_apptainer_definition_copies_all_that_make_needs() -> None:
    section = APPTAINER.split("%files\n")[1].split("\n\n")[0]
    names = [line.split()[0] for line in section.splitlines()]
    assert all((ROOT / name).exists() for name in names)
    hidden = {"build", "dist", "runs", "bench_gpu.json"}
    here = {path.name for path in ROOT.iterdir() if path.name[0] != "." and path.suffix != ".egg-info"} - hidden
    assert set(names) == here


def test_both_build_on_one_python_that_is_supported() -> None:
    images = {re.search(pattern, text, re.MULTILINE)[1] for pattern, text in  # type: ignore[index]
              ((r"^FROM (\S+)$", DOCKER), (r"^From: (\S+)$", APPTAINER))}  # fmt: skip
    (image,) = images
    release = re.fullmatch(r"python:3\.(\d+)-slim-\w+", image)
    assert release is not None
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    low, high = map(int, re.findall(r"3\.(\d+)", wanted))
    assert low <= int(release[1]) < high


def test_both_install_the_pinned_set_and_run_the_tests() -> None:
    assert "RUN make install" in DOCKER
    assert "make install" in APPTAINER
    assert "make test" in APPTAINER.split("%test")[1]
    assert "constraints.txt" in (ROOT / "Makefile").read_text(encoding="utf-8").split("$(RUNS) $(INSTALLED):")[1]
    ignored = Path(RECIPES / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert ".venv" in ignored
