"""A compiled step or batch that is not the plain one is told in one sentence and not used."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tltool.data import assembly
from tltool.model import building, kernels
from tltool.training import adamw, compute, compute_check

pytestmark = pytest.mark.skipif(building.compiler() is None, reason="no C++ compiler is here")
CPU = torch.device("cpu")
WRONG = {
    "batch.cpp": ("to.receiver[e++] = n", "to.receiver[e++] = node", "Compiled batches give other numbers"),
    "adamw.cpp": ("keep * p.value[q] -", "p.value[q] -", "Compiled steps of AdamW give other numbers"),
}


@pytest.fixture(autouse=True)
def _afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(compute, "_named", False)
    yield
    kernels.use("torch")
    assembly.use(None)
    adamw.use(None)


def used() -> tuple[bool, bool]:
    return assembly._library is not None, adamw._library is not None


def test_what_agrees_is_used_and_recorded(kernel_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    assert compute.use("compiled", CPU, kernel_folder, said.append) == "compiled"
    assert used() == (True, True)
    assert not any("other numbers" in line for line in said)
    names = {name for path in kernel_folder.glob("*.json") for name in json.loads(path.read_text()).get("checked", [])}
    assert {"batches", "steps of AdamW", "rows"} <= names
    monkeypatch.setattr(
        compute, "_CHECKS", {source: (lambda: False, name) for source, (_, name) in compute._CHECKS.items()}
    )
    compute.use("compiled", CPU, kernel_folder, said.append)
    assert used() == (True, True), "a pass is not made again"


@pytest.mark.parametrize("module", [assembly, adamw])
def test_what_disagrees_is_not_used(
    module, kernel_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, sentence = WRONG[module.SOURCE.name]
    text = module.SOURCE.read_text()
    assert old in text
    source = tmp_path / module.SOURCE.name
    source.write_text(text.replace(old, new))
    checks = dict(compute._CHECKS) | {source: compute._CHECKS[module.SOURCE]}
    monkeypatch.setattr(compute, "_CHECKS", checks)
    monkeypatch.setattr(module, "SOURCE", source)
    said: list[str] = []
    compute.use("compiled", CPU, kernel_folder, said.append)
    assert used() == (module is not assembly, module is not adamw)
    assert [line for line in said if sentence in line] != []


def test_the_plain_forms_agree_with_themselves() -> None:
    assert compute_check.steps_agree()
    assert compute_check.batches_agree()
