"""The clock of mode=auto foresees what a candidate takes, and the model that is kept with it."""

from collections.abc import Callable

import pytest
from support import a_fit, batches_of

from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.model.property_model import PropertyModel
from tltool.training.fit import Fit
from tltool.transfer.scratch import scratch
from tltool.transfer.steps import trials


class Time:
    """Seconds that pass only where a candidate lets them pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(trials, "time", made)
    return made


@pytest.fixture(scope="module")
def target(part: Dataset) -> Batches:
    return batches_of(part, ("e_above_hull",), seed=3, train_size=30)


def taking(clock: Time, seconds: float, longer: float = 0.0) -> trials.Mode:
    """Return a mode whose fit takes ``seconds``, and ``longer`` more in the model that is kept."""

    def mode(source: PropertyModel, data: Batches, fit: Fit) -> PropertyModel:
        clock.now += seconds
        if longer:
            fit.log({"event": "kept_takes_longer", "seconds": longer})
        return untrained(source, data, fit)

    return mode


def by_epochs(clock: Time, first: float, others: float, epochs: int) -> trials.Mode:
    def mode(source: PropertyModel, data: Batches, fit: Fit) -> PropertyModel:
        for epoch in range(1, epochs + 1):
            clock.now += first if epoch == 1 else others
            fit.log({"event": "epoch", "epoch": epoch, "epochs": epochs})
        return untrained(source, data, fit)

    return mode


def untrained(source: PropertyModel, data: Batches, fit: Fit) -> PropertyModel:
    return scratch(source, data, a_fit(epochs=0))


Compared = Callable[..., dict[str, trials.Tried]]


@pytest.fixture
def compared(source: PropertyModel, target: Batches) -> Compared:
    def run(limit: float, **modes: trials.Mode) -> dict[str, trials.Tried]:
        return trials.compared(modes, source, target, a_fit(), 3, limit, set(), lambda text: None)

    return run


def test_what_the_kept_models_take_longer_is_part_of_the_limit(clock: Time, compared: Compared) -> None:
    # Three folds of 1 s, and the model that is kept takes 1 + 4 s: 8 s of the limit for each of them.
    found = compared(16.5, one=taking(clock, 1.0, 4.0), two=taking(clock, 1.0, 4.0))
    assert [tried.why for tried in found.values()] == ["", ""]
    assert [tried.seconds_kept for tried in found.values()] == [5.0, 5.0]
    found = compared(15.5, one=taking(clock, 1.0, 4.0), two=taking(clock, 1.0, 4.0))
    assert found["two"].why == "3 folds need about 3 s, and the fit to all rows 5 s"
    assert found["two"].folds == 1


def test_a_slow_first_epoch_does_not_count_for_the_others(clock: Time, compared: Compared) -> None:
    quick = taking(clock, 0.0)
    # Four fits of 10 + 99 * 0.1 s, where ten times the first epoch would be 4,000 s.
    found = compared(85.0, quick=quick, slow=by_epochs(clock, 10.0, 0.1, 100))
    assert found["slow"].why == ""
    found = compared(75.0, quick=quick, slow=by_epochs(clock, 10.0, 0.1, 100))
    assert found["slow"].why == "3 folds need about 60 s, and the fit to all rows 20 s"


def test_a_first_epoch_beyond_the_limit_is_enough(clock: Time, compared: Compared) -> None:
    began = clock.now
    found = compared(30.0, quick=taking(clock, 0.0), slow=by_epochs(clock, 10.0, 0.1, 100))
    assert "fit to all rows" in found["slow"].why
    assert clock.now - began == 10.0
