"""A split that tests on whole groups of crystals: an element, a cluster or space groups that training never had."""

from collections.abc import Sequence

import numpy as np

from tltool.data.held_out.groups import Members, members
from tltool.data.record import Floats
from tltool.data.splits import Split, checked, crystals, shortened
from tltool.data.store import Store
from tltool.errors import ConfigError


def leave_out(
    records: Store,
    labelled: Floats,
    /,
    *,
    seed: int,
    group: str,
    clusters: int,
    held_out: Sequence[str] | None,
    groups: int | None,
    fewest: int,
    val: float,
    test: float,
    train_size: int | None,
) -> Split:
    """Test on all crystals of some groups, and train on crystals that belong to none of them.

    ``labelled`` (n,) contains the labels; rows with NaN are left out. ``group`` is element, cluster (one of
    ``clusters``), space_group, prototype or composition. ``held_out`` names the groups. If it is None, they are drawn
    by ``seed``: groups in a random order, each with at least ``fewest`` crystals of its own, as long as the test set
    has at most the fraction ``test`` of all crystals; ``groups`` is how many, None for all that fit. ``val`` is the
    fraction of the others that validates; ``train_size`` as in ``splits.random``. Raise ConfigError if no group fits
    or a name is not known, and DataError for an empty part.
    """
    if not (0 <= val < 1 and 0 < test < 1):
        raise ConfigError(f"split: val={val} and test={test} must be fractions that leave something to train on.")
    rows = np.flatnonzero(np.isfinite(labelled))
    crystal = crystals(records, rows)
    n = int(crystal.max(initial=-1)) + 1
    first = np.unique(crystal, return_index=True)[1]
    of_each = members(records, rows[first], group, clusters)
    chance = np.random.default_rng(seed)
    chosen = _named(of_each, held_out, group) if held_out else _drawn(of_each, groups, fewest, test, chance)
    is_test = np.array([bool(names & chosen) for names in of_each], dtype=bool)
    others = chance.permutation(np.flatnonzero(~is_test))
    place = np.empty(n, dtype=np.int64)
    place[np.concatenate([np.flatnonzero(is_test), others])] = np.arange(n)
    order = np.argsort(place[crystal], kind="stable")
    n_test, n_val = int(is_test.sum()), round(val * len(others))
    tested, validated = np.searchsorted(place[crystal[order]], [n_test, n_test + n_val])
    rows = rows[order]
    parts = Split(rows[validated:], rows[tested:validated], rows[:tested])
    remedy = f"the groups held out are {', '.join(sorted(chosen))}; name others with split.held_out"
    return checked(shortened(parts, train_size, val / (1 - val)), len(records), needs_val=val > 0, remedy=remedy)


def _named(of_each: Members, held_out: Sequence[str], group: str) -> frozenset[str]:
    chosen = frozenset(map(str, held_out))
    if unknown := sorted(chosen.difference(*of_each)):
        raise ConfigError(f"split.held_out={unknown[0]}: no labelled crystal has this {group.replace('_', ' ')}.")
    return chosen


def _drawn(
    of_each: Members, groups: int | None, fewest: int, test: float, chance: np.random.Generator
) -> frozenset[str]:
    """Return groups in an order of chance that have ``fewest`` crystals and together no more than ``test`` of all."""
    rows_of: dict[str, set[int]] = {}
    for row, names in enumerate(of_each):
        for name in names:
            rows_of.setdefault(name, set()).add(row)
    fitting = sorted(name for name, rows in rows_of.items() if fewest <= len(rows) <= test * len(of_each))
    if not fitting:
        raise ConfigError(
            f"No group has {fewest} crystals or more and at most {test:.0%} of the {len(of_each):,} labelled crystals; "
            "change split.fewest or split.test, or name groups with split.held_out."
        )
    chosen: list[str] = []
    tested: set[int] = set()
    for name in chance.permutation(fitting).tolist():
        if groups is not None and len(chosen) == groups:
            break
        if len(tested | rows_of[name]) <= test * len(of_each):
            chosen.append(name)
            tested |= rows_of[name]
    return frozenset(chosen)
