"""Write event files for TensorBoard in the run folder; nothing is sent anywhere."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tltool.errors import ConfigError
from tltool.quantities import shipped


class TensorBoard:
    """The logger: loss, learning rate and the validation MAE of each quantity, a step an epoch, and the test MAE.

    ``file`` is the folder in the run folder. A mode that fits several times one after another goes on counting epochs.
    Raises ConfigError if the package is not installed.
    """

    def __init__(self, folder: Path, /, *, file: str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "logger=tensorboard needs a package that is not installed; run pip install 'tltool[tensorboard]'."
            ) from error
        self._folder = folder
        self._writer = SummaryWriter(str(folder / file))
        self._step = 0
        self._errors: dict[str, str] = {}
        self._units = {name: about.unit for name, about in shipped().items()}

    def log(self, event: Mapping[str, Any], /) -> None:
        """Add a step if ``event`` is an epoch, a text if it is a sentence."""
        if event.get("event") == "say":
            self._writer.add_text("news", str(event["text"]), self._step)
        if event.get("event") == "quantities":
            self._units |= event["units"]
            self._errors |= event.get("errors", {})
        if event.get("event") != "epoch":
            return
        self._step += 1
        self._add("train loss", event["train_loss"])
        self._add("learning rate", event["learning_rate"])
        for name, error in event["val_MAE"].items():
            word = self._errors.get(name, "MAE")
            unit = self._units.get(name, "") if word == "MAE" else ""
            self._add(f"val {word}/{name} ({unit})".removesuffix(" ()"), error)

    def close(self, state: str, /) -> None:
        """Add the test errors of a finished run, and close the files."""
        path = self._folder / "metrics.json"
        if state == "finished" and path.is_file():
            found = json.loads(path.read_text(encoding="utf-8")).get("quantities", {})
            for name, about in found.items():
                if "MAE" in about.get("test", {}):
                    self._add(f"test MAE/{name} ({about['unit']})", about["test"]["MAE"])
                if "Brier" in about.get("test", {}):
                    self._add(f"test Brier/{name}", about["test"]["Brier"])
        self._writer.close()

    def _add(self, name: str, value: float) -> None:
        self._writer.add_scalar(name, value, self._step)
