"""Predict with a trained model: structures or formulas in, a table out, one row per structure and quantity."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice, repeat
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import torch
from torch import Tensor

from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.formats import python_objects
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal, formula
from tltool.elements import symbols
from tltool.errors import ConfigError, DataError, TltoolError, is_out_of_memory
from tltool.evaluation import class_labels, conformal, reference_predictions, uncertainty
from tltool.evaluation import conditions as measured_under
from tltool.model.property_model import PropertyModel
from tltool.model.surgery.conditions import KEY
from tltool.potentials import placement
from tltool.quantities import shipped
from tltool.run_folder import bundled_models
from tltool.training import backend, row_functionals, validation
from tltool.training import crystal_state as states
from tltool.training.backend import Backend
from tltool.training.saved_model import checkpoint

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("id", "formula", "quantity", "prediction", "unit", "elements", "unseen_elements", "status")
INTERVAL_COLUMNS = ("lower", "upper", "coverage", "far")
"""Further columns of a model that has intervals: their ends, and whether a crystal is far from the training rows.

Of a class, ``prediction`` is its name, there is no interval, and ``p_NAME`` has the probability of each class.
"""
Item = tuple[str, Crystal | DataError]
Base = Union["Predictor", Mapping[tuple[str, str], float]]


class Predictor:
    """A model with the graph settings it was trained with; other arguments as in ``load_model``."""

    def __init__(
        self,
        model: PropertyModel,
        functional: str | None = None,
        state: Mapping[str, float] | None = None,
        coverage: float | None = None,
        cache: Path | None = None,
        conditions: Mapping[str, float] | None = None,
    ) -> None:
        self.model = model
        self._conditions = measured_under.given(model.spec, conditions or {})
        self.coverage = conformal.checked(coverage) if coverage is not None and model.uncertainty else None
        self._state = states.given(model.spec, state or {})
        name = row_functionals.chosen(model.spec, functional)
        self._functional = None if name is None else list(model.spec["functionals"]).index(name)
        self._graph_settings = checkpoint.graph_settings(model.spec)
        self._known = set(model.spec["elements"])
        where = placement.usual_cache() if cache is None else cache
        self._potentials = placement.Rows(model.spec, where) if model.reads_potentials else None

    def predict(self, structures: Iterable[Any], batch_size: int = 256, base: "Base | None" = None) -> "pd.DataFrame":
        """Return ``COLUMNS`` for ``structures``, numbered from 0; a bad one is a row with its reason.

        A structure is a ``Structure`` of pymatgen, an ``Atoms`` of ASE, the path of a file, a formula, or a dictionary
        (see ``python_objects.crystal``).
        """
        return self.table(python_objects.attempts(structures), batch_size, base)

    def table(
        self,
        items: Iterable[Item],
        batch_size: int = 256,
        base: "Base | None" = None,
        conditions: Mapping[str, Sequence[float]] | None = None,
    ) -> "pd.DataFrame":
        """Return ``COLUMNS`` for (id, crystal or the error in its place) ``items``, in their order.

        ``conditions`` are those of each id, for a model that takes some; those given for all structures otherwise.

        A model of differences needs ``base``: the value that it adds to, by id and quantity, or a model that predicts
        it. Raises ConfigError without.
        """
        import pandas as pd

        if self.model.spec.get("base") and base is None:
            name = self.model.spec["base"]["name"]
            raise ConfigError(
                f"The model predicts the difference to {name}; give base=TABLE.csv (columns id and quantity) or "
                "base=MODEL."
            )
        if not self.model.spec.get("base") and base is not None:
            raise ConfigError("The model predicts values, not differences to a base; leave base= out.")

        if self.model.spec.get(KEY) and self._conditions is None and conditions is None:
            raise ConfigError(measured_under.missing(self.model.spec, "a folder"))
        self._conditions_of = conditions or {}
        rows: list[dict[str, Any]] = []
        waiting = map(self._possible, items)
        while piece := list(islice(waiting, batch_size)):
            rows += self._rows_of_many(piece, base)
            if self._potentials:
                self._potentials.forget()
        own = INTERVAL_COLUMNS if self.coverage else ()
        likely = class_labels.columns(self.model.known[name] for name in self.model.quantities)
        return pd.DataFrame(rows, columns=[*COLUMNS, *own, *likely])

    def _possible(self, item: Item) -> Item:
        """Return ``item``, with an error in place of a formula or a crystal that the model cannot do with."""
        name, crystal = item
        if isinstance(crystal, DataError):
            return item
        if crystal.amounts is not None and self.model.needs_structures:
            return name, DataError(f"{name}: {validation.NO_STRUCTURE}; give the structure.")
        if self._potentials:
            try:
                self._potentials.of(crystal)
            except ValueError as error:
                return name, DataError(f"{name}: {error}")
        return item

    def _rows_of_many(self, items: list[Item], base: "Base | None") -> list[dict[str, Any]]:
        """Return the rows of ``items``, in halves where they need too much memory or one of them fails.

        A crystal that fails alone becomes a row with the reason.
        """
        try:
            return list(self._rows(items, base))
        except TltoolError:
            raise
        except Exception as error:
            if len(items) == 1 and isinstance(items[0][1], DataError):
                raise
            if next(self.model.encoder.parameters()).device.type == "cuda":
                torch.cuda.empty_cache()
            if len(items) == 1:
                why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
                why = "it needs more memory than there is" if is_out_of_memory(error) else why
                failed = DataError(f"{items[0][0]}: cannot be predicted ({why})")
                return list(self._rows([(items[0][0], failed)], base))
        half = len(items) // 2
        return self._rows_of_many(items[:half], base) + self._rows_of_many(items[half:], base)

    @torch.no_grad()
    def _rows(self, items: list[Item], base: "Base | None" = None) -> Iterator[dict[str, Any]]:
        low = base.values(items) if isinstance(base, Predictor) else base or {}
        pairs = [(name, crystal) for name, crystal in items if not isinstance(crystal, DataError)]
        good = [crystal for _, crystal in pairs]
        predictions: Iterator[list[float]] = iter(())
        own: Iterator[list[dict[str, Any]]] = iter(())
        columns = self.model.columns
        if good:
            graph = self.graph(good)
            if self.model.spec.get(KEY):
                under = [self._conditions_of.get(name, self._conditions) for name, _ in pairs]
                numbers = torch.tensor(under, dtype=torch.get_default_dtype(), device=graph.number.device)
                graph = replace(graph, conditions=numbers)
            found = self.model(graph)
            predictions, own = iter(found.tolist()), self._intervals(graph, found)
        for name, crystal in items:
            values: list[float] = []
            if isinstance(crystal, DataError):
                intervals: list[dict[str, Any]] = [{}] * sum(at.stop - at.start for at in columns.values())
                shared = {"id": name, "status": str(crystal)}
            else:
                values, intervals = next(predictions), next(own)
                shared = {"id": name, "status": _status(crystal), **self._facts(crystal)}
            for key, at in columns.items():
                entry, interval = self.model.known[key], intervals[at.start]
                if values and not all(map(math.isfinite, values[at])):
                    why = f"{name}: the prediction is not a finite number"
                    yield shared | {"quantity": key, "unit": entry.unit, "status": why}
                    continue
                if values and entry.is_class:
                    found_class = class_labels.told(entry, np.array(values[at]))
                    yield shared | interval | {"quantity": key, "unit": entry.unit, **found_class}
                    continue
                value = values[at.start] if values else None
                if base is not None and value is not None:
                    if (name, key) not in low:
                        yield shared | {"quantity": key, "unit": entry.unit, "status": f"{name}: no {key} in base="}
                        continue
                    value += low[name, key]
                    interval = _moved(interval, partial(add, low[name, key]))
                yield shared | interval | {"quantity": key, "prediction": value, "unit": entry.unit}
                if entry.log10_of and value is not None:
                    plain = shipped()[entry.log10_of]
                    interval = _moved(interval, lambda end: 10.0**end)
                    yield shared | interval | {"quantity": plain.name, "prediction": 10.0**value, "unit": plain.unit}

    def _intervals(self, graph: Graph, predictions: Tensor) -> Iterator[list[dict[str, Any]]]:
        """Yield for each crystal of ``graph`` what ``INTERVAL_COLUMNS`` hold of each of its ``predictions`` (c, v)."""
        if not self.coverage:
            none: list[dict[str, Any]] = [{}] * predictions.shape[1]
            yield from repeat(none, len(predictions))
            return
        found = uncertainty.bounds(self.model, graph, predictions.double().cpu().numpy(), self.coverage)
        for lower, upper, far in zip(found.lower, found.upper, found.far.tolist(), strict=True):
            yield [
                {"far": far} | ({"lower": low, "upper": high, "coverage": self.coverage} if math.isfinite(low) else {})
                for low, high in zip(lower.tolist(), upper.tolist(), strict=True)
            ]

    def graph(self, crystals: list[Crystal]) -> Graph:
        """Return ``crystals`` as one batch, on the model's device, with the functional and state to predict for."""
        where, n = next(self.model.encoder.parameters()).device, len(crystals)
        table = tensor_table.table(crystal_graphs.build(crystals, self._graph_settings)).to(where)
        if self._functional is not None:
            table = replace(table, functional=torch.full((n,), self._functional, device=where))
        if self._state:
            numbers = torch.tensor(self._state, dtype=torch.get_default_dtype(), device=where)
            table = replace(table, state=numbers.expand(n, -1))
        if self._potentials:
            table = replace(table, potential=self._potentials.table(crystals).to(where))
        return table.select(torch.arange(n, device=where))

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


