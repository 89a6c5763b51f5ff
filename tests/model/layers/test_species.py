import numpy as np
import pytest
import torch

from tltool.elements import matscholar, number_of
from tltool.errors import ConfigError
from tltool.model.layers.species import Species, table


def test_word_vectors_have_length_one_and_alike_elements_are_near() -> None:
    vectors = matscholar()
    assert vectors.shape == (119, 200)
    assert not vectors[0].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[1:104], axis=1), 1.0, atol=1e-5)
    li, na, cl = (vectors[number_of(symbol)] for symbol in ("Li", "Na", "Cl"))
    assert li @ na > na @ cl
    # Iron in the file that Roost and CGAT ship.
    np.testing.assert_allclose(vectors[26, :3], [-0.0080128, 0.0488475, 0.0381071], atol=1e-6)


@pytest.mark.parametrize("elements", ["descriptors", "learned", "matscholar"])
def test_every_table_begins_with_vectors_of_unit_standard_deviation(elements: str) -> None:
    torch.manual_seed(0)
    species = Species(256, elements)
    assert table(elements).shape[0] == 119
    assert float(species(torch.arange(1, 100)).detach().std()) == pytest.approx(1.0, abs=0.2)


def test_another_table_is_refused() -> None:
    with pytest.raises(ConfigError, match="descriptors, learned or matscholar"):
        table("magpie")


@pytest.mark.parametrize("elements", ["descriptors", "matscholar"])
def test_a_model_that_is_changed_changes_no_other(elements: str) -> None:
    first = Species(4, elements)
    before = first.table.clone()
    first.table.mul_(2)
    assert torch.equal(Species(4, elements).table, before)
