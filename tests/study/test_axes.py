"""A study's YAML: what it may say, and the sentence for what it may not."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from study_rows import axes
from support import ROOT, config

from tltool.command_line.usage import settings_of
from tltool.errors import ConfigError
from tltool.study.axes import read
from tltool.study.plan import drawn, plan

OWN_ROOT = {"matbench_phonons": ["study.targets.matbench_phonons.root=matbench_phonons.json.gz"]}
STUDIES = sorted(path.stem for path in (ROOT / "configs" / "study").glob("*.yaml") if path.stem != "blank")


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_that_ships_can_be_read(name: str, tmp_path: Any) -> None:
    found = read(described(name, tmp_path))
    assert found.name == name
    assert found.question.endswith("?")
    assert all(one.mode in [mode.name for mode in found.modes] for one in found.claims)
    names = {source.name for source in found.sources} | {source.family for source in found.sources}
    assert all(not one.source or one.source in names for one in found.claims)
    assert all(not one.target or one.target in [t.name for t in found.targets] for one in found.claims)


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_every_run_of_a_study_that_ships_composes(name: str, tmp_path: Any) -> None:
    """Each of its targets, modes and splits in one series; of the words that it shows, those of its own command."""
    text = (ROOT / "configs" / "study" / f"{name}.yaml").read_text(encoding="utf-8")
    shown = [shlex.split(line[1:]) for line in text.splitlines() if line.startswith("#   tltool")]
    assert shown
    for _, stage, *words in shown:
        assert settings_of(stage, words)[0] == f"study={name}"
        assert config("study", *settings_of(stage, words))["study"]["name"] == name
    found = read(described(name, tmp_path))
    for source in found.sources:
        if not source.given:
            assert config("pretrain", *source.words)["split"]["train_size"] == source.rows
    composed: set[str] = set()
    for series in plan(found, tmp_path):
        new = {f"target {series.target.name}", f"mode {series.mode.name}", f"split {series.split}"} - composed
        if not new:
            continue
        composed |= new
        made = config("transfer", *series.words)
        assert drawn(made, series.cells[-1], "bundled", 0)["split"]["train_size"] == series.cells[-1].kind.size


def described(name: str, folder: Any) -> dict[str, Any]:
    """Return the description of a study whose files are there, empty, in ``folder``."""
    made = config("study", f"study={name}", *OWN_ROOT.get(name, [f"study.folder={folder}"]))
    for entry in [*made["study"]["targets"].values(), *made["study"]["sources"].values()]:
        if entry and entry.get("root"):
            entry["root"] = f"{folder}/{entry['root'].rpartition('/')[2]}"
            Path(entry["root"]).touch()
    return made["study"]


def test_a_pretraining_of_several_sizes_is_as_many_sources() -> None:
    made = axes(sources={"pbe": {"settings": ["fit.epochs=2"], "sizes": [500, None]}, "old": {"source": "bundled"}})
    assert [(s.name, s.family, s.rows, s.given) for s in made.sources] == [
        ("pbe-500", "pbe", 500, ""),
        ("pbe-None", "pbe", None, ""),
        ("old", "old", None, "bundled"),
    ]
    assert made.sources[0].words == ("fit.epochs=2", "split.train_size=500")


def test_an_entry_that_is_null_is_left_out(tmp_path: Any) -> None:
    assert list(read(described("matbench_phonons", tmp_path)).splits) == ["official"]
    assert [mode.name for mode in axes(modes={"scratch": {}, "features": None}, claims=[]).modes] == ["scratch"]


def test_draws_depend_on_the_rows() -> None:
    made = axes(sizes=[50, 200, 400, None], draws=20, draws_of_many=5, many=200)
    assert made.draws == {50: 20, 200: 20, 400: 5, None: 5}


def test_a_path_with_a_comma_is_quoted(tmp_path: Any) -> None:
    file = tmp_path / "a, [b].csv"
    file.touch()
    [target] = axes(targets={"mine": {"target": "table", "root": str(file)}}).targets
    assert target.words == ("target=table", f"target.data.root='{file}'")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"targets": {}}, "study.targets has no entry"),
        ({"targets": {"a": {"targt": "x"}}}, "study.targets.a takes no 'targt'. Did you mean 'target'?"),
        ({"targets": {"a": {"root": "nowhere"}}}, "study.targets.a.root=nowhere does not exist"),
        ({"modes": {"a": {"settings": ["lr"]}}, "baseline": "a"}, "study.modes.a.settings has 'lr'"),
        ({"baseline": "scrtch"}, "Did you mean 'scratch'?"),
        ({"sizes": ["a"]}, "a size is a number of rows"),
        ({"sizes": 5}, r"study.sizes=5 must be a list, as \[5\]"),
        ({"draws": 0}, "study.draws=0 must be a whole number of 1 or more"),
        ({"sources": {"a": {"source": "x", "sizes": [1]}}}, "both source"),
        ({"claims": [{"says": "x", "mode": "scratch", "lower": True}]}, "no mode of the study besides its baseline"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        axes(**changes)
