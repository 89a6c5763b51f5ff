"""Every shipped YAML is bound to the real signature, documented, and composes."""

import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from support import ROOT, cell, config, each_choice

from tltool import instantiate
from tltool.command_line.overrides import refuse
from tltool.command_line.usage import STAGES

CONFIGS = ROOT / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))
PLUGS = [
    f for f in FILES if f.parent != CONFIGS and ("_target_" in f.read_text(encoding="utf-8") or f.parent.name == "data")
]
OWN = {"folder", "table", "ase", "formulas"}
OF_STAGE = {
    "pretrain": ["data", "encoder", "graph", "split", "fit", "optimiser"],
    "transfer": ["target", "mode", "split"],
}


def name_of(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def nodes(tree: Any, path: str = "") -> list[tuple[str, dict]]:
    """Return every node with a target."""
    if not isinstance(tree, dict):
        return []
    found = [(path, tree)] if "_target_" in tree else []
    return found + [n for key, value in tree.items() for n in nodes(value, f"{path}.{key}")]


@pytest.mark.parametrize("path", PLUGS, ids=name_of)
def test_keys_are_the_keyword_only_parameters(path: Path) -> None:
    group = path.parent.relative_to(CONFIGS)
    stage = "transfer" if group.parts[0] in ("mode", "target") else "pretrain"
    choice = f"{group}={path.stem}" if group.parts[:2] != ("mode", "regressor") else None
    if group.parts == ("potential",):  # read by its name in source=, and no part of a config
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    else:
        tree = config(stage, choice) if choice else config(stage, "mode=features", f"mode/regressor={path.stem}")
        for word in group.parts:
            tree = tree[word]
    for where, node in nodes(tree):
        function = instantiate.locate(node["_target_"])
        parameters = inspect.signature(function).parameters.values()
        keys = set(node) - {"_target_"}
        if function.__module__.startswith("tltool."):
            wanted = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
            assert keys == wanted, f"{path.name}{where}"
            defaults = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty]
            assert defaults == [], "a default has one home, the YAML"
        else:
            assert keys <= {p.name for p in parameters}, f"{path.name}{where}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_file_says_what_it_is(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    first = lines[1] if lines[0] == "# @package _global_" else lines[0]
    assert first.startswith("# ")
    assert len(first) > 20
    OmegaConf.load(path)


@pytest.mark.parametrize("path", sorted((CONFIGS / "data").glob("*.yaml")), ids=name_of)
def test_data_files_name_source_and_licence(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.stem not in OWN:
        assert "# Source:" in text
        assert "# Licence:" in text
        assert "citation:" in text or "/data@parts." in text


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/experiment/*.yaml")), ids=name_of)
def test_an_experiment_says_what_it_is_and_its_commands_compose(path: Path) -> None:
    stage = path.parts[-3]
    text = path.read_text(encoding="utf-8")
    assert "# Protocol" in text
    if stage == "transfer":
        assert "# Expected" in text or path.stem.endswith("_small")
        assert (CONFIGS / "pretrain" / "experiment" / path.name).is_file(), "an experiment has both stages"
    if not path.stem.endswith("_small"):
        assert path.with_name(f"{path.stem}_small.yaml").is_file(), "and a size for a CPU"
        assert "doi:" in text or "arXiv:" in text
    # Words after two blanks or more say what the command is for.
    commands = [
        shlex.split(re.split(r" {2,}", line[1:].strip())[0]) for line in text.splitlines() if "#   tltool" in line
    ]
    assert commands
    for _, named, *words in commands:
        assert named == stage
        assert any(word == f"experiment={path.stem}" for word in words)
        for single in each_choice([word for word in words if word != "-m"]):
            assert config(stage, *single)["stage"] == stage
        refuse(stage, (cell(stage, *single) for single in each_choice([w for w in words if w != "-m"])), sweep=True)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_composes(stage: str) -> None:
    composed = config(stage, *(["input=x"] if stage == "predict" else []))
    assert composed["stage"] == stage
    assert composed["seed"] == 0


@pytest.mark.parametrize("path", sorted((CONFIGS / "target").glob("*.yaml")), ids=name_of)
def test_every_target_composes(path: Path) -> None:
    root = ["target.data.root=x"] if path.stem in OWN else []
    composed = config("transfer", f"target={path.stem}", *root)
    assert composed["target"]["name"] == path.stem
    assert composed["target"]["quantities"] or path.stem in OWN
