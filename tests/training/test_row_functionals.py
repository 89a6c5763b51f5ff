"""Names of functionals in the data meet the vectors of a model: known, new, unsaid and unknown ones."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support import QUOTIENT, a_fit, batches_of

from tltool.data import origin, store
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.graph import crystal_graphs
from tltool.data.origin import Mark
from tltool.errors import ConfigError, DataError
from tltool.model.property_model import PropertyModel
from tltool.model.surgery.edit import copy_of
from tltool.training import row_functionals
from tltool.training.fit import predict
from tltool.transfer.scratch import scratch
from tltool.transfer.steps.load_report import announce

SPEC: dict[str, Any] = {"functionals": ["PBE", "HSE"], "functional": "HSE"}


def data_of(part: Dataset, **attributes: str) -> tuple[Batches, store.Store]:
    records = replace(part.store, attributes=attributes)
    return batches_of(replace(part, store=records)), records


@pytest.fixture(scope="module")
def both(part: Dataset) -> Dataset:
    """Twenty crystals, each with the functionals PBE and HSE."""
    few = store.taken(part.store, np.arange(20))
    rows = [few.record(row) for row in range(20)]
    records = [
        record._replace(id=f"{name}:{record.id}", tags={"own_id": record.id, "functional": name})
        for name in ("PBE", "HSE")
        for record in rows
    ]
    found = store.gather(records, {"name": "both"})
    return Dataset(found, crystal_graphs.build([found.crystal(row) for row in range(len(found))], QUOTIENT))


def test_names(both: Dataset, part: Dataset) -> None:
    assert row_functionals.names(both.store) == ["PBE", "HSE"]
    assert row_functionals.names(part.store) == []
    one = origin.marked(part.store, Mark("demo", "PBE"))
    assert row_functionals.names(one) == []
    assert {k: v.tolist() for k, v in row_functionals.groups(both.store, np.array([0, 25])).items()} == {
        "PBE": [True, False],
        "HSE": [False, True],
    }
    assert row_functionals.groups(part.store, np.array([0, 25])) == {}


def test_rows_are_placed_by_their_functional(both: Dataset, part: Dataset) -> None:
    data = batches_of(both)
    found = row_functionals.placed(data, both.store, {"functionals": ["SCAN", "HSE", "PBE"]}).table.functional
    assert found is not None
    assert found.tolist() == [2] * 20 + [1] * 20
    assert row_functionals.placed(data, both.store, {}) is data
    for attributes, words, place in (
        ({"name": "x", "functional": "PBE"}, {}, 0),
        ({"name": "x"}, {}, 1),  # unsaid: as the model was trained last
        ({"name": "PBE"}, {}, 0),  # unsaid: a data set of its own that was transferred to
        ({"name": "x", "functional": "LDA"}, {"functional": "PBE"}, 0),
    ):
        data, records = data_of(part, **attributes)
        found = row_functionals.placed(data, records, SPEC, **words).table.functional
        assert found is not None
        assert set(found.tolist()) == {place}, attributes


def test_an_unknown_functional_is_one_sentence(part: Dataset) -> None:
    data, records = data_of(part, name="x", functional="LDA")
    with pytest.raises(DataError, match=r"'x' has the functional 'LDA', which the model does not know; .*PBE, HSE"):
        row_functionals.placed(data, records, SPEC)
    data, records = data_of(part, name="x")
    with pytest.raises(DataError, match="'x' does not name its functional"):
        row_functionals.placed(data, records, SPEC | {"functional": None})
    with pytest.raises(ConfigError, match=r"functional=HSE06 .*which has PBE, HSE"):
        row_functionals.placed(data, records, SPEC, "HSE06")


def test_which_to_predict() -> None:
    assert row_functionals.chosen(SPEC, None) == "HSE"
    assert row_functionals.chosen(SPEC, "PBE") == "PBE"
    assert row_functionals.chosen({}, None) is None
    with pytest.raises(ConfigError, match="has no separate functionals"):
        row_functionals.chosen({}, "PBE")
    with pytest.raises(ConfigError, match="choose one as functional=NAME"):
        row_functionals.chosen(SPEC | {"functional": None}, None)


def test_the_last_one(part: Dataset, both: Dataset) -> None:
    data, records = data_of(part, name="x", functional="PBE")
    assert row_functionals.last(row_functionals.placed(data, records, SPEC), SPEC["functionals"]) == "PBE"
    assert row_functionals.last(row_functionals.placed(batches_of(both), both.store, SPEC), SPEC["functionals"]) is None
    assert row_functionals.last(data, []) is None


def test_a_source_takes_up_what_is_new_to_it(source: PropertyModel, both: Dataset, part: Dataset) -> None:
    plain, records = data_of(part, name="x", functional="LDA")
    assert row_functionals.taken_up(source, plain, records) == (source, plain)

    # From one functional to two: zeros, so that nothing is predicted otherwise.
    data = batches_of(both)
    two, placed = row_functionals.taken_up(source, data, both.store)
    assert "functionals" not in source.spec
    assert sorted(two.spec["functionals"]) == ["HSE", "PBE"]
    assert (predict(two, placed, "test") == predict(source, data, "test")).all()

    # From two to a third: the mean; to one that is known: the source as it is.
    torch.nn.init.normal_(two.encoder.functional.weight)
    three, placed = row_functionals.taken_up(two, plain, records)
    assert three.spec["functionals"] == [*two.spec["functionals"], "LDA"]
    assert set(placed.table.functional.tolist()) == {2}
    assert len(two.spec["functionals"]) == len(two.encoder.functional.weight) == 2
    known, records = data_of(part, name="x", functional="HSE")
    same, placed = row_functionals.taken_up(two, known, records)
    assert same is two
    assert set(placed.table.functional.tolist()) == {two.spec["functionals"].index("HSE")}


def test_the_load_report_says_how_it_starts(source: PropertyModel, both: Dataset, part: Dataset) -> None:
    events: list[dict[str, Any]] = []
    two, placed = row_functionals.taken_up(source, batches_of(both), both.store)
    torch.nn.init.normal_(two.encoder.functional.weight)
    data, records = data_of(part, name="x", functional="LDA")
    three, placed = row_functionals.taken_up(two, data, records)
    announce(three, copy_of(three), placed, a_fit(events.append))
    assert events[-1]["new_functionals"] == {"LDA": f"the mean of {', '.join(two.spec['functionals'])}"}
    model = scratch(three, placed, a_fit(events.append, epochs=0))
    assert events[-1]["new_functionals"] == {"LDA": "zeros"}
    assert "new_functionals" not in model.spec
