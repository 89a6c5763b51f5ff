"""Every form of a saved model becomes the next, one function a schema, up to today's."""

from copy import deepcopy
from typing import Any

import pytest

from tltool.errors import CheckpointError
from tltool.quantities import described, shipped
from tltool.training.saved_model import upgrades

POOL = {"levels": [-1], "statistics": ["mean", "spread"]}
FIRST: dict[str, Any] = {
    "schema": 1,
    "encoder": {"_target_": "tltool.model.encoders.cgcnn.CGCNN", "dim": 4},
    "readout": {
        "_target_": "tltool.model.beside.Beside",
        "beside": ["labels"],
        "parts": {"readout": {"_target_": "tltool.model.readout.Pool", **POOL}},
    },
    "trunk": {"_target_": "own.Trunk", "beside": 3},
    "quantities": {"e_form": "eV/atom"},
}
SECOND = {
    "schema": 1,
    "encoder": {"part": "CGCNN", "dim": 4},
    "readout": {"part": "Beside", "beside": ["labels"], "parts": {"readout": {"part": "Pool", **POOL}}},
    "trunk": {"part": "own.Trunk", "beside": 3},
    "quantities": {"e_form": "eV/atom"},
}
STD = {"levels": [-1], "statistics": ["mean", "std"]}
THIRD = {
    "schema": 1,
    "encoder": {"part": "CGCNN", "dim": 4},
    "readout": {
        "part": "Concatenated",
        "extra_features": ["labels"],
        "parts": {"readout": {"part": "Pool", **STD}},
    },
    "trunk": {"part": "own.Trunk", "beside": 3},
    "quantities": {"e_form": "eV/atom"},
}
FOURTH = THIRD | {"quantities": {"e_form": described(shipped()["e_form"])}}
FORMS = (FIRST, SECOND, THIRD, FOURTH)


@pytest.mark.parametrize("schema", range(1, len(FORMS)))
def test_each_function_makes_the_next_form(schema: int) -> None:
    before = deepcopy(FORMS[schema - 1])
    assert upgrades.UPGRADES[schema - 1](before) == FORMS[schema]
    assert before == FORMS[schema - 1]


def test_a_function_for_each_schema_is_named_after_it() -> None:
    names = [upgrade.__name__ for upgrade in upgrades.UPGRADES]
    assert names == [f"schema_{n}_to_{n + 1}" for n in range(1, upgrades.SCHEMA)]


@pytest.mark.parametrize("schema", range(1, len(FORMS) + 1))
def test_the_chain_ends_with_todays_form(schema: int) -> None:
    chained = FORMS[schema - 1] | {"schema": schema}
    assert upgrades.upgraded(chained, "model.yaml") == upgrades.upgraded(THIRD | {"schema": 3}, "model.yaml")
    assert upgrades.upgraded(chained, "model.yaml")["schema"] == upgrades.SCHEMA


def test_todays_form_stays_as_it_is() -> None:
    today = {"schema": upgrades.SCHEMA, "encoder": {"part": "Beside", "beside": [1]}, "readout": ["wrong"]}
    assert upgrades.upgraded(today, "model.yaml") == today


def test_what_is_wrong_is_left_for_the_reader_to_refuse() -> None:
    calls = {"_target_": "os.system", "command": "true"}
    wrong = {"schema": 1, "encoder": 3, "readout": [], "trunk": {"part": "CGCNN", "_target_": "os.system"}, "x": calls}
    assert upgrades.upgraded(wrong, "model.yaml") == wrong | {"schema": upgrades.SCHEMA}
    assert upgrades.upgraded({"schema": 1, "head": calls}, "model.yaml")["head"]["part"] == "os.system"


@pytest.mark.parametrize("schema", [None, 0, -1, True, "2", 2.0, [1]])
def test_a_schema_that_never_was_is_refused(schema: Any) -> None:
    with pytest.raises(CheckpointError, match="which no version of tltool has written"):
        upgrades.upgraded({"schema": schema}, "model.yaml")


def test_a_newer_schema_asks_for_a_newer_tltool() -> None:
    newer = upgrades.SCHEMA + 1
    with pytest.raises(CheckpointError) as caught:
        upgrades.upgraded({"schema": newer}, "folder/model.yaml")
    assert str(caught.value) == (
        f"folder/model.yaml has schema {newer}, but this version of tltool reads schemas 1 to {upgrades.SCHEMA}; "
        "upgrade tltool."
    )
