"""docs/experiments.md, its tables of published, full and small settings, and the presets say the same."""

import math
import re
import shlex
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import pytest
import yaml
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from support import ROOT, each_choice

PAGE = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
HEAD = "| stage | setting | published | full | small | why it departs |"
WORKS = sorted(path.stem for path in (ROOT / "configs/transfer/experiment").glob("*.yaml") if "_small" not in path.stem)
SIZES = {"full": "", "small": "_small"}
STAGES = ("pretrain", "transfer")
# What an experiment sets, and under which name the table has it.
OTHER_NAME = {"source_head": "mode.head"}


class Row(NamedTuple):
    """A line of a table whose setting is a key of the config; values as YAML reads them."""

    stage: str
    setting: str
    published: str
    full: Any
    small: Any
    why: str


def rows_of(page: str, work: str) -> list[Row]:
    """Return the lines of the table under the heading ``work`` whose setting is a key, between backticks."""
    section = re.split(r"^## ", page.split(f"\n## {work}\n")[1], flags=re.MULTILINE)[0]
    lines = section[section.index(HEAD) :].splitlines()
    found = []
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        stage, setting, published, full, small, why = (cell.strip() for cell in line.strip("|").split("|"))
        assert stage in STAGES, line
        if setting.startswith("`"):
            found.append(Row(stage, setting.strip("`"), published, *map(value_of, (full, small)), why))
    return found


def value_of(cell: str) -> Any:
    """Return the value that stands between backticks in ``cell``."""
    (text,) = re.findall(r"`([^`]+)`", cell)
    return yaml.safe_load(text)


@cache
def composed(stage: str, *overrides: str) -> dict[str, Any]:
    """Return the resolved config of ``stage``, and the choices of its groups under ``choices``."""
    with initialize_config_module("tltool.configs", version_base="1.3"):
        whole = compose(stage, overrides=list(overrides), return_hydra_config=True)
    choices = OmegaConf.to_container(whole.hydra.runtime.choices)
    OmegaConf.set_struct(whole, False)
    del whole["hydra"]
    OmegaConf.resolve(whole)
    return OmegaConf.to_container(whole) | {"choices": choices}  # type: ignore[operator]


def setting_of(tree: dict[str, Any], setting: str) -> Any:
    """Return the value of ``setting`` in ``tree``, or which file of a group was chosen; ``absent`` if there is none."""
    chosen = {name.partition("@")[0] if "mode/" in name else name: value for name, value in tree["choices"].items()}
    if setting in chosen:
        return chosen[setting]
    for word in setting.split("."):
        if word not in tree:
            return "absent"
        tree = tree[word]
    return tree


def same(one: Any, other: Any) -> bool:
    """Say whether two values are the same; numbers but for rounding."""
    if isinstance(one, (int, float)) and isinstance(other, (int, float)) and not isinstance(one, bool):
        return math.isclose(one, other, rel_tol=1e-12)
    return bool(one == other)


def differences(page: str, work: str, trees: dict[tuple[str, str], dict[str, Any]]) -> list[str]:
    """Return, for ``work``, which lines of ``page`` say another value than ``trees`` of (stage, size)."""
    return [
        f"{row.stage} {row.setting} {size}: the table says {getattr(row, size)!r}, the preset {found!r}"
        for row in rows_of(page, work)
        for size in SIZES
        if not same(getattr(row, size), found := setting_of(trees[row.stage, size], row.setting))
    ]


