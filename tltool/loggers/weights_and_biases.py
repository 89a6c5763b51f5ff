"""Tell Weights & Biases of a run; offline unless asked otherwise: files in the run folder, for ``wandb sync``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tltool.errors import ConfigError
from tltool.quantities import shipped


class WeightsAndBiases:
    """The logger: the config, a row for each epoch, and the test MAE in the summary.

    ``project`` is its name there; ``mode`` is ``offline`` (files in ``wandb`` in the run folder), ``online`` or
    ``disabled``. Raises ConfigError if the package is not installed.
    """

    def __init__(self, folder: Path, /, *, project: str, mode: str) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(
                "logger=wandb needs a package that is not installed; run pip install 'tltool[wandb]'."
            ) from error
        path = folder / "config.yaml"
        config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self._folder = folder
        self._run = wandb.init(project=project, mode=mode, dir=str(folder), name=folder.name, config=config)
        self._step = 0
        self._errors: dict[str, str] = {}
        self._units = {name: about.unit for name, about in shipped().items()}

    def log(self, event: Mapping[str, Any], /) -> None:
        """Add a row if ``event`` is an epoch."""
        if event.get("event") == "quantities":
            self._units |= event["units"]
            self._errors |= event.get("errors", {})
        if event.get("event") != "epoch":
            return
        self._step += 1
        errors = {self._header(name): error for name, error in event["val_MAE"].items()}
        row = {"epoch": event["epoch"], "train loss": event["train_loss"], "learning rate": event["learning_rate"]}
        self._run.log(row | errors, step=self._step)

    def _header(self, name: str) -> str:
        word = self._errors.get(name, "MAE")
        unit = self._units.get(name, "") if word == "MAE" else ""
        return f"val {word} {name} ({unit})".removesuffix(" ()")

    def close(self, state: str, /) -> None:
        """Add the test errors of a finished run to the summary, and end the run there."""
        path = self._folder / "metrics.json"
        if state == "finished" and path.is_file():
            for name, about in json.loads(path.read_text(encoding="utf-8")).get("quantities", {}).items():
                if "MAE" in about.get("test", {}):
                    self._run.summary[f"test MAE {name} ({about['unit']})"] = about["test"]["MAE"]
                if "Brier" in about.get("test", {}):
                    self._run.summary[f"test Brier {name}"] = about["test"]["Brier"]
        self._run.finish(exit_code=0 if state == "finished" else 1)
