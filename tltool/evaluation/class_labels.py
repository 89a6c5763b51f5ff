"""What a table of predictions says of a class: the word of a label, the word that is predicted, and probabilities."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tltool import metrics
from tltool.data.record import Floats
from tltool.data.store import Store
from tltool.errors import DataError
from tltool.quantities import Quantity, as_text, defined, described

PROBABILITY = "p_"
"""What the columns of probabilities begin with; the name of the class follows."""


def word(about: Quantity, label: Floats) -> str | None:
    """Return the name of the class of a label (w,), None for a missing one."""
    return None if np.isnan(label[0]) else about.class_names[int(metrics.whole(label[None]).argmax())]


def told(about: Quantity, prediction: Floats) -> dict[str, Any]:
    """Return the class that probabilities (w,) say as ``prediction``, and the probability of each class."""
    found = metrics.whole(np.asarray(prediction, dtype=np.float64)[None])
    likeliest = about.class_names[int(metrics.said(found)[0])]
    names = (f"{PROBABILITY}{name}" for name in about.class_names)
    return {"prediction": likeliest, **dict(zip(names, found[0].tolist(), strict=True))}


def columns(abouts: Iterable[Quantity]) -> list[str]:
    """Return the columns of probabilities of a table with these quantities, each once."""
    return list(dict.fromkeys(f"{PROBABILITY}{name}" for about in abouts for name in about.class_names))


def as_the_model_has_them(records: Store, model: Mapping[str, object]) -> Store:
    """Return ``records`` with the classes of a ``model`` ({quantity: definition}), matched by their names.

    The data may lack some of its classes. Raise DataError for one that the model does not know.
    """
    define = {name: described(records.known[name]) for name in records.labels if name in records.known}
    labels = dict(records.labels)
    for name in model.keys() & labels.keys():
        mine, theirs = defined(name, model[name]), records.known[name]
        if not mine.is_class or mine.class_names == theirs.class_names:
            continue
        for word_ in theirs.class_names:
            if word_ not in mine.class_names:
                raise DataError(
                    f"The data have {name}={word_!r}, which is no class of the model; it knows "
                    f"{', '.join(mine.class_names)}. Correct the labels, or leave these rows out."
                )
        place = np.array([mine.class_names.index(one) for one in theirs.class_names], dtype=np.float64)
        label = np.asarray(labels[name], dtype=np.float64)
        there = np.isfinite(label)
        labels[name] = np.where(there, place[np.nan_to_num(label).astype(int)], np.nan)
        define[name] = described(mine)
    return replace(records, labels=labels, attributes={**records.attributes, "define": as_text(define)})
