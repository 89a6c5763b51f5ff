"""README.md, CONTRIBUTING.md and docs/ say what is so: commands compose, paths exist, pictures and tables match."""

import json
import re
import shlex
import tomllib
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from support import ROOT, cell, config, each_choice
from test_contributing import BLOCK

from tltool import errors, quantities
from tltool.command_line.commands import cache as cache_command
from tltool.command_line.commands.doctor import doctor
from tltool.command_line.commands.show import show
from tltool.command_line.overrides import refuse
from tltool.command_line.stage_help import stage_help
from tltool.command_line.usage import STAGES, settings_of
from tltool.data import store
from tltool.data.dataset import BUNDLED

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
PLUGS = {name: text for name, _, text in BLOCK.findall(TEXTS["CONTRIBUTING.md"])}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOP = ("tltool/", "configs/", "docs/", "scripts/", "tests/")


def lines_of_shell(text: str) -> list[list[str]]:
    """Return the words of each line in the sh blocks of ``text``, comments left out."""
    blocks = [block.replace("\\\n", " ") for kind, block in FENCE.findall(text) if kind == "sh"]
    found = [words for block in blocks for line in block.splitlines() if (words := shlex.split(line, comments=True))]
    return [words[words.index("tltool") :] if words[0] == "torchrun" else words for words in found]


