"""What a row says besides its labels: weights, uncertainties and conditions, or why it is left out."""

from pathlib import Path

import pytest
from own_tables import CIF, records, settled

from tltool.data.formats.rows.further_columns import CRYSTAL, DEVIATION, WEIGHT
from tltool.data.record import Dropped, Record
from tltool.errors import ConfigError, DataError

TABLE = """file,kappa (W/mK),w,sigma (W/mK),temperature (K)
a.cif,1,2,0.5,300
a.cif,3,1,0.25,600
b.cif,4,0,0.5,300
c.cif,5,-1,0,300
d.cif,6,,x,
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in "abcd":
        (tmp_path / f"{name}.cif").write_text(CIF)
    return tmp_path


def tags(found: list[Record | Dropped], tag: str) -> dict[str, str]:
    return {item.id: item.tags.get(tag, "") for item in found if isinstance(item, Record)}


def lost(found: list[Record | Dropped]) -> dict[str, str]:
    return {item.id: item.reason for item in found if isinstance(item, Dropped)}


def test_rows_of_one_crystal_under_other_conditions_are_records_of_it(root: Path) -> None:
    target, said = settled(root, TABLE, quantities=["kappa"], conditions=["temperature"])
    found = records(target)
    assert tags(found, "temperature") == {"a@300": "300", "a@600": "600", "b@300": "300", "c@300": "300"}
    assert tags(found, CRYSTAL) == {"a@300": "a", "a@600": "a", "b@300": "b", "c@300": "c"}
    assert lost(found) == {"d": "no temperature"}
    assert target["data"]["adapter"]["conditions"] == {"temperature": "temperature (K)"}
    assert "conditions in column 'temperature (K)'" in said


def test_a_weight_and_an_uncertainty_are_numbers_that_can_be_such(root: Path) -> None:
    keys = {"quantities": ["kappa"], "conditions": ["temperature"], "adapter": {}}
    target, said = settled(root, TABLE.replace("d.cif,6,,x,", "d.cif,6,,x,9"), weight="w", **keys)
    found = records(target)
    assert tags(found, WEIGHT) == {"a@300": "2", "a@600": "1", "b@300": "0"}
    assert lost(found) == {"c": "its weight is below zero", "d": "no weight"}
    assert "rows count by column 'w'" in said
    target, said = settled(root, TABLE.replace("d.cif,6,,x,", "d.cif,6,,x,9"), uncertainty="sigma", **keys)
    found = records(target)
    assert tags(found, DEVIATION) == {"a@300": "0.5", "a@600": "0.25", "b@300": "0.5"}
    assert lost(found) == {"c": "its uncertainty is zero", "d": "its uncertainty is not a number"}


def test_columns_that_contradict_each_other_are_an_error(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"weight=w and target\.data\.uncertainty=sigma both say"):
        settled(root, TABLE, quantities=["kappa"], weight="w", uncertainty="sigma")
    with pytest.raises(DataError, match="has no column 'pressure'"):
        settled(root, TABLE, quantities=["kappa"], conditions=["pressure"])


def test_without_a_word_about_conditions_an_id_may_not_occur_twice(root: Path) -> None:
    target, _ = settled(root, TABLE, quantities=["kappa"])
    with pytest.raises(DataError, match="the id 'a' occurs twice; keep one row of it"):
        records(target)
    twice = TABLE + "a.cif,7,1,1,300\n"
    target, _ = settled(root, twice, quantities=["kappa"], conditions=["temperature"])
    with pytest.raises(DataError, match=r"the id 'a' occurs twice under the same conditions \(300\)"):
        records(target)
