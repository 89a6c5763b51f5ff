import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import RidgeCV
from support import QUOTIENT

from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.model.scaler import ClassScaler, Scaler, composition, fit_scaler


def test_there_and_back_and_zero_mean(crystals: list[Crystal]) -> None:
    graph = tensor_table.table(crystal_graphs.build(crystals, QUOTIENT)).select(torch.arange(60))
    labels = torch.randn(60, generator=torch.Generator().manual_seed(0)) * 3 + 5
    labels[7] = torch.nan
    for reference in (False, True):
        scaler = fit_scaler(labels, composition(graph), reference, logarithmic=False)
        values = scaler.to_value(labels, graph)
        known = torch.isfinite(labels)
        assert values[known].mean().abs() < 1e-4
        assert values[known].std(correction=0) == pytest.approx(1.0, abs=1e-4)
        assert torch.isnan(values[7])
        torch.testing.assert_close(scaler.to_label(values, graph)[known], labels[known], atol=1e-4, rtol=1e-5)


def test_minmax_puts_the_training_labels_between_minus_one_and_one(crystals: list[Crystal]) -> None:
    graph = tensor_table.table(crystal_graphs.build(crystals, QUOTIENT)).select(torch.arange(60))
    labels = torch.rand(60, generator=torch.Generator().manual_seed(0)) * 30 + 5
    labels[7] = torch.nan
    values = fit_scaler(labels, composition(graph), reference=False, logarithmic=False, minmax=True).to_value(
        labels, graph
    )
    known = values[torch.isfinite(values)]
    assert (float(known.min()), float(known.max())) == pytest.approx((-1.0, 1.0), abs=1e-5)
    assert torch.isnan(values[7])


def test_composition_is_that_of_the_cell(crystals: list[Crystal]) -> None:
    graph = tensor_table.table(crystal_graphs.build(crystals, QUOTIENT)).select(torch.arange(60))
    fractions = composition(graph).numpy()
    for row, crystal in enumerate(crystals):
        expected = np.bincount(crystal.numbers, minlength=119) / len(crystal.numbers)
        np.testing.assert_allclose(fractions[row], expected, atol=1e-6)


def test_references_explain_a_sum_over_elements(crystals: list[Crystal]) -> None:
    graph = tensor_table.table(crystal_graphs.build(crystals * 4, QUOTIENT)).select(torch.arange(240))
    fractions = composition(graph)
    labels = fractions @ torch.linspace(-3, 3, 119)
    assert fit_scaler(labels, fractions, reference=True, logarithmic=False).spread < 0.05 * labels.std()


@given(st.integers(0, 10_000), st.integers(8, 150), st.booleans(), st.floats(0.0, 3.0))
def test_references_are_those_of_scikit_learn(seed: int, rows: int, weighted: bool, noise: float) -> None:
    """Of rows that share elements: of others all strengths have the same leave-one-out errors, to rounding."""
    rng = np.random.default_rng(seed)
    fractions = np.zeros((rows, 119))
    for row in fractions:
        row[rng.integers(1, 13, size=3)] += 1 / 3
    labels = fractions @ rng.normal(size=119) + noise * rng.normal(size=rows)
    weights = rng.uniform(0.1, 3.0, size=rows) if weighted else None
    expected = RidgeCV(alphas=[10.0**k for k in range(-4, 3)]).fit(fractions, labels, sample_weight=weights).coef_
    given_weights = None if weights is None else torch.from_numpy(weights)
    scaler = fit_scaler(
        torch.from_numpy(labels), torch.from_numpy(fractions), reference=True, logarithmic=False, weights=given_weights
    )
    np.testing.assert_allclose(scaler.reference.numpy(), expected, atol=1e-5)


def test_a_row_alone_has_no_references() -> None:
    fractions = torch.eye(119)[:1]
    scaler = fit_scaler(torch.tensor([3.0]), fractions, reference=True, logarithmic=False)
    assert not scaler.reference.any()
    assert float(scaler.mean) == 3.0


def test_equal_labels_do_not_divide_by_zero(crystals: list[Crystal]) -> None:
    graph = tensor_table.table(crystal_graphs.build(crystals[:3], QUOTIENT)).select(torch.arange(3))
    scaler = fit_scaler(torch.full((3,), 2.0), composition(graph), reference=False, logarithmic=False)
    torch.testing.assert_close(scaler.to_label(torch.zeros(3), graph), torch.full((3,), 2.0))


