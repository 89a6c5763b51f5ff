import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tltool.model.norm import WeightedBatchNorm


@pytest.mark.usefixtures("double")
@given(st.lists(st.integers(0, 4), min_size=3, max_size=12).filter(lambda counts: sum(counts) > 1))
def test_weights_are_rows_written_out(counts: list[int]) -> None:
    torch.manual_seed(sum(counts))
    rows = torch.randn(len(counts), 3, dtype=torch.float64)
    repeats = torch.tensor(counts)
    plain = torch.nn.BatchNorm1d(3).double()
    weighted = WeightedBatchNorm(3).double()
    upstream = torch.randn(len(counts), 3, dtype=torch.float64)

    few, many = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    out = weighted(few, repeats.double())
    expected = plain(many.repeat_interleave(repeats, 0))
    (out * upstream * repeats[:, None]).sum().backward()
    (expected * upstream.repeat_interleave(repeats, 0)).sum().backward()
    torch.testing.assert_close(out.repeat_interleave(repeats, 0), expected)
    assert few.grad is not None
    assert many.grad is not None
    torch.testing.assert_close(few.grad, many.grad, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(weighted.mean, plain.running_mean)
    torch.testing.assert_close(weighted.variance, plain.running_var)
    torch.testing.assert_close(weighted.eval()(rows, repeats.double()), plain.eval()(rows))


def test_one_row_is_finite_and_evaluation_moves_nothing() -> None:
    norm = WeightedBatchNorm(2)
    assert torch.isfinite(norm(torch.randn(1, 2), torch.ones(1))).all()
    before = norm.mean.clone()
    norm.eval()(torch.randn(5, 2), torch.ones(5))
    assert torch.equal(norm.mean, before)
