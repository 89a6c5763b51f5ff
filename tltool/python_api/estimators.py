"""Offer a transfer as estimators of scikit-learn: ``fit`` on structures and labels, ``predict`` for structures.

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
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from tltool import instantiate, metrics
from tltool.command_line import launch
from tltool.data.batches import batches
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.formats import python_objects
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal, Floats, Record
from tltool.data.splits import Split, spread
from tltool.data.store import gather
from tltool.errors import ConfigError, DataError
from tltool.evaluation import class_labels, provenance, reference_predictions
from tltool.evaluation.predictor import Predictor
from tltool.model.property_model import PropertyModel
from tltool.quantities import Quantity, as_text, defined, described, shipped
from tltool.run_folder.find import source_folder
from tltool.training import backend as backends
from tltool.training import setup
from tltool.training.saved_model import checkpoint

if TYPE_CHECKING:
    import pandas as pd


class _Transfer(BaseEstimator):  # type: ignore[misc]
    """What both estimators share; see ``TransferRegressor``. Its subclasses define the quantity that is learnt."""

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

    def save(self, folder: str | Path) -> None:
        """Write the model to ``folder``, which ``load_model`` and ``tltool predict`` take."""
        check_is_fitted(self, "model_")
        checkpoint.save(Path(folder), self.model_)

    def _fit(self, crystals: list[Crystal], labels: Floats, about: Quantity) -> None:
        """Train on ``labels`` (n,) of the quantity ``about``: numbers, or places among its classes; NaN is missing."""
        if labels.shape != (len(crystals),):
            raise DataError(f"{len(crystals):,} structures have labels of shape {labels.shape}; give one label each.")
        config = launch.composed("transfer", [f"mode={self.mode}", f"seed={self.seed}", *self.overrides])
        backend = backends.choose(self.kernels, self.device, config["threads"], _quiet)
        folder = source_folder(str(self.source), Path(self.runs), partial(print, file=sys.stderr))
        source = reference_predictions.loaded(folder, backend)
        settings = checkpoint.graph_settings(source.spec)
        data = self._batches(crystals, labels, settings, about).to(backend.device)
        fit = setup.fit(config, None, backend)
        torch.manual_seed(fit.seed)
        model: PropertyModel = instantiate.call(config["mode"], source, data, fit, place="mode")
        elements = set(model.spec.get("elements", ())) | data.elements("train")
        model.spec["elements"] = sorted(int(z) for z in elements)
        provenance.name_quantities(model, data)
        self.model_ = backend.prepare(model)

    def _batches(
        self, crystals: list[Crystal], labels: Floats, settings: crystal_graphs.GraphSettings, about: Quantity
    ) -> Batches:
        named = [{} if np.isnan(label) else {about.name: float(label)} for label in labels]
        records = [Record(str(n), *both) for n, both in enumerate(zip(crystals, named, strict=True))]
        attributes = {"name": "given", "define": as_text({about.name: described(about)})}
        dataset = Dataset(gather(records, attributes), crystal_graphs.build(crystals, settings))
        if not 0 <= self.validation < 1:
            raise ConfigError(f"validation={self.validation} must be a fraction, from 0 to below 1.")
        rows = np.random.default_rng(self.seed).permutation(np.flatnonzero(np.isfinite(labels)))
        if about.is_class:
            rows = rows[spread(np.arange(len(rows)), labels[rows].astype(np.int64))]
        n = round(self.validation * len(rows))
        if len(rows) - n < 1:
            raise DataError(f"Of {len(labels):,} rows {len(rows):,} have a label, too few to train on; give more.")
        return batches.batches(dataset, [about.name], Split(rows[n:], rows[:n], rows[:0]))

    def _table(self, X: Iterable[Any]) -> "pd.DataFrame":
        """Return the rows of the quantity of what the model predicts; raise DataError for an unusable structure."""
        check_is_fitted(self, "model_")
        items = [(str(n), crystal) for n, crystal in enumerate(_crystals(X))]
        table = Predictor(self.model_).table(items)
        table = table[table.quantity == self.quantity]
        if len(lost := table[table.prediction.isna()]):
            raise DataError(str(lost.status.iloc[0]))
        return table


class TransferRegressor(RegressorMixin, _Transfer):  # type: ignore[misc]
    """Transfer the pretrained model ``source`` to labels of one quantity.

    ``source`` is as of ``tltool transfer``, such as ``bundled``; ``mode`` is one of the command line's, with its
    defaults, which ``overrides`` change as on the command line, such as
    ``["fit.epochs=50", "mode/regressor=gaussian_process"]``. ``quantity`` is what the labels are (docs/quantities.md);
    another name than those is a number without a stated unit.
    ``validation`` is the fraction of the rows given to ``fit`` that are not trained on, and decide between epochs;
    modes that do not validate train on fewer rows if it is not 0. ``seed`` draws these rows and the weights.
    """

    def fit(self, X: Iterable[Any], y: Iterable[float]) -> Self:
        """Train on structures ``X`` (n) and labels ``y`` (n,) in the unit of the quantity, NaN for a missing one.

        Raises DataError for a structure that cannot be used, ConfigError for a wrong setting, and CheckpointError if
        there is no such source.
        """
        about = shipped().get(self.quantity) or defined(self.quantity, {"scale": "auto"}, f"quantity={self.quantity}")
        if about.is_class:
            raise ConfigError(f"quantity={self.quantity} is a class; use TransferClassifier.")
        self._fit(_crystals(X), np.asarray(list(y), dtype=np.float64), about)
        return self

    def predict(self, X: Iterable[Any]) -> Floats:
        """Return (n,): the predictions for structures ``X`` (n), in the unit of the quantity.

        Raises DataError for a structure that cannot be used; ``load_model(...).predict`` gives such a one a row.
        """
        return self._table(X).prediction.to_numpy(np.float64)


class TransferClassifier(ClassifierMixin, _Transfer):  # type: ignore[misc]
    """Transfer the pretrained model ``source`` to classes; arguments as of ``TransferRegressor``.

    ``quantity`` is the name of the class. After ``fit``, ``classes_`` (k,) has the labels that there are, sorted.
    """

    def __init__(
        self,
        source: str | Path = "latest",
        mode: str = "features",
        *,
        quantity: str = "class",
        overrides: Sequence[str] = (),
        validation: float = 0.1,
        seed: int = 0,
        device: str = "auto",
        kernels: str = "auto",
        runs: str | Path = "runs",
    ) -> None:
        given: dict[str, Any] = {"quantity": quantity, "overrides": overrides, "validation": validation, "seed": seed}
        super().__init__(source, mode, **given, device=device, kernels=kernels, runs=runs)

    def fit(self, X: Iterable[Any], y: Iterable[Any]) -> Self:
        """Train on structures ``X`` (n) and classes ``y`` (n,): words or numbers; None and NaN are missing.

        Raises DataError for a structure that cannot be used and for fewer than two classes, ConfigError for a wrong
        setting, and CheckpointError if there is no such source.
        """
        crystals, given = _crystals(X), list(y)
        known = [label for label in given if label is not None and label == label]
        classes = np.unique(np.asarray(known))
        if len(classes) < 2:
            raise DataError(f"The labels have {len(classes)} class; give rows of two classes or more.")
        about = defined(self.quantity, {"classes": [str(one) for one in classes.tolist()]}, f"quantity={self.quantity}")
        place = {one: float(k) for k, one in enumerate(classes.tolist())}
        self._fit(crystals, np.array([place.get(label, np.nan) for label in given]), about)
        self.classes_ = classes
        return self

    def predict_proba(self, X: Iterable[Any]) -> Floats:
        """Return (n, k): the probability of each of ``classes_`` for structures ``X`` (n); errors as of ``predict``."""
        table = self._table(X)
        names = class_labels.columns([self.model_.known[self.quantity]])
        return table[names].to_numpy(np.float64)

    def predict(self, X: Iterable[Any]) -> npt.NDArray[Any]:
        """Return (n,): the likeliest class of structures ``X`` (n).

        Raises DataError for a structure that cannot be used; ``load_model(...).predict`` gives such a one a row.
        """
        likely = metrics.said(self.predict_proba(X))
        found: npt.NDArray[Any] = self.classes_[likely]
        return found


def _crystals(structures: Iterable[Any]) -> list[Crystal]:
    found = []
    for _, item in python_objects.attempts(structures):
        if isinstance(item, DataError):
            raise item
        found.append(item)
    return found


def _quiet(text: str) -> None:
    """Let a message of the backend pass."""