def trees_of(work: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {(s, size): composed(s, f"experiment={work}{SIZES[size]}") for s, size in product(STAGES, SIZES)}


def settings_in(stage: str, name: str) -> set[str]:
    """Return what the YAML of an experiment sets: its keys and the groups that it overrides."""
    text = (ROOT / "configs" / stage / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    tree = yaml.safe_load(text)
    groups = [next(iter(entry)) for entry in tree.pop("defaults") if isinstance(entry, dict)]

    def keys(node: dict[str, Any], before: str = "") -> set[str]:
        inner = {k: keys(v, f"{before}{k}.") if isinstance(v, dict) else {before + k} for k, v in node.items()}
        return set().union(*inner.values()) if inner else set()

    return {group.removeprefix("override /") for group in groups} | {OTHER_NAME.get(key, key) for key in keys(tree)}


@pytest.mark.parametrize("work", WORKS)
def test_the_table_says_what_the_presets_do(work: str) -> None:
    assert differences(PAGE, work, trees_of(work)) == []


@pytest.mark.parametrize(("work", "stage"), list(product(WORKS, STAGES)))
def test_what_a_preset_sets_stands_in_the_table(work: str, stage: str) -> None:
    told = {row.setting for row in rows_of(PAGE, work) if row.stage == stage}
    for size in SIZES.values():
        assert settings_in(stage, work + size) - told == set()


@pytest.mark.parametrize("work", WORKS)
def test_what_departs_says_why(work: str) -> None:
    for row in rows_of(PAGE, work):
        words = re.findall(r"`([^`]+)`", row.published)
        departs = not words or not all(same(yaml.safe_load(words[-1]), value) for value in (row.full, row.small))
        assert bool(row.why) == departs, f"{work}: {row}"


@pytest.mark.parametrize("work", WORKS)
def test_a_changed_value_is_found_on_either_side(work: str) -> None:
    trees = trees_of(work)
    for row in rows_of(PAGE, work):
        begin = f"| {row.stage} | `{row.setting}` |"
        line = next(line for line in PAGE.split(f"\n## {work}\n")[1].splitlines() if line.startswith(begin))
        for size, cell in (("full", 4), ("small", 5)):
            cells = line.split("|")
            cells[cell] = " `something else` "
            (found,) = differences(PAGE.replace(line, "|".join(cells)), work, trees)
            assert found.startswith(f"{row.stage} {row.setting} {size}: the table says 'something else'")
            other = changed(trees[row.stage, size], row.setting)
            (found,) = differences(PAGE, work, trees | {(row.stage, size): other})
            assert found.endswith("the preset 'something else'")


def changed(tree: dict[str, Any], setting: str) -> dict[str, Any]:
    """Return ``tree`` with another value of ``setting``."""
    if any(name.partition("@")[0] == setting or name == setting for name in tree["choices"]):
        names = [n for n in tree["choices"] if n == setting or ("mode/" in n and n.partition("@")[0] == setting)]
        return tree | {"choices": tree["choices"] | dict.fromkeys(names, "something else")}
    word, _, rest = setting.partition(".")
    return tree | {word: changed(tree.get(word, {}) | {"choices": {}}, rest) if rest else "something else"}


def usage(work: str) -> list[list[str]]:
    """Return the transfers that the headers of a work's presets, and docs/, show: one for each of their modes."""
    texts = [(ROOT / f"configs/transfer/experiment/{work}{size}.yaml").read_text("utf-8") for size in SIZES.values()]
    line = re.compile(rf"^(?:#   )?tltool transfer (.*?experiment={work}\b.*?)(?: {{2,}}|$)", re.MULTILINE)
    found = [[word for word in shlex.split(words) if word != "-m"] for words in line.findall("\n".join([*texts, PAGE]))]
    short = [words[:1] + [word for word in words if word.startswith(("mode", "source_head"))] for words in found]
    return [choice for words in short for choice in each_choice(words)]


@pytest.mark.parametrize("work", WORKS)
def test_every_shown_transfer_keeps_the_head_or_not_as_the_table_says(work: str) -> None:
    told = {row.full for row in rows_of(PAGE, work) if row.setting == "mode.head"}
    shown = {tuple(words) for words in usage(work)}
    assert shown
    found = {mode["head"] for words in shown if "head" in (mode := composed("transfer", *words)["mode"])}
    assert found == told
