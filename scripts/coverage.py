"""How many labels do intervals hold? Draws of training rows of several targets, each with its own test rows.

For every target, size and draw: the out-of-fold scores of one cross-validation (5 folds, one repeat), a model of all
training rows, its intervals on test rows that took no part, and the share of labels inside. Beside it the same for
intervals from a tenth as many validation rows. Prints a line a target, size and mode, and writes them as JSON.

    python scripts/coverage.py --source runs/pretrain/X bulk_modulus matbench_phonons=FILE --out coverage.json
"""

import argparse
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from tltool import instantiate
from tltool.data.batches import batches
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.split_folds import Fold, Folds, cross_validation
from tltool.data.splits import Split
from tltool.errors import TltoolError
from tltool.evaluation import uncertainty
from tltool.evaluation.cross_validation.fits import Mode, Study
from tltool.evaluation.cross_validation.outcome import Outcome, fold_data
from tltool.evaluation.cross_validation.summary import remembered
from tltool.model.property_model import PropertyModel
from tltool.quantities import quantity
from tltool.run_folder.find import model_folder
from tltool.training import setup
from tltool.training.backend import CPU
from tltool.training.fit import Fit, predict
from tltool.training.saved_model import checkpoint

MODES = {
    "ridge": ["mode=features"],
    "gaussian_process": [
        "mode=features", "mode/regressor=gaussian_process", "mode.level=[]",
        "mode.extra_features=[elements,geometry]",
    ],
}  # fmt: skip
"""The same regressors that ``mode=auto`` tries first; ``gaussian_process`` gives a standard deviation of its own."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="+", help="names of targets, NAME=FILE for one whose data are in a file")
    parser.add_argument("--source", required=True, help="a pretrained model or its run folder")
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 500])
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--test", type=int, default=300, help="test rows of a draw")
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--out", type=Path, default=Path("coverage.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines: list[dict[str, Any]] = []
    for word in options.targets:
        for line in measured(word, options):
            lines.append(line)
            print(told(line), flush=True)
            options.out.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")


def measured(word: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a line of the table for each size and mode of a target."""
    name, _, file = word.partition("=")
    words = [f"target={name}", *([f"target.data.root={file}"] if file else [])]
    config = configured(words)
    path = model_folder(options.source, Path("runs"), "pretrain")
    source = checkpoint.load(path)
    dataset = setup.data_set(
        config, config["target"]["data"], checkpoint.graph_settings(source.spec), lambda text: None
    )
    quantities = list(config["target"]["quantities"])
    for size in options.sizes:
        for mode in options.modes:
            called = configured([*words, *MODES[mode]])
            function = instantiate.bound(called["mode"], (), "mode")
            began = time.perf_counter()
            shares = [
                share
                for draw in range(options.draws)
                if (share := one_draw(source, dataset, quantities, function, called, size, draw, options))
            ]
            if shares:
                facts = {"target": name, "quantity": quantities[0], "size": size, "mode": mode, "draws": len(shares)}
                yield facts | summed(shares) | {"seconds": time.perf_counter() - began}


def configured(words: Sequence[str]) -> dict[str, Any]:
    """Return the config of a transfer with ``words``."""
    os.environ.setdefault("TLTOOL_RUN_ID", "coverage")
    with initialize_config_module("tltool.configs", version_base="1.3"):
        composed = compose("transfer", overrides=list(words), return_hydra_config=False)
        OmegaConf.resolve(composed)
        found: Any = OmegaConf.to_container(composed)
        return dict(found)


