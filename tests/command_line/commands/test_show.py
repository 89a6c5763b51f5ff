"""``tltool show``: what each data set, target, encoder, mode and quantity is."""

from pathlib import Path

import pytest
from commands import run

from tltool.command_line import config_files
from tltool.command_line.commands.show import KINDS, show
from tltool.errors import ConfigError
from tltool.quantities import shipped

NAMES = [(kind, name) for kind in KINDS for name in config_files.names(kind, config_files.roots()) or shipped()]


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_everything_is_shown_with_the_command_that_uses_it(kind: str, name: str) -> None:
    first, second, *_, last = (text := show([kind, name])).splitlines()
    assert first == name
    assert len(second) > 15
    assert "  use       tltool " in text
    assert "tltool" in last
    if kind == "data" and "your own" not in text:
        assert "  source    " in text
        assert "  licence   " in text
    if kind == "data" and name != "devi_seven" and "your own" not in text:
        assert any(f"({one.unit})" in text for one in shipped().values())
    assert not [line for line in text.splitlines() if len(line) > 100 and " tltool " not in line]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_a_list_with_a_line_each(kind: str) -> None:
    lines = show([kind]).splitlines()
    assert [line.split()[0] for line in lines] == [name for of, name in NAMES if of == kind]
    assert max(map(len, lines)) <= 100
    assert all(len(line.split()) > 1 for line in lines)


def test_a_target_tells_of_its_data_and_unit() -> None:
    text = show(["target", "bulk_modulus"])
    assert "log10_K_VRH: log10 of the bulk modulus (log10(GPa))" in text
    assert "  data      elastic" in text
    assert "CC BY 4.0 (Materials Project)" in text
    assert "de Jong" in text
    assert "  use       tltool transfer target=bulk_modulus" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "the kind is one of data, target, encoder, mode, quantity."),
        (["dta", "x"], "Did you mean 'data'?"),
        (["data", "elastc"], "There is no data 'elastc'. Did you mean 'elastic'? tltool show data shows all names."),
        (["quantity", "bulk"], "tltool show quantity shows all names."),
    ],
)
def test_what_is_not_there_is_one_sentence(words: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        show(words)
    assert says in str(error.value)
    assert run(tmp_path, "show", *words, code=2).stderr == f"tltool: {error.value}\n"
