"""What a record of several data sets in one knows: which of them it is from, its id there, its functional.

Its id begins with the name of its data set, as in ``gaps_hse:mp-149``; the tag ``own_id`` holds the rest, the tag
``functional`` the functional.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from tltool.data.store import Store

_OWN, _FUNCTIONAL = "own_id", "functional"


class Mark(NamedTuple):
    """One of several data sets: its ``name``, and the ``functional`` of records that do not say another."""

    name: str
    functional: str


def marked(records: Store, mark: Mark) -> Store:
    """Return ``records`` as those of one of several data sets."""
    own = list(records.ids)
    told = [word or mark.functional for word in records.tags.get(_FUNCTIONAL, [""] * len(own))]
    names = [mark_id(mark, name) for name in own]
    return replace(records, ids=names, tags={**records.tags, _OWN: own, _FUNCTIONAL: told})


def mark_id(mark: Mark, own: str) -> str:
    """Return the id, among several data sets, of the record that has the id ``own`` in its own."""
    return f"{mark.name}:{own}"


def own_ids(records: Store) -> Sequence[str]:
    """Return the ids (n) that the records have in the data set that each is from."""
    return records.tags.get(_OWN, records.ids)


def crystals(records: Store) -> Iterator[str]:
    """Yield for each record the name of its crystal, which data sets of the same crystals share.

    That is the tag ``mat_id``, or the id in its own data set where it has none.
    """
    shared, own = records.tags.get("mat_id"), own_ids(records)
    if shared is None:
        yield from own
    else:
        yield from (word or name for word, name in zip(shared, own, strict=True))


def functionals(records: Store) -> Iterator[str]:
    """Yield for each record the functional of its labels, "" where nobody says it."""
    whole = records.attributes.get(_FUNCTIONAL, "")
    for word in records.tags.get(_FUNCTIONAL) or [""] * len(records):
        yield word or whole


def is_of_several(records: Store) -> bool:
    """Say whether the records are those of several data sets."""
    return _OWN in records.tags
