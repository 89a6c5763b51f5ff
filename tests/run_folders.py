"""Run folders as the stages write them, without a run."""

import csv
import json

SPLITS = {
    "random": {"_target_": "tltool.data.splits.random", "val": 0.1, "test": 0.1},
    "prototype": {"_target_": "tltool.data.splits.by_hash", "group": "prototype", "val": 0.1, "test": 0.1},
    "ids": {"_target_": "tltool.data.splits.by_ids"},
}


def identity_of(metrics, **changes):
    """Return what the errors in ``metrics`` rest on: rows follow from the split's numbers; ``changes`` replace keys."""
    drawn = [metrics.get(key) for key in ("split_seed", "draw", "fold", "target")]
    split = changes.pop("split", "random")
    node = SPLITS[split] | ({"file": changes.pop("file")} if split == "ids" else {"seed": drawn[0], "draw": drawn[1]})
    rows = f"{split} {drawn} {node.get('file')} {changes.get('data')}"
    node |= {} if split == "ids" else {"train_size": metrics["train_size"]}
    left_out = changes.pop("left_out", None)
    if isinstance(changes.get("data"), str):
        changes["data"] = dict.fromkeys(metrics["quantities"], changes["data"])
    return {
        "schema": 1,
        "data": dict.fromkeys(metrics["quantities"], f"content of {metrics['data']}"),
        "file": "",
        "quantities": {name: block.get("unit") for name, block in metrics["quantities"].items()},
        "base": None,
        "base_name": "",
        "train": f"train {rows} {metrics['train_size']}",
        "val": f"val {rows}",
        "test": dict.fromkeys(metrics["quantities"], f"test {rows} {left_out}"),
        "split": node,
        "overlap": {"rule": "report" if left_out is None else "drop_test", "left_out": left_out or 0},
        "shape": "shape",
    } | changes


def make_run(
    folder,
    mode="finetune",
    seed=0,
    mae=0.1,
    size=100,
    *,
    state="finished",
    stage="transfer",
    identity=(),
    command="",
    **changes,
):
    """Write a run folder as the stages do; ``changes`` replace keys of metrics.json, ``identity`` those under that key.

    With ``identity=None`` it is one of a version that kept no such record.
    """
    folder.mkdir(parents=True)
    status = {"stage": stage, "state": state, "code": 0, "started": "2026-01-01T00:00:00", "message": ""}
    (folder / "status.json").write_text(json.dumps(status))
    test = {"n": 4, "MAE": mae, "RMSE": 1.5 * mae, "R2": 0.9, "MAD": 0.25, "MAE/MAD": 4 * mae, "MAE_K_VRH": 100 * mae}
    metrics = {
        "stage": stage,
        "mode": mode,
        "target": "bulk_modulus",
        "data": "elastic",
        "seed": seed,
        "split_seed": 0,
        "train_size": size,
        "source": None if mode == "scratch" else "runs/pretrain/model",
        "model": str(folder / "model"),
        "trainable_parameters": 12345,
        "seconds": 4.2,
        "quantities": {"log10_K_VRH": {"unit": "log10(GPa)", "train": {"n": size}, "val": {"n": 0}, "test": test}},
    }
    if stage != "transfer":
        del metrics["mode"]
    metrics |= changes
    if identity is not None and metrics["quantities"]:
        metrics = {"identity": identity_of(metrics, **dict(identity))} | metrics
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "environment.json").write_text(json.dumps({"command": command}))
    rows = [
        ("a<1>", "test", 1.0, 1.0 + mae, "TiO2", "O Ti", ""),
        ("b", "test", 2.0, 2.0 - mae, "NaN", "N Na", "Na"),
        ("c", "test", "", 2.0, "Fe", "Fe", ""),
        ("d", "train", 1.0, 9.0, "Cu", "Cu", ""),
    ]
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        header = ["id", "split", "quantity", "label", "prediction", "unit", "formula", "elements", "unseen_elements"]
        writer.writerow(header)
        for name, split, label, prediction, formula, symbols, unseen in rows:
            writer.writerow([name, split, "log10_K_VRH", label, prediction, "log10(GPa)", formula, symbols, unseen])
    epochs = [
        {"event": "epoch", "epoch": n, "train_loss": 1 / n, "val_MAE": {"log10_K_VRH": mae + 1 / n}, "seconds": 0.1}
        for n in range(1, 6)
    ]
    lines = [{"event": "load_report", "loaded": 3}, *(epochs if stage != "eval" else [])]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"event": "epo')
    return folder


def make_three_seeds(folder):
    """Write three runs from scratch and three of finetune, which is better with each seed; return ``folder``."""
    for seed, (scratch, finetune) in enumerate([(0.20, 0.10), (0.24, 0.12), (0.22, 0.14)]):
        make_run(folder / f"s{seed}", "scratch", seed, scratch)
        make_run(folder / f"f{seed}", "finetune", seed, finetune)
    return folder
