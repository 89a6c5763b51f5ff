"""Where a record comes from if several data sets are combined: its data set, its id there, and its functional.

The id of such a record begins with the name of its data set, as in ``gaps_hse:mp-149``. The tag ``own_id`` contains the
rest, and the tag ``functional`` the functional.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from tltool.data.store import Store

_OWN, _FUNCTIONAL = "own_id", "functional"


class Mark(NamedTuple):
    """The origin of records: ``name`` of the data set, and ``functional`` for records that do not name one."""

    name: str
    functional: str


def marked(records: Store, mark: Mark) -> Store:
    """Return ``records`` with the ids and tags of one of several data sets."""
    own = list(records.ids)
    told = [word or mark.functional for word in records.tags.get(_FUNCTIONAL, [""] * len(own))]
    names = [mark_id(mark, name) for name in own]
    return replace(records, ids=names, tags={**records.tags, _OWN: own, _FUNCTIONAL: told})


def mark_id(mark: Mark, own: str) -> str:
    """Return the id, among several data sets, of the record whose id in its own data set is ``own``."""
    return f"{mark.name}:{own}"


def own_ids(records: Store) -> Sequence[str]:
    """Return the ids (n) of the records in their own data sets."""
    return records.tags.get(_OWN, records.ids)


def crystals(records: Store) -> Iterator[str]:
    """Yield for each record the name of its crystal, which is the same in all data sets.

    The name is the tag ``mat_id``, or the record's id in its own data set if it has no such tag.
    """
    shared, own = records.tags.get("mat_id"), own_ids(records)
    if shared is None:
        yield from own
    else:
        yield from (word or name for word, name in zip(shared, own, strict=True))


def functionals(records: Store) -> Iterator[str]:
    """Yield the functional of each record's labels, "" if it is not known."""
    whole = records.attributes.get(_FUNCTIONAL, "")
    for word in records.tags.get(_FUNCTIONAL) or [""] * len(records):
        yield word or whole


def is_of_several(records: Store) -> bool:
    """Return whether the records come from several data sets."""
    return _OWN in records.tags
