"""The Gaussian process with a kernel for each block: it is a Gaussian process, and says which blocks are of use."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern
from support import additive_gp

from tltool.errors import ConfigError
from tltool.model import marginal_likelihood
from tltool.model.additive_gp import ProcessHead
from tltool.model.marginal_likelihood import Kernels, covariance, distances, products, variance

WIDTHS = {"useful": 3, "useless": 4}


def rows(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(n, 7))
    return inputs, np.sin(1.5 * inputs[:, 0]) + inputs[:, 1] + 0.05 * rng.normal(size=n)


@given(st.integers(0, 10_000), st.floats(0.2, 5.0), st.floats(0.2, 5.0))
def test_the_covariance_is_that_of_the_sum_of_matern_kernels(seed: int, amplitude: float, length: float) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(5, 7)), rng.normal(size=(6, 7))
    kernels = Kernels(np.array([amplitude, 2.0]), np.array([length, 1.0]), 0.1)
    expected = sum(
        (ConstantKernel(a) * Matern(ell * np.sqrt(len(of)), nu=1.5))(one[:, of], other[:, of])
        for a, ell, of in ((amplitude, length, [0, 1, 2]), (2.0, 1.0, [3, 4, 5, 6]))
    )
    found = covariance(kernels, one, other, [[0, 1, 2], [3, 4, 5, 6]])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_a_kernel_of_infinite_length_is_linear() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(5, 7)), rng.normal(size=(6, 7))
    kernels = Kernels(np.array([1.3, 2.0]), np.array([0.7, np.inf]), 0.1)
    columns = [[0, 1, 2], [3, 4, 5, 6]]
    expected = 1.3 * Matern(0.7 * np.sqrt(3), nu=1.5)(one[:, :3], other[:, :3]) + 2.0
    expected += 2.0 * one[:, 3:] @ other[:, 3:].T / 4
    np.testing.assert_allclose(covariance(kernels, one, other, columns), expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(variance(kernels, one, columns), np.diag(covariance(kernels, one, one, columns)))


def test_half_of_a_symmetric_covariance_is_enough() -> None:
    one = np.random.default_rng(0).normal(size=(150, 7))
    kernels = Kernels(np.array([1.3, 0.0, 2.0]), np.array([0.7, 1.0, 2.0]), 0.1)
    columns = [[0, 1, 2], [3], [4, 5, 6]]
    np.testing.assert_allclose(covariance(kernels, one, one, columns), covariance(kernels, one, one.copy(), columns))


def test_the_gradient_of_the_marginal_likelihood_is_that_of_its_value() -> None:
    inputs, labels = rows(20)
    blocks = [distances(inputs[:, of], inputs[:, of]) for of in (slice(0, 3), slice(3, 7))]
    lower = np.tril_indices(20)
    given_to = ([of[lower] for of in blocks], lower, labels, np.linspace(0.5, 2.0, 20))
    at = np.array([0.1, -0.5, 0.3, 0.8, -1.0])
    value = lambda logs: marginal_likelihood._negative(logs, *given_to)[0]  # noqa: E731
    step = 1e-5 * np.eye(5)
    slopes = [(value(at + e) - value(at - e)) / 2e-5 for e in step]
    np.testing.assert_allclose(marginal_likelihood._negative(at, *given_to)[1], slopes, rtol=1e-5, atol=1e-6)
    blocks[1] = products(inputs[:, 3:], inputs[:, 3:])
    given_to = ([of[lower] for of in blocks], *given_to[1:])
    at = np.array([0.1, -0.5, 0.8, -1.0])
    slopes = [(value(at + e) - value(at - e)) / 2e-5 for e in 1e-5 * np.eye(4)]
    np.testing.assert_allclose(marginal_likelihood._negative(at, *given_to)[1], slopes, rtol=1e-5, atol=1e-6)


def test_predictions_are_those_of_scikit_learn_with_the_same_kernel() -> None:
    inputs, labels = rows(40)
    head = additive_gp("mode.regressor.tail=null").fitted(inputs, labels, {"all": 7})
    amplitude, length = float(head.amplitude[0]), float(head.length[0]) * np.sqrt(7)
    kernel = ConstantKernel(amplitude, "fixed") * Matern(length, "fixed", nu=1.5)
    noise = float(head.noise[0]) + 1e-8
    other = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None, normalize_y=True).fit(inputs, labels)
    further = rows(15, seed=1)[0]
    mean, std = head.predict(further, return_std=True)
    expected, spread = other.predict(further, return_std=True)
    np.testing.assert_allclose(mean, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(std, np.hypot(spread, labels.std() * np.sqrt(noise)), rtol=1e-5)
    np.testing.assert_allclose(head(torch.from_numpy(further))[:, 0].numpy(), expected, rtol=1e-6, atol=1e-8)


def test_a_useless_block_gets_no_amplitude_and_a_useful_one_does() -> None:
    inputs, labels = rows(120)
    shares = additive_gp("mode.regressor.joint=[]").fitted(inputs, labels, WIDTHS).shares()
    assert shares == {"useful": 1.0, "useless": 0.0}


def test_blocks_alone_and_together() -> None:
    head = additive_gp("mode.regressor.joint=[[useful,useless],[useful,absent]]").fitted(*rows(30), WIDTHS)
    assert head.blocks == {
        "useful+useless": [0, 1, 2, 3, 4, 5, 6], "useful": [0, 1, 2], "useless": [3, 4, 5, 6]
    }  # fmt: skip


def test_a_line_far_beyond_the_training_rows() -> None:
    inputs, noise = rows(80)[0], 0.01 * np.random.default_rng(2).normal(size=80)
    labels = 2.0 * inputs[:, 0] + np.sin(2.5 * inputs[:, 1]) + noise
    further = inputs + 2.5 * np.eye(7)[0]
    truth = labels - noise + 5.0
    errors = {}
    for linear in ("[]", "[useful]"):
        head = additive_gp(f"mode.regressor.linear={linear}").fitted(inputs, labels, WIDTHS)
        mean, std = head.predict(further, return_std=True)
        errors[linear] = np.abs(mean - truth).mean()
        assert (np.abs(mean - truth) < 3 * std).mean() > 0.9
    assert errors["[useful]"] < 0.7 * errors["[]"]
    assert list(head.blocks) == ["useful", "useless", "useful (linear)"]


def test_each_source_has_a_linear_kernel_of_its_own() -> None:
    widths = {"labels": 2, "megnet_labels": 2, "unlabels": 3}
    head = additive_gp("mode.regressor.linear=[labels]").fitted(*rows(30), widths)
    assert list(head.blocks)[3:] == ["labels (linear)", "megnet_labels (linear)"]


def test_a_few_wrong_labels_do_little_with_a_heavy_tail() -> None:
    inputs, labels = rows(80)
    wrong = labels.copy()
    wrong[::20] += 8.0
    further, truth = rows(200, seed=2)
    errors = {
        tail: np.abs(additive_gp(f"mode.regressor.tail={tail}").fitted(inputs, wrong, WIDTHS).predict(further) - truth)
        for tail in ("4.0", "auto", "null")
    }
    assert errors["4.0"].mean() < 0.7 * errors["null"].mean()
    assert errors["auto"].mean() == errors["4.0"].mean()


def test_auto_takes_normal_noise_where_that_is_what_the_labels_have() -> None:
    chosen = []
    for seed in range(3):
        inputs, labels = rows(60, seed)
        labels = labels + 0.3 * np.random.default_rng(seed).normal(size=60)
        heads = [additive_gp(f"mode.regressor.tail={tail}").fitted(inputs, labels, WIDTHS) for tail in ("auto", "null")]
        chosen.append(torch.equal(heads[0].solved, heads[1].solved))
    assert sum(chosen) >= 2


def test_standard_deviations_grow_away_from_the_rows_and_cover_the_labels() -> None:
    inputs, labels = rows(150)
    head = additive_gp("mode.regressor.tail=null").fitted(inputs, labels, WIDTHS)
    further, truth = rows(300, seed=3)
    mean, std = head.predict(further, return_std=True)
    assert 0.5 < (np.abs(mean - truth) < std).mean() < 0.9
    assert head.predict(np.full((1, 7), 7.0), return_std=True)[1] > std.max()
    np.testing.assert_array_equal(head.predict(np.full((1, 7), 9.0)), head.predict(np.full((1, 7), 8.0)))


def test_it_is_fitted_to_some_rows_and_remembers_no_more_than_it_may() -> None:
    inputs, labels = rows(60)
    head = additive_gp("mode.regressor.fit_rows=20", "mode.regressor.most_rows=30").fitted(inputs, labels, WIDTHS)
    assert head.rows.shape == (30, 7)
    again = additive_gp("mode.regressor.fit_rows=20", "mode.regressor.most_rows=30").fitted(inputs, labels, WIDTHS)
    assert torch.equal(head.solved, again.solved)
    for wrong in ("most_rows=10", "tail=often", "tail=-1", "restarts=-1"):
        with pytest.raises(ConfigError, match=wrong):
            additive_gp(f"mode.regressor.{wrong}")


def test_equal_labels_and_equal_rows_are_no_fault() -> None:
    head = additive_gp().fitted(np.zeros((5, 7)), np.full(5, 2.0), WIDTHS)
    np.testing.assert_allclose(head.predict(np.ones((2, 7))), 2.0)


def test_an_empty_head_takes_the_sizes_of_what_it_loads_and_no_others() -> None:
    head = additive_gp().fitted(*rows(25), WIDTHS)
    empty = ProcessHead(7, **head.made_with())
    empty.load_state_dict(head.state_dict())
    further = rows(9, seed=4)[0]
    for a, b in zip(empty.predict(further, True), head.predict(further, True), strict=True):
        np.testing.assert_array_equal(a, b)
    short = copy.deepcopy(head.state_dict()) | {"solved": torch.zeros(3, dtype=torch.float64)}
    with pytest.raises(ValueError, match="no process has"):
        ProcessHead(7, **head.made_with()).load_state_dict(short)
    narrow = copy.deepcopy(head.state_dict()) | {"rows": torch.zeros(25, 6, dtype=torch.float64)}
    with pytest.raises(RuntimeError, match="size mismatch"):
        ProcessHead(7, **head.made_with()).load_state_dict(narrow)
    with pytest.raises(ConfigError, match="have 7 features, not 8"):
        ProcessHead(8, **head.made_with())
