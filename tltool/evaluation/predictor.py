"""A trained model as something to call: structures (or formulas) in, a table out, one row for each and quantity."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import torch

from tltool.data import structure_checks
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal, formula, from_structure
from tltool.elements import symbols
from tltool.errors import ConfigError, DataError
from tltool.model.property_model import PropertyModel
from tltool.quantities import quantity
from tltool.training import backend, row_functionals, validation
from tltool.training import crystal_state as states
from tltool.training.backend import Backend
from tltool.training.saved_model import checkpoint

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core.structure import Structure

COLUMNS = ("id", "formula", "quantity", "prediction", "unit", "elements", "unseen_elements", "status")
Item = tuple[str, Crystal | DataError]
Base = Union["Predictor", Mapping[tuple[str, str], float]]


class Predictor:
    """A model with the graph settings it was trained with; ``functional`` and ``state`` as in ``load_model``."""

    def __init__(
        self, model: PropertyModel, functional: str | None = None, state: Mapping[str, float] | None = None
    ) -> None:
        self.model = model
        self._state = states.given(model.spec, state or {})
        name = row_functionals.chosen(model.spec, functional)
        self._functional = None if name is None else list(model.spec["functionals"]).index(name)
        self._graph_settings = checkpoint.graph_settings(model.spec)
        self._known = set(model.spec["elements"])

    def predict(
        self, structures: "Iterable[Structure]", batch_size: int = 256, base: "Base | None" = None
    ) -> "pd.DataFrame":
        """Return ``COLUMNS`` for pymatgen ``structures``, numbered from 0; a bad one is a row with its reason."""
        return self.table(_crystals(structures), batch_size, base)

    def table(self, items: Iterable[Item], batch_size: int = 256, base: "Base | None" = None) -> "pd.DataFrame":
        """Return ``COLUMNS`` for (id, crystal or the error in its place) ``items``, in their order.

        A model of differences needs ``base``: the value that it adds to, by id and quantity, or a model that predicts
        it. Raises ConfigError without.
        """
        import pandas as pd

        if self.model.spec.get("base") and base is None:
            name = self.model.spec["base"]["name"]
            raise ConfigError(
                f"The model predicts differences from {name}; give base=TABLE.csv (id and quantity) or base=MODEL."
            )
        if not self.model.spec.get("base") and base is not None:
            raise ConfigError("The model predicts whole values, not differences; leave base= out.")

        rows: list[dict[str, Any]] = []
        waiting = map(self._possible, items)
        while piece := list(islice(waiting, batch_size)):
            rows += self._rows(piece, base)
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def _possible(self, item: Item) -> Item:
        """Return ``item``, with an error in place of a formula that a model cannot do with."""
        name, crystal = item
        if isinstance(crystal, DataError) or crystal.amounts is None or not self.model.needs_structures:
            return item
        return name, DataError(f"{name}: {validation.NO_STRUCTURE}; give the structure.")

    @torch.no_grad()
    def _rows(self, items: list[Item], base: "Base | None" = None) -> Iterator[dict[str, Any]]:
        low = base.values(items) if isinstance(base, Predictor) else base or {}
        good = [crystal for _, crystal in items if not isinstance(crystal, DataError)]
        where = next(self.model.encoder.parameters()).device
        predictions: Iterator[list[float | None]] = iter(())
        if good:
            table = tensor_table.table(crystal_graphs.build(good, self._graph_settings)).to(where)
            if self._functional is not None:
                table = replace(table, functional=torch.full((len(good),), self._functional, device=where))
            if self._state:
                numbers = torch.tensor(self._state, dtype=torch.get_default_dtype(), device=where)
                table = replace(table, state=numbers.expand(len(good), -1))
            predictions = iter(self.model(table.select(torch.arange(len(good), device=where))).tolist())
        for name, crystal in items:
            values: list[float | None]
            if isinstance(crystal, DataError):
                values = [None] * len(self.model.quantities)
                shared = {"id": name, "status": str(crystal)}
            else:
                values = next(predictions)
                shared = {"id": name, "status": _status(crystal), **self._facts(crystal)}
            for key, value in zip(self.model.quantities, values, strict=True):
                entry = quantity(key)
                if base is not None and value is not None:
                    if (name, key) not in low:
                        yield shared | {"quantity": key, "unit": entry.unit, "status": f"{name}: no {key} in base="}
                        continue
                    value += low[name, key]
                yield shared | {"quantity": key, "prediction": value, "unit": entry.unit}
                if entry.log10_of and value is not None:
                    plain = quantity(entry.log10_of)
                    yield shared | {"quantity": plain.name, "prediction": 10.0**value, "unit": plain.unit}

    def values(self, items: list[Item]) -> dict[tuple[str, str], float]:
        """Return the predictions for ``items`` by id and quantity."""
        rows = self._rows(items)
        return {(row["id"], row["quantity"]): row["prediction"] for row in rows if row.get("prediction") is not None}

    def _facts(self, crystal: Crystal) -> dict[str, str]:
        elements = {int(z) for z in crystal.numbers}
        return {
            "formula": formula(crystal.numbers, crystal.amounts),
            "elements": symbols(elements),
            "unseen_elements": symbols(elements - self._known),
        }


def load_model(
    path: Path | str,
    where: str = "auto",
    functional: str | None = None,
    state: Mapping[str, float] | None = None,
    plugins: Iterable[str] = (),
    kernels: str = "auto",
) -> Predictor:
    """Return the model in the folder ``path`` (a model or run folder) ready to predict, on the device ``where``.

    ``functional`` names the one to predict, for a model that tells functionals apart; without, it is that of the data
    that the model was last trained on. ``state`` {tag: number} gives the numbers of the crystal that it takes, and
    ``plugins`` the packages that its functions may be of. Raises ConfigError if the model does not know it, or there is
    no such one, and for another state than it takes.

    ``kernels`` are those of the command line, the fastest for ``auto``: the first time on a machine they are compiled,
    which takes some seconds and is said on standard error.
    """
    say = partial(print, file=sys.stderr)
    return opened(path, backend.choose(kernels, where, torch.get_num_threads(), say), functional, state, plugins)


def opened(
    path: Path | str,
    backend: Backend,
    functional: str | None = None,
    state: Mapping[str, float] | None = None,
    plugins: Iterable[str] = (),
) -> Predictor:
    """Return what ``load_model`` does, computing with ``backend``."""
    folder = Path(path)
    if (folder / "model" / "manifest.json").is_file():
        folder = folder / "model"
    model = backend.prepare(checkpoint.load(folder, backend.device, plugins))
    return Predictor(model, functional, state)


def _status(crystal: Crystal) -> str:
    """Return ok, and with it what failed a check or which parser had to be used."""
    marks = [f"but {'; '.join(crystal.faults)}"] if crystal.faults else []
    marks += [f"read by {crystal.reader}, as its text breaks the format"] if crystal.reader else []
    return ", ".join(["ok", *marks])


def _crystals(structures: "Iterable[Structure]") -> Iterator[Item]:
    for n, structure in enumerate(structures):
        try:
            where = f"structure {n}"
            yield str(n), structure_checks.accepted(from_structure(structure, where), where, structure_checks.shipped())
        except DataError as error:
            yield str(n), error
