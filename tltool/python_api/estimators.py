"""Offer a transfer as an estimator of scikit-learn: ``fit`` on structures and labels, ``predict`` for structures.

Structures are what ``Predictor.predict`` takes: of pymatgen, of ASE, paths of files, formulas, dictionaries. A list of
them goes through ``clone``, ``cross_val_score`` and ``GridSearchCV``; a NumPy array does not, as NumPy takes a
structure for a sequence of sites.
"""

import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from tltool import instantiate
from tltool.command_line import launch
from tltool.data.batches import batches
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.formats import python_objects
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal, Floats, Record
from tltool.data.splits import Split
from tltool.data.store import gather
from tltool.errors import ConfigError, DataError
from tltool.evaluation import reference_predictions
from tltool.evaluation.predictor import Predictor
from tltool.model.property_model import PropertyModel
from tltool.run_folder.find import source_folder
from tltool.training import backend as backends
from tltool.training import setup
from tltool.training.saved_model import checkpoint

if TYPE_CHECKING:
    from tltool.training.backend import Backend


class TransferRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Transfer the pretrained model ``source`` to labels of one quantity.

    ``source`` is as of ``tltool transfer``, such as ``bundled``; ``mode`` is one of the command line's, with its
    defaults, which ``overrides`` change as on the command line, such as
    ``["fit.epochs=50", "mode/regressor=gaussian_process"]``. ``quantity`` is what the labels are (docs/quantities.md).
    ``validation`` is the fraction of the rows given to ``fit`` that are not trained on, and decide between epochs;
    modes that do not validate train on fewer rows if it is not 0. ``seed`` draws these rows and the weights.
    """

    def __init__(
        self,
        source: str | Path = "latest",
        mode: str = "features",
        *,
        quantity: str = "e_form",
        overrides: Sequence[str] = (),
        validation: float = 0.1,
        seed: int = 0,
        device: str = "auto",
        kernels: str = "auto",
        runs: str | Path = "runs",
    ) -> None:
        self.source = source
        self.mode = mode
        self.quantity = quantity
        self.overrides = overrides
        self.validation = validation
        self.seed = seed
        self.device = device
        self.kernels = kernels
        self.runs = runs

    def fit(self, X: Iterable[Any], y: Iterable[float]) -> Self:
        """Train on structures ``X`` (n) and labels ``y`` (n,) in the unit of the quantity, NaN for a missing one.

        Raises DataError for a structure that cannot be used, ConfigError for a wrong setting, and CheckpointError if
        there is no such source.
        """
        crystals, labels = _crystals(X), np.asarray(list(y), dtype=np.float64)
        if labels.shape != (len(crystals),):
            raise DataError(f"{len(crystals):,} structures have labels of shape {labels.shape}; give one label each.")
        config = launch.composed("transfer", [f"mode={self.mode}", f"seed={self.seed}", *self.overrides])
        backend = backends.choose(self.kernels, self.device, config["threads"], _quiet)
        folder = source_folder(str(self.source), Path(self.runs), partial(print, file=sys.stderr))
        source = reference_predictions.loaded(folder, backend)
        self.model_ = self._trained(source, crystals, labels, config, backend)
        return self

    def predict(self, X: Iterable[Any]) -> Floats:
        """Return (n,): the predictions for structures ``X`` (n), in the unit of the quantity.

        Raises DataError for a structure that cannot be used; ``load_model(...).predict`` gives such a one a row.
        """
        check_is_fitted(self, "model_")
        items = [(str(n), crystal) for n, crystal in enumerate(_crystals(X))]
        table = Predictor(self.model_).table(items)
        table = table[table.quantity == self.quantity]
        if len(lost := table[table.prediction.isna()]):
            raise DataError(str(lost.status.iloc[0]))
        return table.prediction.to_numpy(np.float64)

    def save(self, folder: str | Path) -> None:
        """Write the model to ``folder``, which ``load_model`` and ``tltool predict`` take."""
        check_is_fitted(self, "model_")
        checkpoint.save(Path(folder), self.model_)

    def _trained(
        self, source: PropertyModel, crystals: list[Crystal], labels: Floats, config: dict[str, Any], backend: "Backend"
    ) -> PropertyModel:
        data = self._batches(crystals, labels, checkpoint.graph_settings(source.spec)).to(backend.device)
        fit = setup.fit(config, None, backend)
        torch.manual_seed(fit.seed)
        model: PropertyModel = instantiate.call(config["mode"], source, data, fit, place="mode")
        elements = set(model.spec.get("elements", ())) | data.elements("train")
        model.spec["elements"] = sorted(int(z) for z in elements)
        return backend.prepare(model)

    def _batches(self, crystals: list[Crystal], labels: Floats, settings: crystal_graphs.GraphSettings) -> Batches:
        named = [{} if np.isnan(label) else {self.quantity: float(label)} for label in labels]
        records = [Record(str(n), *both) for n, both in enumerate(zip(crystals, named, strict=True))]
        dataset = Dataset(gather(records, {"name": "given"}), crystal_graphs.build(crystals, settings))
        if not 0 <= self.validation < 1:
            raise ConfigError(f"validation={self.validation} must be a fraction, from 0 to below 1.")
        rows = np.random.default_rng(self.seed).permutation(np.flatnonzero(np.isfinite(labels)))
        n = round(self.validation * len(rows))
        if len(rows) - n < 1:
            raise DataError(f"Of {len(labels):,} rows {len(rows):,} have a label, too few to train on; give more.")
        return batches.batches(dataset, [self.quantity], Split(rows[n:], rows[:n], rows[:0]))


def _crystals(structures: Iterable[Any]) -> list[Crystal]:
    found = []
    for _, item in python_objects.attempts(structures):
        if isinstance(item, DataError):
            raise item
        found.append(item)
    return found


def _quiet(text: str) -> None:
    """Let a message of the backend pass."""
