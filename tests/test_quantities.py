import pytest

from tltool.errors import ConfigError
from tltool.quantities import QUANTITIES, Quantities, Quantity, quantity

MASS = Quantity("effective_mass", "m_e", "effective mass of the electron", 0, 100)


def test_a_table_finds_its_quantities_and_names_the_nearest() -> None:
    own = Quantities([QUANTITIES["gap"], MASS])
    assert list(own) == ["gap", "effective_mass"]
    assert own.named("effective_mass") == own["effective_mass"] == quantity("effective_mass", own) == MASS
    with pytest.raises(ConfigError, match=r"Unknown quantity 'efective_mass'.*Did you mean 'effective_mass'"):
        own.named("efective_mass")
    with pytest.raises(ConfigError, match="Unknown quantity 'effective_mass'"):
        quantity("effective_mass")
    assert own.get("volume") is None


def test_a_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        QUANTITIES["effective_mass"] = MASS  # type: ignore[index]
    table = [MASS]
    own = Quantities(table)
    table.clear()
    assert len(own) == 1
    assert "effective_mass" not in QUANTITIES


def test_two_quantities_of_one_name_are_an_error() -> None:
    with pytest.raises(ConfigError, match="two quantities called 'gap'"):
        Quantities([MASS, *QUANTITIES.values(), QUANTITIES["gap"]])


def test_what_is_a_logarithm_names_a_quantity_of_the_table() -> None:
    assert all(about.log10_of in QUANTITIES for about in QUANTITIES.values() if about.log10_of)
