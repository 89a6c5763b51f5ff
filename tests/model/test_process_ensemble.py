"""The mean of Gaussian processes that see some of the features each."""

import copy

import numpy as np
import pytest
import torch
from support import additive_gp

from tltool.errors import ConfigError
from tltool.model import process_ensemble
from tltool.model.additive_gp import ProcessHead
from tltool.model.process_ensemble import ProcessEnsemble

WIDTHS = {"useful": 20, "useless": 10, "one": 1}


def rows(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features of which the first twenty say the same in different ways, as those of a network do."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 3))
    mixed = hidden @ np.random.default_rng(99).normal(size=(3, 20)) + 0.7 * rng.normal(size=(n, 20))
    inputs = np.concatenate([mixed, rng.normal(size=(n, 11))], axis=1)
    return inputs, np.sin(hidden[:, 0]) + 0.5 * hidden[:, 1] + 0.1 * rng.normal(size=n)


def ensemble(n: int = 30, *overrides: str) -> ProcessEnsemble:
    head = process_ensemble.fitted(additive_gp("mode.regressor.members=3", *overrides), *rows(n), WIDTHS)
    assert isinstance(head, ProcessEnsemble)
    return head


def test_it_is_the_mean_of_processes_that_see_a_part_of_every_block() -> None:
    head, further = ensemble(), rows(9, seed=1)[0]
    assert head.kept.shape == (3, 12 + 6 + 1)
    kept = head.kept.numpy()
    assert all(len(set(of)) == 19 and 30 in of and sum(of < 20) == 12 for of in kept)
    assert len({tuple(of) for of in kept}) == 3
    apart = [process.predict(further[:, of], return_std=True) for process, of in zip(head.processes, kept, strict=True)]
    mean, std = head.predict(further, return_std=True)
    weights, means, stds = head.weights.numpy(), *(np.stack(of) for of in zip(*apart, strict=True))
    assert weights.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(mean, weights @ means)
    np.testing.assert_allclose(std**2, weights @ (stds**2 + (means - mean) ** 2))
    np.testing.assert_allclose(head(torch.from_numpy(further))[:, 0].numpy(), mean)
    np.testing.assert_array_equal(head.predict(further), ensemble().predict(further))
    assert sum(head.shares().values()) == pytest.approx(1.0)


def test_a_process_without_the_feature_that_matters_counts_nothing() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(40, 8))
    labels = inputs[:, 6] + 0.01 * rng.normal(size=40)
    head = process_ensemble.fitted(additive_gp(), inputs, labels, {"levels": 6, "labels": 2})
    assert isinstance(head, ProcessEnsemble)
    sees = (head.kept == 6).any(1).numpy()
    assert 0 < sees.sum() < 8
    assert float(head.weights[~sees].sum()) < 1e-6
    assert np.abs(head.predict(inputs) - labels).mean() < 0.05


def test_more_rows_than_for_an_ensemble_make_one_process() -> None:
    few = "mode.regressor.ensemble_rows=19"
    assert isinstance(process_ensemble.fitted(additive_gp(few), *rows(20), WIDTHS), ProcessHead)
    assert isinstance(process_ensemble.fitted(additive_gp(few), *rows(19), WIDTHS), ProcessEnsemble)


def test_the_leave_one_out_error_is_that_of_leaving_rows_out() -> None:
    inputs, labels = rows(12)
    head = additive_gp("mode.regressor.tail=null").fitted(inputs, labels, WIDTHS)
    goals = (labels - labels.mean()) / labels.std()
    prior = head._covariance(head.rows.numpy()) + np.diag(head.noise.numpy())
    order = [int(np.abs(inputs - row).sum(1).argmin()) for row in head.rows.numpy()]
    errors = []
    for k in range(12):
        others = np.arange(12) != k
        mean = prior[k, others] @ np.linalg.solve(prior[np.ix_(others, others)], goals[order][others])
        errors.append(abs(mean - goals[order][k]) * labels.std())
    assert head.left_out_error() == pytest.approx(np.mean(errors), rel=1e-5)


def test_one_member_is_a_process_of_all_features() -> None:
    head = process_ensemble.fitted(additive_gp("mode.regressor.members=1"), *rows(20), WIDTHS)
    assert isinstance(head, ProcessHead)
    assert head.rows.shape == (20, 31)


def test_an_empty_head_takes_what_it_loads_and_no_columns_beyond_its_own() -> None:
    head, further = ensemble(), rows(9, seed=1)[0]
    empty = process_ensemble.empty(31, head.made_with())
    empty.load_state_dict(head.state_dict())
    np.testing.assert_array_equal(empty.predict(further), head.predict(further))  # type: ignore[operator]
    for value in (-1, 31):
        state = copy.deepcopy(head.state_dict())
        state["kept"][0, 0] = value
        with pytest.raises(ValueError, match="names a feature beyond 31"):
            process_ensemble.empty(31, head.made_with()).load_state_dict(state)


def test_a_trial_takes_fewer_processes() -> None:
    sizes = []
    for trial in (False, True):
        head = process_ensemble.fitted(additive_gp("mode.regressor.members=4"), *rows(30), WIDTHS, trial=trial)
        assert isinstance(head, ProcessEnsemble)
        sizes.append(len(head.processes))
    assert sizes == [4, 3]
    alone = additive_gp("mode.regressor.trial_members=1")
    assert isinstance(process_ensemble.fitted(alone, *rows(30), WIDTHS, trial=True), ProcessHead)


@pytest.mark.parametrize("wrong", ["members=0", "trial_members=0", "share=0", "share=1.5"])
def test_what_makes_no_ensemble(wrong: str) -> None:
    with pytest.raises(ConfigError, match=rf"mode\.regressor: .*{wrong.partition('=')[0]}="):
        additive_gp(f"mode.regressor.{wrong}")
    with pytest.raises(ConfigError, match="are no ensemble"):
        process_ensemble.empty(31, ensemble().made_with() | {"share": 0.0})
