"""Match the functional of each row's labels, which data sets name, to the functional vectors of a model.

In a transfer, a data set that does not name its functional gets a functional with the name of the data set. In eval, it
gets the functional that the model was last trained on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tltool.data import origin
from tltool.data.batches.batches import Batches
from tltool.data.record import Ints
from tltool.data.store import Store
from tltool.errors import ConfigError, DataError, nearest
from tltool.model.layers import functionals
from tltool.model.property_model import PropertyModel
from tltool.model.surgery.edit import copy_of, new_functionals

Bools = npt.NDArray[np.bool_]


def names(records: Store) -> list[str]:
    """Return the functionals of a union of data sets, in their order; [] if there is only one."""
    found = list(dict.fromkeys(origin.functionals(records))) if origin.is_of_several(records) else []
    return found if len(found) > 1 else []


def taken_up(source: PropertyModel, data: Batches, records: Store) -> tuple[PropertyModel, Batches]:
    """Return ``source`` with a vector for each functional of the target's rows, and ``data`` with each row's index.

    The vector of a functional that is new to the source starts from the mean of the known ones. If the source has no
    functional vectors, all start from zeros, with which its predictions do not change. ``source`` itself is not
    changed.
    """
    known = list(source.spec.get("functionals") or [])
    if not known and not names(records):
        return source, data
    of_row = list(_names(records, records.attributes.get("name", "")))
    new = [name for name in dict.fromkeys(of_row[row] for row in data.rows().tolist()) if name not in known]
    if new:
        source = copy_of(source)
        if known:
            new_functionals(source, new)
        else:
            device = next(source.encoder.parameters()).device
            functionals.give(source.encoder, len(new))
            source.to(device)
            source.spec["functionals"] = new
        start = f"the mean of {', '.join(known)}" if known else "zeros"
        source.spec["new_functionals"] = dict.fromkeys(new, start)
    return source, placed(data, records, source.spec)


def placed(data: Batches, records: Store, spec: Mapping[str, Any], functional: str | None = None) -> Batches:
    """Return ``data`` with the index of each row's functional among the functionals of a model's ``spec``.

    ``functional``, if given, is the functional of all rows. Raise DataError for rows with a functional that the model
    does not know, and ConfigError if it does not know ``functional``.
    """
    known = list(spec.get("functionals") or [])
    one = chosen(spec, functional) if functional is not None else None
    if not known:
        return data
    whole = records.attributes.get("name", "")
    place = {name: k for k, name in enumerate(known)}
    silent = whole if whole in place else spec.get("functional") or ""
    of_row = [one] * len(records) if one else list(_names(records, silent))
    found = np.fromiter((place.get(name or "", -1) for name in of_row), np.int64, len(of_row))
    used = data.rows().cpu().numpy()
    if (found[used] < 0).any():
        name = of_row[used[int(np.argmin(found[used]))]]
        told = f"has the functional {name!r}, which the model does not know" if name else "does not name its functional"
        raise DataError(
            f"The data set {whole!r} {told}; choose one of the model's functionals ({', '.join(known)}) as "
            "functional=NAME."
        )
    return replace(data, table=replace(data.table, functional=torch.from_numpy(found.clip(0))))


def chosen(spec: Mapping[str, Any], functional: str | None) -> str | None:
    """Return the functional of the predictions of a model with ``spec``; None if the model has no functionals.

    It is ``functional``, or else the one that the model was last trained on. Raise ConfigError if the model does not
    know it, if none is given and the model was last trained on several, or if one is given to a model without
    functionals.
    """
    known = list(spec.get("functionals") or [])
    if not known:
        if functional is not None:
            raise ConfigError(f"functional={functional}: the model has no separate functionals; leave functional= out.")
        return None
    wanted = functional or spec.get("functional")
    if wanted is None:
        raise ConfigError(f"The model has several functionals ({', '.join(known)}); choose one as functional=NAME.")
    if wanted not in known:
        raise ConfigError(
            f"functional={wanted} is not a functional of the model, which has "
            f"{', '.join(known)}.{nearest(wanted, known)}"
        )
    return str(wanted)


def last(data: Batches, known: Sequence[str]) -> str | None:
    """Return the functional of the training rows; None if they have several or the model has no functionals."""
    if data.table.functional is None:
        return None
    found = torch.unique(data.table.functional[data.split["train"]]).tolist()
    return known[found[0]] if len(found) == 1 else None


def started(source: PropertyModel, model: PropertyModel) -> dict[str, str]:
    """Return how the vector of each functional that is new to ``source`` starts in ``model``, as words."""
    new: dict[str, str] = source.spec.get("new_functionals", {})
    if not new:
        return {}
    before, after = (m.state_dict()["encoder.functional.weight"] for m in (source, model))
    return new if torch.equal(before, after) else dict.fromkeys(new, "zeros")


def groups(records: Store, rows: Ints) -> dict[str, Bools]:
    """Return {functional: which of ``rows`` (r,) have it} for a union of data sets; {} if there is only one."""
    found = names(records)
    if not found:
        return {}
    every = list(origin.functionals(records))
    of_row = np.array([every[row] for row in rows])
    return {name: of_row == name for name in found if (of_row == name).any()}


def _names(records: Store, silent: str) -> Iterator[str]:
    return (word or silent for word in origin.functionals(records))
