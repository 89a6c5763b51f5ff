"""Where a scaler ends: five standard deviations, equal labels, the weakest and the strongest ridge."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from support import QUOTIENT

from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.model.scaler import Scaler, composition, fit_scaler

THREE = torch.tensor([2.0, 4.0, 9.0])


@pytest.fixture
def three(crystals: list[Crystal]) -> Graph:
    return tensor_table.table(crystal_graphs.build(crystals[:3], QUOTIENT)).select(torch.arange(3))


@pytest.mark.parametrize("side", [-1, 1])
def test_predictions_of_a_logarithm_end_five_standard_deviations_from_the_mean(side: int, three: Graph) -> None:
    scaler = fit_scaler(THREE, composition(three), False, logarithmic=True)
    logs = np.log(THREE.numpy())
    end = math.exp(logs.mean() + side * 5 * logs.std())
    for far in (5.0, 5.5, 80.0):
        np.testing.assert_allclose(scaler.to_label(torch.full((3,), side * far), three), end, rtol=1e-5)
    assert not np.isclose(scaler.to_label(torch.full((3,), side * 4.9), three), end, rtol=1e-3).any()


def test_a_plain_scaler_is_linear_and_has_no_end(three: Graph) -> None:
    values = torch.tensor([-80.0, 0.0, 80.0])
    torch.testing.assert_close(Scaler().to_label(values, three), values)
    scaler = fit_scaler(THREE, composition(three), False, logarithmic=False)
    torch.testing.assert_close(scaler.to_label(values, three), values * THREE.std(correction=0) + 5)
    torch.testing.assert_close(scaler.distance(THREE, THREE.flip(0)), torch.tensor([7.0, 0.0, 7.0]) / scaler.spread)


def test_equal_labels_leave_a_standard_deviation_of_one(three: Graph) -> None:
    scaler = fit_scaler(torch.full((3,), 2.0), composition(three), False, logarithmic=False)
    assert scaler.to_value(torch.tensor([1.0, 2.0, 4.0]), three).tolist() == [-1.0, 0.0, 2.0]


@pytest.mark.parametrize(("noise", "strength"), [(0.0, 1e-4), (1.0, 100.0)])
def test_the_ridge_is_as_weak_or_strong_as_the_labels_ask(noise: float, strength: float) -> None:
    rng = np.random.default_rng(4)
    fractions = torch.from_numpy(rng.dirichlet(np.full(119, 0.02), 400)).float()
    labels = fractions @ torch.linspace(-3, 3, 119) if not noise else torch.from_numpy(rng.normal(size=400)).float()
    found = fit_scaler(labels, fractions, True, logarithmic=False).reference
    expected = Ridge(alpha=strength).fit(fractions.double().numpy(), labels.double().numpy()).coef_
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
