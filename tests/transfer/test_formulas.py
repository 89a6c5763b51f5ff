"""Formulas without structures: what a pretrained element embedding knows of them, and what is refused."""

import numpy as np
import pytest
import torch
from support import ROOT, a_fit, batches_of, config, fresh_model, graph_settings_of

from tltool import instantiate
from tltool.data import store
from tltool.data.batches import tensor_table
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.formats.formulas import composition
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal, formula
from tltool.errors import ConfigError, DataError
from tltool.evaluation.predictor import Predictor
from tltool.model.property_model import PropertyModel
from tltool.model.readouts.pool import pool_of_sites
from tltool.training.fit import predict
from tltool.training.saved_model import checkpoint

ENCODERS = sorted(p.stem for p in (ROOT / "configs" / "encoder").glob("*.yaml"))
MODES = sorted(p.stem for p in (ROOT / "configs" / "mode").glob("*.yaml"))
RIDGE, SET = ["mode=features"], ["mode=features", "mode/regressor=atom_set"]


def bare(records: store.Store, times: float = 1.0) -> Dataset:
    """Return the formulas of crystals, each written for ``times`` as many atoms."""
    made = []
    for row in range(len(records)):
        crystal = composition(formula(records.crystal(row).numbers), "")
        crystal = crystal._replace(amounts=times * crystal.amounts)
        made.append(records.record(row)._replace(crystal=crystal))
    found = store.gather(made, records.attributes)
    return Dataset(
        found, crystal_graphs.build((found.crystal(row) for row in range(len(found))), graph_settings_of("cgcnn"))
    )


@pytest.fixture(scope="module")
def formulas(part: Dataset) -> Batches:
    return batches_of(bare(part.store), train_size=40)


def run(source: PropertyModel, data: Batches, *overrides: str, **keys) -> PropertyModel:
    return instantiate.call(config("transfer", *overrides)["mode"], source, data, a_fit(**keys))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_formula_is_its_crystals_level_0(encoder: str, crystals: list[Crystal]) -> None:
    """The mean with atomic fractions as weights is the mean over the sites of a crystal of that formula."""
    model = fresh_model(encoder=encoder).eval()
    model.readout = pool_of_sites(model.encoder.dim, model.encoder.n_levels, levels=[0], statistics=["mean", "std"])
    assert not model.needs_structures
    texts = [composition(formula(c.numbers), "") for c in crystals]
    tables = [crystal_graphs.build(some, graph_settings_of(encoder)) for some in (crystals, texts)]
    assert len(tables[1].neighbour) == 0
    with torch.no_grad():
        of_crystals, of_formulas = (model.embed(tensor_table.table(t).select(torch.arange(len(t)))) for t in tables)
    assert float(of_crystals.std(0).mean()) > 1e-4
    torch.testing.assert_close(of_formulas, of_crystals, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("how", [RIDGE, SET], ids=["ridge", "set"])
def test_learning_from_formulas_is_learning_from_level_0(
    how: list[str], source: PropertyModel, part: Dataset, formulas: Batches, tmp_path
) -> None:
    of_crystals = run(source, batches_of(part, train_size=40), *how, "mode.level=0")
    of_formulas = run(source, formulas, *how)
    expected = predict(of_crystals, batches_of(part), "test")
    assert expected.std() > 1e-3
    np.testing.assert_allclose(predict(of_formulas, formulas, "test"), expected, atol=2e-5)
    # From the disk, of another way to write the formulas.
    of_formulas.spec |= {"quantities": {"e_form": {"unit": "eV/atom"}}}
    checkpoint.save(tmp_path / "model", of_formulas)
    other = batches_of(bare(part.store, 0.37), train_size=40)
    np.testing.assert_allclose(predict(checkpoint.load(tmp_path / "model"), other, "test"), expected, atol=2e-5)
    np.testing.assert_allclose(predict(run(source, other, *how), formulas, "test"), expected, atol=2e-5)


# What auto does with them is in test_auto.py: it passes over the modes that these are.
@pytest.mark.parametrize("mode", [m for m in MODES if m not in ("features", "auto")])
def test_what_needs_edges_refuses(mode: str, source: PropertyModel, formulas: Batches) -> None:
    before = {k: v.clone() for k, v in source.state_dict().items()}
    with pytest.raises(ConfigError, match=r"the data are formulas.*mode=features mode\.level=\[0\]\.$"):
        run(source, formulas, f"mode={mode}")
    assert all(torch.equal(v, before[k]) for k, v in source.state_dict().items())


@pytest.mark.parametrize("key", ["mode.level=1", "mode.level=[0,1]", "mode.level=-1", "mode.level=trunk"])
def test_a_level_that_needs_edges_refuses(key: str, source: PropertyModel, formulas: Batches) -> None:
    with pytest.raises(ConfigError, match=r"mode\.level=\[0\]"):
        run(source, formulas, *RIDGE, key)
    if key != "mode.level=trunk":
        with pytest.raises(ConfigError, match=r"mode\.level=\[0\]"):
            run(source, formulas, *SET, key)


def test_statistics_of_edges_are_not_to_be_had(source: PropertyModel, formulas: Batches) -> None:
    with pytest.raises(ConfigError, match="refit_statistics=true needs structures"):
        run(source, formulas, *RIDGE, "mode.refit_statistics=true")


def test_a_model_of_formulas_is_a_source_for_every_mode(source: PropertyModel, formulas: Batches) -> None:
    between = run(source, formulas, *SET)
    for mode in ("scratch", "finetune", "freeze"):
        model = run(between, formulas, f"mode={mode}", epochs=2)
        assert np.isfinite(predict(model, formulas, "test")).all()
        moved = not torch.equal(model.encoder.embedding.weight, source.encoder.embedding.weight)
        assert moved == (mode != "freeze")


def test_predictions_for_formulas_and_structures_side_by_side(
    source: PropertyModel, part: Dataset, formulas: Batches
) -> None:
    crystal = part.store.crystal(0)
    items = [("a", crystal), ("b", composition("Fe0.7Ni0.3", "b")), ("c", DataError("c: is bad."))]
    table = Predictor(source).table(items)
    assert list(table.status) == ["ok", "b: a formula has no structure, but this model needs one; give the structure.",
                                  "c: is bad."]  # fmt: skip
    model = run(source, formulas, *SET)
    table = Predictor(model).table(items).set_index("id")
    assert list(table.status) == ["ok", "ok", "c: is bad."]
    assert table.formula["b"] == "Fe7Ni3"
    alone = Predictor(model).table(items[1:2])
    assert alone.prediction[0] == pytest.approx(table.prediction["b"], abs=1e-6)
