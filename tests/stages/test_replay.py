"""Rows of the source in fine-tuning, as a user meets them: what is replayed, what is left out, said and written."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from commands import run

from tltool.data import dataset
from tltool.evaluation.replay import source_rows
from tltool.training.saved_model import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]

SHORT = ["fit.epochs=1", "fit.batch_size=256"]
TRANSFER = ["transfer", "target=bulk_modulus", "split.train_size=60", "fit.epochs=1", "source=source"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source model of the bundled formation energies."""
    folder = tmp_path_factory.mktemp("replay")
    run(folder, "pretrain", *SHORT, "split.train_size=500", "hydra.run.dir=source")
    return folder


def test_test_crystals_are_not_replayed_and_the_error_of_the_source_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    of_source = source_rows.of_source
    monkeypatch.setattr(source_rows, "of_source", lambda *words: given.append(of_source(*words)) or given[-1])
    done = run(home, *TRANSFER, "mode.replay=0.5", "hydra.run.dir=replayed")
    ((data, left_out),) = given
    facts = json.loads((home / "replayed" / "metrics.json").read_text())["replay"]
    trained = pd.read_csv(home / "source" / "split.csv").query("split == 'train'")
    held_out = pd.read_csv(home / "replayed" / "split.csv").query("split != 'train'")
    place = checkpoint.read_spec(home / "source" / "model")["provenance"][-1]["prepared"]
    records = dataset.at_hand(Path(place)).store
    replayed = {records.ids[row] for row in data.split["train"].tolist()}
    shared = set(trained.id) & set(held_out.id)
    assert len(shared) > 1
    assert not replayed & set(held_out.id)
    assert replayed < set(trained.id)
    assert len(trained) - len(replayed) == left_out == facts["left_out"] >= len(shared)
    assert facts["rows"] == len(replayed)
    assert facts["weight"] == 0.5
    errors = facts["quantities"]["e_form"]
    assert errors["unit"] == "eV/atom"
    assert errors["before"]["test"] > 0
    assert errors["after"]["val"] > 0
    said = done.stderr.replace("\n", " ")
    assert f"Replaying {len(replayed):,} training rows of the source (demo); {left_out:,} more are left out" in said
    told = f"{errors['before']['test']:.4g} eV/atom before this transfer, {errors['after']['test']:.4g} eV/atom after."
    assert f"of its test rows (mode.replay=0.5): e_form MAE {told}" in said
    # What was the error before is what the pretraining found on its test rows.
    own = json.loads((home / "source" / "metrics.json").read_text())["quantities"]["e_form"]["test"]["MAE"]
    assert errors["before"]["test"] == pytest.approx(own, rel=1e-4)
    # The model that is kept is a model of the target alone, which can be a source again.
    assert list(checkpoint.load(home / "replayed" / "model").heads) == ["log10_K_VRH"]
    words = [*TRANSFER[:-1], "source=replayed", "mode.replay=1", "mode.head=keep"]
    again = run(home, *words, "hydra.run.dir=again")
    assert "training rows of the source (elastic)" in again.stderr.replace("\n", " ")
    assert "Replaying" not in run(home, *TRANSFER, "hydra.run.dir=plain").stderr
    assert "replay" not in json.loads((home / "plain" / "metrics.json").read_text())


def test_candidates_and_folds_replay_too(home: Path) -> None:
    words = [word for word in TRANSFER if not word.startswith("split.")]
    words += ["split=cv", "split.folds=2", "split.repeats=1", "split.compare=none"]
    done = run(home, *words, "mode.replay=1", "hydra.run.dir=folds")
    trained = pd.read_csv(home / "source" / "split.csv").query("split == 'train'")
    shared = set(trained.id) & set(pd.read_csv(home / "folds" / "folds.csv").id)
    assert json.loads((home / "folds" / "metrics.json").read_text())["replay"]["left_out"] >= len(shared) > 10
    assert "Replaying" in done.stderr
    only = ["~mode.candidates." + name for name in ("labels", "descriptors", "process", "levels", "level_1")]
    only += ["~mode.candidates." + name for name in ("corrected", "ridge", "kernel_ridge", "scratch", "gentle")]
    keys = ["mode=auto", *only, "mode.folds=2"]
    run(home, *TRANSFER, *keys, "mode.candidates.finetune.replay=1", "hydra.run.dir=auto")
    assert json.loads((home / "auto" / "metrics.json").read_text())["replay"]["weight"] == 1.0


def test_what_is_missing_is_said_with_the_next_step(home: Path) -> None:
    words = [*TRANSFER[:-1], "mode.replay=1"]
    done = run(home, *words, "source=bundled", code=3)
    assert "bundled/cgcnn was trained on, and they did not come with the model; train a source of your own" in (
        done.stderr.replace("\n", " ")
    )
    shutil.copytree(home / "source", home / "bare")
    (home / "bare" / "split.csv").unlink()
    done = run(home, *words, "source=bare", code=3)
    assert "split.csv, which says them, cannot be read (FileNotFoundError)" in done.stderr.replace("\n", " ")
    (home / "bare" / "split.csv").write_text("id,split\nnobody,train\n")
    done = run(home, *words, "source=bare", code=3)
    assert "names 1 crystals that the prepared records no longer have" in done.stderr.replace("\n", " ")
    model = checkpoint.load(home / "source" / "model")
    model.spec["provenance"][-1]["prepared"] = str(home / "gone")
    shutil.copytree(home / "source", home / "without", ignore=shutil.ignore_patterns("model"))
    checkpoint.save(home / "without" / "model", model)
    done = run(home, *words, "source=without", code=3)
    assert "prepare them again with tltool prepare and the keys of that run, or use mode.replay=0." in (
        done.stderr.replace("\n", " ")
    )
