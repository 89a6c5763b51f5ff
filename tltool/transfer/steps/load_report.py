"""Print the load report before the first update of a transfer: loaded tensors, unseen elements, initial error."""

from tltool.data.batches.batches import Batches
from tltool.elements import symbols
from tltool.model.property_model import PropertyModel
from tltool.model.surgery.edit import report
from tltool.training import row_functionals
from tltool.training.fit import Fit, Values, validate


def announce(
    source: PropertyModel, model: PropertyModel, data: Batches, fit: Fit, values: Values | None = None
) -> None:
    """Log the load report, elements and functionals that are new to the source, and the error at step 0."""
    found = report(source, model)
    seen = set(source.spec.get("elements", ()))
    unseen = set().union(*(data.elements(part) for part in data)) - seen
    fit.log(
        {
            "event": "load_report",
            **found._asdict(),
            "unseen_elements": symbols(unseen),
            "new_functionals": row_functionals.started(source, model),
            "step_0_val_MAE": validate(model, data, values)[1],
        }
    )
