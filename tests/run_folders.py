"""Run folders as the stages write them, without a run."""

import csv
import json


def make_run(folder, mode="finetune", seed=0, mae=0.1, size=100, *, state="finished", stage="transfer", **changes):
    """Write a run folder as the stages do; ``changes`` replace keys of metrics.json."""
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
    (folder / "metrics.json").write_text(json.dumps(metrics | changes))
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