def one_draw(
    source: PropertyModel,
    dataset: Dataset,
    quantities: list[str],
    mode: Mode,
    config: Mapping[str, Any],
    size: int,
    draw: int,
    options: argparse.Namespace,
) -> dict[str, float] | None:
    """Return the share of test labels inside their intervals for one draw; None if there are too few rows."""
    labels = dataset.store.label(quantities[0])
    rows = np.random.default_rng([draw, 0]).permutation(np.flatnonzero(np.isfinite(labels)))
    if len(rows) < size + min(options.test, 100):
        return None
    train, test = rows[:size], rows[size : size + options.test]
    some = np.full(len(labels), np.nan)
    some[train] = labels[train]
    folds: Folds = cross_validation(
        dataset.store, some, folds=5, repeats=1, group=None, seed=draw, val=0.0, compare="none"
    )
    whole = Split(train, train[:0], test)
    data = batches.batches(dataset, quantities[:1], whole)
    settings = instantiate.call(config["fit"], place="fit")
    fit = Fit(settings, no_optimiser, 0.0, draw, lambda event: None, backend=CPU)
    study = Study(source, data, dataset, fit, {"features": mode}, {})
    try:
        outcomes = [outcome_of(study, mode, fold) for fold in folds.parts]
        model = mode(source, data, fit)
    except (TltoolError, ValueError, np.linalg.LinAlgError):
        return None
    model.uncertainty = remembered(model, study, outcomes)
    found = share_of(model, data, labels[test], options.coverage)
    n_val = max(size // 10, 1)
    held = Split(train[n_val:], train[:n_val], test)
    split_data = fold_data(data, held)
    other = mode(source, split_data, fit)
    other.uncertainty = uncertainty.of_validation(other, split_data)
    return {f"oof_{k}": v for k, v in found.items()} | {
        f"val_{k}": v for k, v in share_of(other, split_data, labels[test], options.coverage).items()
    }


def outcome_of(study: Study, mode: Mode, fold: Fold) -> Outcome:
    """Return what ``mode`` predicts out of ``fold``."""
    data = fold_data(study.data, fold.split)
    model = mode(study.source, data, study.fit)
    scale = uncertainty.scale_of(model, data, "test")
    far = np.zeros(len(fold.split.test), dtype=bool)
    return Outcome("features", fold, predict(model, data, "test"), scale, far, 0.0)


def share_of(model: PropertyModel, data: Batches, label: Any, coverage: float) -> dict[str, float]:
    """Return the share of labels inside, half the median width, and the shares of rows that are near and far."""
    prediction = predict(model, data, "test")
    found = uncertainty.bounds_of(model, data, "test", prediction, coverage)
    if not np.isfinite(found.lower).any():
        return {}
    inside = (found.lower[:, 0] <= label) & (label <= found.upper[:, 0])
    facts = {"covered": float(inside.mean()), "half": float(np.median(found.upper - found.lower) / 2)}
    facts |= {"far": float(found.far.mean())}
    return facts | ({"covered_far": float(inside[found.far].mean())} if found.far.any() else {})


def summed(shares: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return mean and standard deviation over draws of everything that was measured."""
    keys = list(dict.fromkeys(key for share in shares for key in share))
    found: dict[str, Any] = {}
    for key in keys:
        values = [share[key] for share in shares if key in share]
        found[key] = float(np.mean(values))
        found[f"{key}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return found


def told(line: Mapping[str, Any]) -> str:
    """Return one line of the table."""
    unit = quantity(line["quantity"]).unit
    return (
        f"{line['target']:<20} {line['size']:>4} {line['mode']:<17} {line['draws']:>3} draws  out-of-fold "
        f"{line.get('oof_covered', np.nan):.1%} ± {line.get('oof_covered_sd', np.nan):.1%}  half width "
        f"{line.get('oof_half', np.nan):.3g} {unit}  validation {line.get('val_covered', np.nan):.1%} ± "
        f"{line.get('val_covered_sd', np.nan):.1%}  far {line.get('oof_far', np.nan):.0%} "
        f"({line.get('oof_covered_far', np.nan):.0%} held)  {line['seconds']:.0f} s"
    )


def no_optimiser(groups: list[dict[str, Any]]) -> Any:
    """Raise, as these modes train nothing by steps."""
    raise TltoolError("This mode trains by steps, which this script does not measure.")


if __name__ == "__main__":
    main()