COMMANDS = [(page, words) for page, text in TEXTS.items() for words in lines_of_shell(text)]
TLTOOL = {" ".join(words): words[1:] for _, words in COMMANDS if words[0] == "tltool"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of YAML files that holds those of CONTRIBUTING.md, and the experiment that docs/ speaks of."""
    tree = tmp_path_factory.mktemp("configs")
    mine = {name.removeprefix("configs/"): text for name, text in PLUGS.items() if name.startswith("configs/")}
    for name, text in (mine | {"experiment/short.yaml": "# @package _global_\nfit:\n  epochs: 3\n"}).items():
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(text, encoding="utf-8")
    return tree


@pytest.mark.parametrize("command", TLTOOL)
def test_every_command_composes(command: str, tree: Path) -> None:
    words = TLTOOL[command]
    if not words or words in (["--help"], ["--version"]):
        return
    stage, *words = words
    words = settings_of(stage, words)
    if stage == "show":
        assert show(words)
        return
    if stage == "doctor":
        assert doctor(words)
        return
    if stage == "cache":
        assert not words or cache_command._setting(words[0])
        return
    assert stage in STAGES
    if "--help" in words:
        assert stage_help(stage, words)
        return
    flags = [word for word in words if word.startswith("-")]
    assert set(flags) <= {"-m", "--cfg", "--config-dir", "--help"}
    swept = "-m" in words
    if "--config-dir" in words:
        at = words.index("--config-dir")
        assert not any("=" in word for word in words[:at]), "Hydra takes no flag after an override"
    for flag in ("--cfg", "--config-dir"):
        if flag in words:
            del words[words.index(flag) : words.index(flag) + 2]
    overrides = [word for word in words if word not in flags]
    assert all("=" in word or word.startswith("~") for word in overrides)
    runs = each_choice(overrides)
    assert swept or len(runs) == 1, "several values need -m"
    assert len(runs) > 1 or not swept, "-m needs several values"
    for run in runs:
        own = f"pkg://tltool.configs.{stage}," if stage in ("pretrain", "transfer") else ""
        composed = config(stage, *run, f"hydra.searchpath=[{own}file://{tree}]")
        missing = OmegaConf.missing_keys(OmegaConf.create(composed))
        assert not missing, f"{run} leaves out {missing}"
    own = f"pkg://tltool.configs.{stage}," if stage in ("pretrain", "transfer") else ""
    refuse(stage, (cell(stage, *run, f"hydra.searchpath=[{own}file://{tree}]") for run in runs), sweep=swept)


def test_the_commands_that_people_script_are_shown() -> None:
    assert TLTOOL.keys() >= {
        "tltool pretrain data=pbe data.root=DIR",
        "tltool transfer target=bulk_modulus",
        "tltool transfer target=bulk_modulus mode=freeze",
        "tltool transfer -m mode=scratch,finetune,freeze,features seed=0,1,2",
    }


@pytest.mark.parametrize("stage", STAGES)
def test_every_key_of_a_stage_is_explained(stage: str) -> None:
    page = TEXTS["docs/commands.md"]
    sections = dict(pairwise(re.split(r"^## (.*)\n", page, flags=re.MULTILINE)[1:]))
    for file, section in (("common", "Keys of every stage"), (stage, stage)):
        tree = yaml.safe_load((ROOT / "configs" / f"{file}.yaml").read_text(encoding="utf-8"))
        groups = {str(next(iter(d))) for d in tree.get("defaults", ()) if isinstance(d, dict)}
        keys = {name.removeprefix("optional ") for name in tree.keys() | groups if not name.startswith("override ")}
        for key in keys - {"defaults", "hydra", "stage", "experiment"}:
            assert f"| `{key}` |" in sections[section], f"docs/commands.md, {section}, does not explain {key}"


def test_the_defaults_in_the_tables_are_those_of_the_yaml() -> None:
    trees = config("pretrain"), config("transfer")
    for key in trees[0]["fit"].keys() - {"_target_"}:
        one, other = (json.dumps(tree["fit"][key]).strip('"') for tree in trees)
        assert f"| `fit.{key}` | {one} | {other} |" in TEXTS["docs/commands.md"]
    for mode in ("finetune", "freeze", "lora", "features"):
        for key, value in config("transfer", f"mode={mode}")["mode"].items():
            if key not in ("_target_", "regressor"):
                default = json.dumps(value).replace('"', "")
                assert f"| `mode.{key}` | {default} |" in TEXTS["docs/modes.md"]


@pytest.mark.parametrize("mode", sorted(path.stem for path in (ROOT / "configs" / "mode").glob("*.yaml")))
def test_every_key_of_a_mode_is_explained(mode: str) -> None:
    tree = yaml.safe_load((ROOT / "configs" / "mode" / f"{mode}.yaml").read_text(encoding="utf-8"))
    for key in tree.keys() - {"_target_", "defaults"}:
        assert f"| `mode.{key}` |" in TEXTS["docs/modes.md"]
    assert f"`mode={mode}`" in TEXTS["docs/modes.md"]


def test_other_commands_are_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for _, words in COMMANDS:
        words = [word for word in words if not re.match(r"[A-Z]+=", word)]
        assert words[0] in ("tltool", "make", "sh", "eval"), words
        if words[0] == "make":
            assert set(words[1:]) <= targets
        if words[0] == "sh":
            assert (ROOT / words[1]).is_file()
    for page, text in TEXTS.items():
        for target in re.findall(r"`make (?:[A-Z]+=\S+ )?(\w+)`", text):
            assert target in targets, f"{page}: make {target}"


@pytest.mark.parametrize("page", TEXTS)
def test_links_and_paths_exist(page: str) -> None:
    text = FENCE.sub("", TEXTS[page])
    here = (ROOT / page).parent
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (here / link).exists(), link
    for path in re.findall(r"`([\w./*-]+)`", text):
        if path.startswith(TOP) and path not in PLUGS:
            assert list(ROOT.glob(path.rstrip("/"))), path
        if re.fullmatch(r"[A-Za-z_]+\.(md|txt|toml|sh)", path):
            assert (ROOT / path).exists() or (here / path).exists(), path


def test_the_index_lists_every_page() -> None:
    linked = set(re.findall(r"\]\(([\w/]+\.md)\)", TEXTS["docs/index.md"]))
    assert linked == {page.removeprefix("docs/") for page in TEXTS if page.startswith("docs/")} - {"index.md"}
    assert len(TEXTS["README.md"].splitlines()) <= 150


def picture(number: int) -> str:
    """Return a picture of docs/layout.md: its folders, or its layers."""
    return FENCE.findall(TEXTS["docs/layout.md"])[number][1]


def test_the_layout_lists_the_modules_that_exist() -> None:
    drawn: list[str] = []
    above: list[tuple[int, str]] = []
    for line in picture(0).splitlines():
        indent = len(line) - len(line.lstrip())
        above = [(depth, name) for depth, name in above if depth < indent]
        first = line.split()[0]
        if first.endswith("/"):
            above.append((indent, first))
        drawn += ["".join(name for _, name in above) + file for file in re.findall(r"\w+\.py", line)]
    there = [path for path in (ROOT / "tltool").rglob("*.py") if not path.name.startswith("__")]
    assert set(drawn) == {path.relative_to(ROOT).as_posix() for path in there}
    assert len(drawn) == len(there)
    for folder in picture(0).splitlines()[-1].split():
        assert (ROOT / folder).is_dir()


def test_the_layers_are_those_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [c["layers"] for c in contracts if c["type"] == "layers"]
    floors = [sorted(layer.split(" | ")) for layer in layers]
    names = {name for floor in floors for name in floor}
    drawn = [sorted(names & set(re.findall(r"\w+", line))) for line in picture(1).splitlines()]
    assert [floor for floor in drawn if floor] == floors


@cache
def shipped() -> dict[str, set[str]]:
    return {path.stem: set(store.load(path).labels) for path in sorted(BUNDLED.iterdir())}


def test_the_table_of_quantities_is_in_step() -> None:
    rows = []
    for name, unit, meaning, least, most, log10_of, kind, scale, *_ in quantities.shipped().values():
        limits = (
            "0 or 1" if kind == "class" else " to ".join(f"{limit:,}".removesuffix(".0") for limit in (least, most))
        )
        learnt = "" if scale == "linear" else scale
        ships = ", ".join(f"`{data}`" for data, labels in shipped().items() if (log10_of or name) in labels)
        rows.append(
            f"| `{name}` | {unit} | {meaning} | {limits} | {f'`{log10_of}`' if log10_of else ''} | {learnt} | {ships} |"
        )
    text = TEXTS["docs/quantities.md"].partition("## Quantities that ship")[2]
    table = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert table == rows, "write these rows into docs/quantities.md:\n" + "\n".join(rows)


def test_every_exit_code_is_named() -> None:
    page = TEXTS["docs/exit_codes.md"]
    kinds = [errors.TltoolError, *errors.TltoolError.__subclasses__()]
    for kind in kinds:
        assert re.search(rf"^\| {kind.code} \| `{kind.__name__}` \|", page, re.MULTILINE), kind
    for code in (0, 75, 130, 143):
        assert re.search(rf"^\| {code} \|", page, re.MULTILINE)


@pytest.mark.parametrize("page", ["docs/bundled_data.md", "docs/data.md"])
def test_the_data_that_ship_are_listed(page: str) -> None:
    for path in sorted(BUNDLED.iterdir()):
        records = store.load(path)
        (line,) = re.findall(rf"^\| `(?:data=)?{path.stem}` \| .*$", TEXTS[page], re.MULTILINE)
        assert f"| {len(records):,} |" in line
        assert all(name in line for name in records.labels)
        assert records.attributes["licence"].partition(" (")[0] in TEXTS[page]
        if page == "docs/bundled_data.md":
            doi = re.findall(r"doi=\{(.*?)\}", records.attributes["citation"])[0]
            assert f"doi:{doi}" in line
