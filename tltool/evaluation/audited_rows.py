"""Which test rows of a target the source was trained on, and what ``overlap=`` does about them."""

import numpy as np
import numpy.typing as npt

from tltool.data.dataset import Dataset
from tltool.data.overlap import crystal_index
from tltool.data.overlap.crystal_index import Matches
from tltool.data.record import Ints
from tltool.errors import DataError
from tltool.evaluation import overlap_audit, source_crystals
from tltool.evaluation.overlap_audit import Auditor
from tltool.model.property_model import PropertyModel
from tltool.potentials import placement
from tltool.run_folder.run import Run


def audited(
    source: PropertyModel, dataset: Dataset, tested: Ints, watch: Auditor, folder: Run, target: str
) -> Matches | None:
    """Print how many of the ``tested`` crystals the source was trained on, and return them; None without an audit.

    The source's index decides for every mode, so that scratch is tested on the same crystals as the others. Raise
    DataError for one that was seen with ``overlap=error``.
    """
    if watch.action == "none":
        return None
    for line in placement.not_audited(source.spec):
        folder.say(line)
    if not source.seen and source.spec.get(placement.KEY) and not source.spec.get("provenance"):
        return None
    if not source.seen:
        folder.say(
            "The source model has no index of its training crystals (overlap=none), so there is no overlap audit."
        )
        return None
    seen = crystal_index.from_arrays(source.seen, "the source model")
    found = overlap_audit.audit(seen, dataset, tested, watch.workers, source_crystals.at_hand(source.spec), folder.say)
    folder.say(overlap_audit.told(found, target))
    there = known(found)
    if watch.action == "error" and there.any():
        first = dataset.store.ids[int(tested[there][0])]
        raise DataError(
            f"{overlap_audit.told(found, target)} The first is {first!r}; use overlap=drop_test, or pretrain with "
            "overlap=drop_source."
        )
    if watch.action == "drop_test" and there.any():
        folder.say(f"{int(there.sum()):,} test crystals are removed; {int((~there).sum()):,} remain.")
    return found


def known(matches: Matches) -> npt.NDArray[np.bool_]:
    """Return which crystals (t,) the source was trained on."""
    return np.array([bool(how) for how in matches.how], dtype=bool)
