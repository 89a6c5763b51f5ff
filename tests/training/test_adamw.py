import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from tltool.model import building
from tltool.training import adamw

needs_a_compiler = pytest.mark.skipif(building.compiler() is None, reason="no C++ compiler is here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(autouse=True)
def _library(folder: Path) -> Iterator[None]:
    adamw.use(building.library(adamw.SOURCE, (), folder, print) if building.compiler() else None)
    yield
    adamw.use(None)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 33), nn.Softplus(), nn.Linear(33, 1), nn.Linear(5, 2))


def groups(model: nn.Module) -> list[dict[str, object]]:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    return [
        {"params": matrices, "lr": 0.02},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]


def steps(model: nn.Module, optimiser: torch.optim.Optimizer, count: int) -> None:
    draw = torch.Generator().manual_seed(1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.9**step)
    for k in range(count):
        for group in optimiser.param_groups:  # as OneCycle moves it
            group["betas"] = 0.85 + 0.1 * k / count, 0.999
        loss = model[:3](torch.randn(20, 7, generator=draw)).square().mean()  # the last map has no gradient
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def assert_close(one: nn.Module, other: nn.Module) -> None:
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=2e-6)


@needs_a_compiler
def test_steps_are_those_of_pytorch() -> None:
    plain, mine = network(), network()
    theirs = torch.optim.AdamW(groups(plain), lr=0.01, weight_decay=0.1, fused=True)
    ours = adamw.AdamW(groups(mine), lr=0.01, weight_decay=0.1, fused=True)
    gathered: list[bool] = []
    gather = ours._gathered
    ours._gathered = lambda: gathered.append(True) or gather()
    steps(plain, theirs, 30)
    steps(mine, ours, 30)
    assert ours._facts() is not None
    assert gathered == [True], "what a schedule moves is not a reason to gather all again"
    assert_close(plain, mine)
    assert torch.equal(mine[3].weight, network()[3].weight), "without a gradient nothing decays"


@needs_a_compiler
def test_a_state_that_is_loaded_is_gone_on_with() -> None:
    whole, halved = network(), network()
    optimiser = adamw.AdamW(groups(whole), lr=0.01, weight_decay=0.1, fused=True)
    first = adamw.AdamW(groups(halved), lr=0.01, weight_decay=0.1, fused=True)
    second = adamw.AdamW(groups(halved), lr=0.01, weight_decay=0.1, fused=True)
    for _ in range(2):
        steps(whole, optimiser, 5)
    steps(halved, first, 5)
    steps_of_its_own = copy.deepcopy(halved)
    steps(halved, second, 2)
    halved.load_state_dict(steps_of_its_own.state_dict())
    second.load_state_dict(first.state_dict())
    for group in second.param_groups:
        group["lr"] = group["initial_lr"]
    steps(halved, second, 5)
    assert_close(whole, halved)


@needs_a_compiler
def test_either_form_goes_on_where_the_other_stopped() -> None:
    plain, mine = network(), network()
    theirs = torch.optim.AdamW(groups(plain), lr=0.01, weight_decay=0.1, fused=True)
    steps(plain, theirs, 20)
    ours = adamw.AdamW(groups(mine), lr=0.01, weight_decay=0.1, fused=True)
    library = adamw._library
    for take in (library, None):
        adamw.use(take)
        steps(mine, ours, 10)
    again = network()
    other = torch.optim.AdamW(groups(again), lr=0.01, weight_decay=0.1, fused=True)
    for _ in range(2):
        steps(again, other, 10)
    assert_close(again, mine)
    assert ours.state_dict()["state"].keys() == other.state_dict()["state"].keys()


def test_what_the_compiled_step_does_not_take_is_pytorchs() -> None:
    model = network().double()
    optimiser = adamw.AdamW(model.parameters(), lr=0.01, weight_decay=0.0, fused=True)
    before = model[0].weight.clone()
    model[:3](torch.ones(2, 7, dtype=torch.float64)).sum().backward()
    assert optimiser._facts() is None
    optimiser.step()
    assert not torch.equal(model[0].weight, before)
    optimiser.zero_grad(set_to_none=False)
    assert not bool(model[0].weight.grad.any())
