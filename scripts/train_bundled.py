"""Train the models that ship with tltool and put them into tltool/bundled_models: python scripts/train_bundled.py FILE.

FILE is the table of configs/data/mp36k.yaml. Each model is one ``tltool pretrain`` with the settings below; a training
that was broken off goes on, and one that has finished under --runs is packed again and not trained again. A packed
model is the model folder of that run without the places of files on this machine, with reference predictions for a few
bundled crystals (``tltool/evaluation/reference_predictions.py``) and a model card, README.md.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tltool.data import store
from tltool.data.download.locate import BUNDLED
from tltool.data.record import Crystal
from tltool.errors import CheckpointError
from tltool.evaluation import reference_predictions
from tltool.run_folder import bundled_models
from tltool.run_folder.find import newest
from tltool.training.saved_model import checkpoint

SHARED = ["data=mp36k", "quantities=[e_form,gap]", "split.val=0.05", "split.test=0.05", "seed=0", "threads=1"]
MODELS = {
    "cgcnn": ["encoder=cgcnn", "fit.epochs=200", "fit.batch_size=128"],
    "megnet": ["encoder=megnet", "fit.epochs=120", "fit.batch_size=128"],
}
"""Name of each model: what its training overrides."""

ADDRESS = "https://materialsproject.org"
_REFERENCES = 6
_MOST_SITES = 12


def pretrain(name: str, table: Path, runs: Path, more: Sequence[str]) -> Path:
    """Return the run folder of the finished training of ``name``, which goes on or begins if there is none."""
    place = runs / name
    try:
        return newest(place, "pretrain")
    except CheckpointError:
        words = [*MODELS[name], *SHARED, f"data.root={table}", "keep_every=1", "resume=latest", f"runs={place}", *more]
        subprocess.run([sys.executable, "-m", "tltool", "pretrain", *words], check=True)
        return newest(place, "pretrain")


def references() -> list[tuple[str, Crystal]]:
    """Return small crystals of the bundled formation energies, evenly over the file, each with its id."""
    records = store.load(BUNDLED / "demo.h5")
    step = len(records) // _REFERENCES
    found = []
    for first in range(0, step * _REFERENCES, step):
        row = next(row for row in range(first, first + step) if len(records.crystal(row).numbers) <= _MOST_SITES)
        found.append((records.ids[row], records.crystal(row)))
    return found


def pack(run: Path, target: Path, card: str) -> None:
    """Write the model of ``run`` to ``target``, in place of what is there."""
    model = checkpoint.load(run / "model")
    for step in model.spec["provenance"]:
        step.pop("prepared", None)  # a folder of this machine
        step["address"] = ADDRESS
    shutil.rmtree(target, ignore_errors=True)
    checkpoint.save(target, model)
    content = reference_predictions.content(model, references())
    file = target / reference_predictions.NAME
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    sums = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    sums[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    (target / "manifest.json").write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
    (target / "README.md").write_text(card, encoding="utf-8")
    for file in target.iterdir():
        file.chmod(0o644)


def card(name: str, run: Path) -> str:
    """Return the model card of the model ``name`` that ``run`` trained."""
    metrics = _json(run / "metrics.json")
    facts = _json(run / "environment.json")
    rows = [_row(quantity, found) for quantity, found in metrics["quantities"].items()]
    fit, optimiser = metrics["settings"]["fit"], metrics["settings"]["optimiser"]
    words = " ".join(["tltool pretrain", "data.root=FILE", *SHARED, *MODELS[name]])
    return "\n".join(
        [
            f"# bundled/{name}",
            "",
            f"A backbone for `tltool transfer source=bundled/{name}`, and a model of formation energies and PBE gaps.",
            "",
            f"- Data: {metrics['train_size']:,} crystals of the Materials Project for training (PBE and PBE+U), "
            "5 % of the crystals each for validation and test. The gap is known of most of them.",
            "- Licence of the data: CC BY 4.0 (Materials Project). The weights have the licence of tltool and, as the "
            "data's licence asks, name the source.",
            "- Citation: A. Jain and others, The Materials Project, APL Materials 1, 011002 (2013), "
            "doi:10.1063/1.4812323.",
            f"- Training: `{words}`; {fit['epochs']} epochs, batch {fit['batch_size']}, {fit['loss']} loss, "
            f"{optimiser['_target_'].rpartition('.')[2]}, learning rate {optimiser['lr']:g}, {fit['schedule']}.",
            f"- Size: {metrics['trainable_parameters']:,} parameters.",
            f"- Time: {_seconds(run.parent):,.0f} seconds for the epochs, on {facts['device']} (kernels "
            f"{facts['kernels']}) with other programs beside; PyTorch {facts['packages']['torch']}.",
            "",
            "| quantity | unit | test crystals | MAE | RMSE | MAD (always the mean) |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "Errors are on the test crystals, which no training saw. `seen.safetensors` is the index of the training "
            "and validation crystals for the overlap audit (17 bytes each), `reference.json` holds predictions for "
            f"{_REFERENCES} crystals that are compared whenever the model is loaded.",
            "",
            "Made by `scripts/train_bundled.py`; docs/bundled_models.md compares transfers from it with scratch.",
            "",
        ]
    )


def _row(quantity: str, found: Mapping[str, Any]) -> str:
    test = found["test"]
    figures = f"{test['MAE']:.4f} | {test['RMSE']:.4f} | {test['MAD']:.3f}"
    return f"| {quantity} | {found['unit']} | {test['n']:,} | {figures} |"


def _seconds(runs: Path) -> float:
    """Return the seconds of all epochs under ``runs``, where a training that was broken off goes on in a new folder."""
    spent: dict[int, float] = {}
    for log in sorted(runs.glob("*/log.jsonl")):
        for line in log.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            if event["event"] == "epoch":
                spent[event["epoch"]] = event["seconds"]
    return sum(spent.values())


def _json(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Train and pack the models that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("table", type=Path, help="the file of configs/data/mp36k.yaml")
    parser.add_argument("more", nargs="*", help="overrides that change no weight, such as cache=DIR")
    parser.add_argument("--only", nargs="+", choices=sorted(MODELS), default=sorted(MODELS), help="models [all]")
    parser.add_argument("--runs", type=Path, default=Path("runs/bundled"), help="where runs are kept [%(default)s]")
    parser.add_argument("--out", type=Path, default=bundled_models.FOLDER, help="where models go [%(default)s]")
    given = parser.parse_args(argv)
    for name in given.only:
        run = pretrain(name, given.table, given.runs, given.more)
        pack(run, given.out / name, card(name, run))
        size = sum(file.stat().st_size for file in (given.out / name).iterdir())
        print(f"{given.out / name}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
