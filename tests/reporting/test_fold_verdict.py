import math

import numpy as np
import pytest

from tltool.reporting.fold_verdict import told, verdict


def test_the_variance_is_that_of_nadeau_and_bengio() -> None:
    mode, scratch = [1.0, 2.0, 3.0, 2.0], [2.0, 4.0, 4.0, 2.0]
    found = verdict(mode, scratch, 0.25)
    # Differences -1, -2, -1, 0: mean -1, variance 2/3; (1/4 + 1/4) of it; t(0.975, 3) = 3.18245.
    half = 3.18245 * math.sqrt(0.5 * 2 / 3)
    assert (found.n, found.mean) == (4, -1.0)
    assert (found.low, found.high) == (pytest.approx(-1 - half, rel=1e-5), pytest.approx(-1 + half, rel=1e-5))
    assert found.verdict == "neutral"
    assert verdict(mode, scratch, 0.0).low > found.low
    assert verdict([1.0, 1.1, 0.9, 1.0], [2.0, 2.0, 2.0, 2.0], 0.25).verdict == "positive transfer"
    assert verdict([2.0, 2.0, 2.0], [1.0, 1.1, 0.9], 0.25).verdict == "negative transfer"
    assert verdict([2.0, math.nan], [1.0, 1.0], 0.25).verdict == "not known"


def test_folds_that_share_rows_find_no_difference_where_there_is_none() -> None:
    """Two equal models: with the correction, few of many cross-validations call one better."""
    rng, wrong = np.random.default_rng(0), {0.25: 0, 0.0: 0}
    for _ in range(400):
        # What a model makes of its training rows is nearly the same in all folds, so their errors go together.
        shared = rng.normal(size=2)
        errors = [np.abs(shared[k] + rng.normal(size=(15, 16))).mean(1).tolist() for k in range(2)]
        for ratio in wrong:
            wrong[ratio] += verdict(errors[0], errors[1], ratio).verdict != "neutral"
    assert wrong[0.25] < wrong[0.0]


def test_the_sentence() -> None:
    mode, scratch = [1.0, 1.1, 0.9, 1.0], [2.0, 2.1, 2.0, 2.0]
    text = told("gap", "eV", mode, scratch, verdict(mode, scratch, 0.25))
    assert text.startswith(
        "gap: MAE 1.00 ± 0.08 eV over 4 folds (mean ± standard deviation). Scratch on the same folds: 2.02 ± 0.05. "
        "Positive transfer: the MAE is 1.02 eV lower (95 % interval of the difference -1.14 to -0.91"
    )
    assert told("gap", "eV", mode, None, None) == "gap: MAE 1.00 ± 0.08 eV over 4 folds (mean ± standard deviation)."