def test_a_logarithmic_scaler_learns_the_logarithm_and_gives_the_label(crystals: list[Crystal]) -> None:
    graph = tensor_table.table(crystal_graphs.build(crystals, QUOTIENT)).select(torch.arange(60))
    labels = (torch.randn(60, generator=torch.Generator().manual_seed(0)) * 0.7 + 3).exp()
    labels[7] = torch.nan
    known = torch.isfinite(labels)
    for reference in (False, True):
        scaler = fit_scaler(labels, composition(graph), reference, logarithmic=True)
        plain = fit_scaler(labels.log(), composition(graph), reference, logarithmic=False)
        values = scaler.to_value(labels, graph)
        torch.testing.assert_close(values[known], plain.to_value(labels.log(), graph)[known])
        torch.testing.assert_close(scaler.to_label(values, graph)[known], labels[known], rtol=1e-5, atol=0)
        assert bool(torch.isnan(values[7]))
        far = scaler.to_label(torch.full((60,), 80.0), graph)
        furthest = (plain.to_label(torch.zeros(60), graph) + 5 * plain.spread).exp()
        torch.testing.assert_close(far, furthest, rtol=1e-5, atol=0)
        nearest = (plain.to_label(torch.zeros(60), graph) - 5 * plain.spread).exp()
        torch.testing.assert_close(scaler.to_label(torch.full((60,), -80.0), graph), nearest, rtol=1e-5, atol=0)
        apart = scaler.distance(labels[known], labels[known] * 2)
        torch.testing.assert_close(apart, torch.full_like(apart, float(np.log(2) / plain.spread)))
        without = scaler.distance(torch.tensor([1.0, 1.0]), torch.tensor([0.0, -3.0]))
        torch.testing.assert_close(without, torch.tensor([10.0, 10.0]))


def test_a_class_scaler_gives_probabilities_and_their_cross_entropy() -> None:
    values = torch.tensor([[0.0, 1.0, 200.0], [0.0, 0.0, 0.0]])
    several, two = ClassScaler(["a", "b", "c"]), ClassScaler(["a", "b"])
    assert (several.width, two.width) == (3, 1)
    found = several.to_label(values)
    torch.testing.assert_close(found.sum(1), torch.ones(2))
    torch.testing.assert_close(several.distance(found, torch.eye(3)[:2])[1], torch.tensor(3.0).log())
    one = two.to_label(torch.tensor([[0.0], [500.0]]))
    torch.testing.assert_close(one, torch.tensor([[0.5], [1.0]]))
    apart = two.distance(one, torch.tensor([[1.0], [0.0]]))
    torch.testing.assert_close(apart[0], torch.tensor(2.0).log())
    assert torch.isfinite(apart).all()


@given(st.floats(0, 1), st.floats(0.01, 100), st.floats(-50, 50))
def test_a_scaler_with_bounds_stays_between_them(share: float, width: float, low: float) -> None:
    """There and back, and no value of a network gives a label beyond the bounds."""
    bounds = (low, low + width)
    scaler = Scaler(bounds=bounds)
    label = torch.tensor([low + share * width], dtype=torch.float64)
    inside = label.clamp(low + 1e-3 * width, low + width * (1 - 1e-3))
    torch.testing.assert_close(scaler.plain(scaler.learnt(label)), inside, rtol=1e-6, atol=1e-6 * width)
    found = scaler.plain(torch.tensor([-1e9, -3.0, 0.0, 3.0, 1e9], dtype=torch.float64))
    assert (found >= bounds[0]).all()
    assert (found <= bounds[1]).all()
    assert (found.diff() >= 0).all()
    step = 1e-6 * width
    middle = torch.tensor([low + (0.2 + 0.6 * share) * width], dtype=torch.float64)
    slope = (scaler.learnt(middle + step) - scaler.learnt(middle - step)) / (2 * step)
    torch.testing.assert_close(scaler.steepness(middle), slope, rtol=1e-3, atol=0.0)


def test_a_scaler_with_bounds_is_fitted_to_logits(crystals: list[Crystal]) -> None:
    labels = torch.tensor([0.1, 0.5, 0.9, 0.0, torch.nan, 1.0], dtype=torch.float64)
    scaler = fit_scaler(labels, torch.zeros(6, 119), False, False, bounds=(0.0, 1.0))
    logits = scaler.learnt(labels[torch.isfinite(labels)])
    assert float(scaler.mean) == pytest.approx(float(logits.mean()), abs=1e-6)
    assert float(scaler.spread) == pytest.approx(float(logits.std(correction=0)), rel=1e-5)
    assert float(scaler.distance(labels[:1], labels[:1])) == 0.0


def test_weights_of_a_scaler_are_rows_of_their_number() -> None:
    labels, counts = torch.tensor([1.0, 4.0, 2.0, torch.nan]), torch.tensor([1.0, 3.0, 2.0, 7.0])
    one = fit_scaler(labels, torch.zeros(4, 119), False, False, weights=counts)
    other = fit_scaler(torch.repeat_interleave(labels, counts.long()), torch.zeros(13, 119), False, False)
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.spread, other.spread)
