import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tltool.model.kernels import chunks
from tltool.model.kernels.norm_silu import norm_silu
from tltool.model.norm import WeightedBatchNorm

pytestmark = pytest.mark.usefixtures("double")


def outcome(written_out: bool, training: bool, residual: bool, frozen: bool = False) -> list[Tensor]:
    """Result, gradients of inputs and parameters, and statistics of two steps."""
    torch.manual_seed(0)
    norm = WeightedBatchNorm(4).train(training).requires_grad_(not frozen)
    linear = nn.Linear(4, 4).requires_grad_(not frozen)
    nn.init.uniform_(norm.mean)
    nn.init.uniform_(norm.scale)
    nn.init.normal_(norm.bias)
    weights = torch.randint(0, 4, (50,)).double()
    rows, beside = (torch.randn(50, 4, requires_grad=True) for _ in range(2))
    added = beside if residual else None
    found = []
    for _ in range(2):
        if written_out:
            out = norm_silu(rows, weights, linear, norm, added, residual)
        else:
            mapped = linear(rows) if added is None else linear(rows) + added
            out = F.silu(norm(mapped, weights)) + (rows if residual else 0.0)
        (out * weights[:, None]).square().sum().backward()
        found.append(out.detach())
    gradients = [x.grad for x in (rows, beside, *linear.parameters(), *norm.parameters()) if x.grad is not None]
    return [*found, *gradients, norm.mean, norm.variance]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_it_is_what_automatic_differentiation_makes_of_it(
    training: bool, residual: bool, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_NUMBERS", 32)
    mine, plain = (outcome(written_out, training, residual, frozen) for written_out in (True, False))
    assert len(mine) == len(plain) == 4 + 1 + residual + 4 * (not frozen)
    for a, b in zip(mine, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