def _moved(interval: dict[str, Any], move: Callable[[float], float]) -> dict[str, Any]:
    """Return ``interval`` with both ends moved."""
    return interval | {key: move(interval[key]) for key in ("lower", "upper") if key in interval}


def load_model(
    path: Path | str,
    where: str = "auto",
    functional: str | None = None,
    state: Mapping[str, float] | None = None,
    plugins: Iterable[str] = (),
    kernels: str = "auto",
    coverage: float | None = 0.9,
    conditions: Mapping[str, float] | None = None,
) -> Predictor:
    """Return the model in the folder ``path`` (a model or run folder) ready to predict, on the device ``where``.

    ``bundled`` and ``bundled/NAME`` are pretrained models that ship with tltool.

    ``functional`` names the one to predict, for a model that tells functionals apart; without, it is that of the data
    that the model was last trained on. ``state`` {tag: number} gives the numbers of the crystal that it takes, and
    ``plugins`` the packages that its functions may be of. ``conditions`` {name: number} are those of all structures,
    such as their temperature. Raises ConfigError if the model does not know it, or there is no such one, and for other
    numbers than it takes.

    ``coverage`` is that of the intervals, for a model that has them: its table then has ``INTERVAL_COLUMNS`` too. None
    leaves them out.

    ``kernels`` are those of the command line, the fastest for ``auto``: the first time on a machine they are compiled,
    which takes some seconds and is said on standard error.
    """
    say = partial(print, file=sys.stderr)
    return opened(
        path,
        backend.choose(kernels, where, torch.get_num_threads(), say),
        functional,
        state,
        plugins,
        coverage,
        conditions=conditions,
    )


def opened(
    path: Path | str,
    backend: Backend,
    functional: str | None = None,
    state: Mapping[str, float] | None = None,
    plugins: Iterable[str] = (),
    coverage: float | None = None,
    cache: Path | None = None,
    conditions: Mapping[str, float] | None = None,
) -> Predictor:
    """Return what ``load_model`` does, computing with ``backend``; weights of potentials are kept in ``cache``."""
    folder = bundled_models.folder(str(path)) if bundled_models.is_one(str(path)) else Path(path)
    if (folder / "model" / "manifest.json").is_file():
        folder = folder / "model"
    model = reference_predictions.loaded(folder, backend, plugins)
    return Predictor(model, functional, state, coverage, cache, conditions)


def _status(crystal: Crystal) -> str:
    """Return ok, and with it what failed a check or which parser had to be used."""
    marks = [f"but {'; '.join(crystal.faults)}"] if crystal.faults else []
    marks += [f"read by {crystal.reader}, because the text has a syntax error"] if crystal.reader else []
    return ", ".join(["ok", *marks])
