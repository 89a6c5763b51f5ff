"""Formulas without structures: which models may be used on them. What needs an edge may not, and says so."""

from tltool.data.batches.batches import Batches
from tltool.errors import InapplicableError
from tltool.model.property_model import PropertyModel

REASON = "a formula has no structure, and this model needs one"


def check(model: PropertyModel, data: Batches) -> None:
    """Raise InapplicableError if ``data`` are formulas and ``model`` reads more than the element embedding."""
    if data.bare and model.needs_structures:
        raise InapplicableError(
            "The data are formulas without structures, which have no edges; what works is the element embedding of a "
            "pretrained encoder: tltool transfer mode=features mode.level=[0]."
        )
