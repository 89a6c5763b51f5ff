from pathlib import Path

import numpy as np
import pytest
import torch

import tltool
from tltool.data.record import Crystal
from tltool.errors import ConfigError
from tltool.model import message_passing
from tltool.model.property_model import PropertyModel
from tltool.training.saved_model import checkpoint


@pytest.fixture(scope="module")
def folder(source: PropertyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("embedding") / "model"
    checkpoint.save(path, source)
    return path


def test_a_level_is_the_mean_over_sites(folder: Path, source: PropertyModel, crystals: list[Crystal]) -> None:
    frame = tltool.embed(crystals[:5], 1, folder, kernels="torch")
    assert list(frame.columns) == [f"1_{n}" for n in range(source.encoder.dim)]
    graph = tltool.load_model(folder, kernels="torch").graph(crystals[:5])
    with torch.no_grad():
        expected = message_passing.crystal_mean(graph, source.levels(graph)[1])
    assert np.allclose(frame, expected, atol=1e-6)


@pytest.mark.parametrize("level", ["embedding", "trunk"])
def test_levels_of_the_model_itself(level: str, folder: Path, source: PropertyModel, crystals: list[Crystal]) -> None:
    frame = tltool.embed(crystals[:5], level, folder, kernels="torch")
    with torch.no_grad():
        expected = source.embed(tltool.load_model(folder, kernels="torch").graph(crystals[:5]))
        expected = source.trunk(expected) if level == "trunk" else expected
    assert np.allclose(frame, expected, atol=1e-6)


def test_rows_do_not_depend_on_each_other(folder: Path, crystals: list[Crystal]) -> None:
    whole = tltool.embed(crystals[:5], 1, folder, kernels="torch")
    with pytest.warns(UserWarning, match="1 of 4 structures have no features; the first: structure 1"):
        some = tltool.embed([crystals[0], "no.cif", *crystals[3:5]], 1, folder, kernels="torch")
    assert np.isnan(some.iloc[1]).all()
    assert list(some.attrs["reasons"]) == [1]
    assert np.allclose(some.iloc[[0, 2, 3]], whole.iloc[[0, 3, 4]], atol=1e-5)


def test_formulas_have_the_level_of_the_elements_alone(folder: Path) -> None:
    salt, rust = tltool.embed(["NaCl", "Fe2O3"], 0, folder, kernels="torch").to_numpy()
    assert np.isfinite(salt).all()
    assert not np.allclose(salt, rust)
    with pytest.warns(UserWarning, match="is a formula, and level=1 needs a structure"):
        assert np.isnan(tltool.embed(["NaCl"], 1, folder, kernels="torch").to_numpy()).all()


@pytest.mark.parametrize("level", [17, "last"])
def test_a_level_that_is_not_there(level: int | str, folder: Path, crystals: list[Crystal]) -> None:
    with pytest.raises(ConfigError, match="level"):
        tltool.embed(crystals[:1], level, folder, kernels="torch")
