"""Compute the features of crystals with a pretrained model, as a data frame."""

import sys
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tltool.crystal_graph import Graph
from tltool.data.formats import python_objects
from tltool.data.record import Crystal
from tltool.errors import ConfigError, DataError, standing_at
from tltool.evaluation.predictor import load_model
from tltool.model.property_model import PropertyModel
from tltool.model.readouts.pool import Pool, encoder_facts
from tltool.run_folder.find import source_folder

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 256
OWN = ("embedding", "trunk")


def embed(
    structures: Iterable[Any],
    level: int | str = 1,
    source: str | Path = "latest",
    *,
    statistics: Sequence[str] = ("mean",),
    device: str = "auto",
    kernels: str = "auto",
    runs: str | Path = "runs",
) -> "pd.DataFrame":
    """Return the features of ``structures``, one row for each in their order, one column for each feature.

    A structure is what ``Predictor.predict`` takes. ``level`` is a level of the encoder of ``source``, 0 for that of
    the elements, of whose sites the ``statistics`` (mean, std) are taken; or ``embedding`` for what the model's own
    readout makes of them; or ``trunk`` for what its heads see. ``source`` is a model folder, a run folder,
    ``bundled``, or ``latest``: the newest pretraining under ``runs``, without any that of ``bundled``. A structure that
    cannot be used has NaN in its row and its reason in ``frame.attrs["reasons"]``, and a warning says how many there
    are. Raises ConfigError for a level that the encoder does not have, and CheckpointError if there is no such source.
    """
    import pandas as pd

    predictor = load_model(
        source_folder(str(source), Path(runs), partial(print, file=sys.stderr)), device, kernels=kernels
    )
    features = _Features(predictor.model.eval(), level, list(statistics))
    items = [found for _, found in python_objects.attempts(structures)]
    reasons = {n: reason for n, found in enumerate(items) if (reason := features.reason(found, n))}
    good = {n: found for n, found in enumerate(items) if isinstance(found, Crystal) and n not in reasons}
    table = torch.full((len(items), features.dim), torch.nan)
    for rows in (list(good)[at : at + _BATCH] for at in range(0, len(good), _BATCH)):
        table[rows] = features.of(predictor.graph([good[row] for row in rows])).to(table)
    if reasons:
        first = next(iter(reasons.values()))
        warnings.warn(
            f"{len(reasons):,} of {len(items):,} structures have no features; the first: {first}", stacklevel=2
        )
    frame = pd.DataFrame(table.numpy(), columns=[f"{level}_{n}" for n in range(features.dim)])
    frame.attrs["reasons"] = reasons
    return frame


class _Features:
    """One choice of features of a model: ``dim`` of them; ``need_structures`` if a formula does not suffice."""

    def __init__(self, model: PropertyModel, level: int | str, statistics: list[str]) -> None:
        self._model = model
        self._level = level
        if isinstance(level, int):
            with standing_at("level", "readout"):
                facts = encoder_facts(model.encoder)
                self._pool = Pool(*facts, levels=[level], statistics=statistics)
            self.dim = self._pool.dim
            self.need_structures = level % int(model.encoder.n_levels) != 0 or bool(self._pool.extras)  # type: ignore[arg-type]
            return
        if level not in OWN:
            raise ConfigError(f"level={level!r} is not known; use a number, {' or '.join(OWN)}.")
        self.need_structures = model.needs_structures
        self.dim = int(model.readout.dim if level == "embedding" else model.trunk.dim)  # type: ignore[arg-type]

    def reason(self, found: Crystal | DataError, number: int) -> str:
        """Return why the object of this ``number`` has no features; empty where it has."""
        if isinstance(found, DataError):
            return str(found)
        if self.need_structures and found.amounts is not None:
            return f"structure {number}: is a formula, and level={self._level} needs a structure; give it."
        return ""

    @torch.no_grad()
    def of(self, graph: Graph) -> Tensor:
        """Return (c, dim): the features of the c crystals of a batch."""
        if isinstance(self._level, int):
            graph = graph.using(self._model.operations or graph.operations)
            return self._pool(self._model.encoded(graph), graph)  # type: ignore[no-any-return]
        embedding = self._model.embed(graph)
        return embedding if self._level == "embedding" else self._model.trunk(embedding)
