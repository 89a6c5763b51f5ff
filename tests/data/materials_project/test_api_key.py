"""The API key: from the environment, and in no file: a run with the key among its overrides does not begin."""

from pathlib import Path

import pytest
from commands import run
from support import config

from tltool.command_line.usage import STAGES
from tltool.data.materials_project import api_key
from tltool.errors import ConfigError

KEY = "abcdefghijklmnopqrstuvwxyz012345"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MP_API_KEY", KEY)


@pytest.mark.parametrize(
    "word",
    [
        f"data.api_key={KEY[::-1]}",
        "+data.key=x",
        "++data.fetch.query.key=x",
        "data.fetch.api-key=x",
        "target.data.fetch.MP_API_KEY=x",
        "+api_key=x",
        "apikey=x",
        "+data.fetch={api_key: x}",
        "+data={root: null, 'key': x}",
        "data.name=${oc.env:MP_API_KEY}",
        f"data.root={KEY}",
        f"data.name=my{KEY}",
    ],
)
def test_overrides_that_are_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="API key may not be given as an override") as raised:
        api_key.refuse_overrides(["data=mp", word])
    assert KEY not in str(raised.value)
    assert KEY[::-1] not in str(raised.value)


def test_overrides_that_are_not() -> None:
    words = ["data=mp", "data.fetch.query.elements=[Li,O]", "data.root=my_key=1", "mode=freeze", "-m", "seed=0,1"]
    api_key.refuse_overrides([*words, "+mode.key=3", "data.adapter.licences=[BY-C]", "hydra.run.dir=keys", "input=x"])


def test_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in STAGES:
        api_key.refuse_config(config(stage, *(["input=x"] if stage == "predict" else [])))
    for node in ({"api_key": None}, {"data": {"key": "x"}}, {"target": {"data": {"fetch": {"query": {"Api-Key": 1}}}}}):
        with pytest.raises(ConfigError, match="may not be in a config"):
            api_key.refuse_config(node)
    with pytest.raises(ConfigError, match=r"may not be in a config \(data\.root\)") as raised:
        api_key.refuse_config({"data": {"root": [f"x{KEY}"]}})
    assert KEY not in str(raised.value)
    api_key.refuse_config({"encoder": {"key": "x"}, "seed": 0})


@pytest.mark.parametrize("given", [["data.api_key={}"], ["+data.fetch.query.key={}", "-m", "seed=0,1"]])
def test_a_run_with_the_key_leaves_no_file(tmp_path: Path, given: list[str]) -> None:
    words = ["prepare", "data=mp", *(word.format(KEY) for word in given)]
    done = run(tmp_path, *words, code=2)
    assert "API key may not be given as an override" in done.stderr
    assert KEY not in done.stdout + done.stderr
    assert list(tmp_path.rglob("*")) == []


def test_a_yaml_with_the_key_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "mine" / "data").mkdir(parents=True)
    text = f"defaults: [mp]\nfetch:\n  query:\n    api_key: {KEY}\n"
    (tmp_path / "mine" / "data" / "mine.yaml").write_text(text)
    words = ["prepare", "--config-dir", "mine", "data=mine"]
    done = run(tmp_path, *words, code=2)
    assert "may not be in a config (data.fetch.query.api_key)" in done.stderr
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["mine.yaml"]
