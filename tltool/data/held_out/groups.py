"""To which groups the crystals of a data set belong: elements, clusters of like compositions, space groups."""

from collections.abc import Sequence

import numpy as np

from tltool.data.overlap import fingerprint
from tltool.data.record import Crystal, Floats, Ints
from tltool.data.splits import group_names
from tltool.data.store import Store
from tltool.elements import properties, symbol
from tltool.errors import ConfigError, DataError

GROUPS = ("element", "cluster", "space_group", "prototype", "composition")

Members = list[frozenset[str]]


def members(records: Store, rows: Ints, group: str, clusters: int) -> Members:
    """Return for each of ``rows`` (r,) the names of the groups that its crystal belongs to.

    A crystal belongs to the groups of all its elements, and else to one group. ``clusters`` is the number of clusters.
    Raise ConfigError for an unknown ``group``, and DataError where structures are needed and there are formulas only.
    """
    if group in ("prototype", "composition"):
        return [frozenset([name]) for name in group_names(records, rows, group)]
    crystals = [records.crystal(int(row)) for row in rows]
    if group == "element":
        return [frozenset(symbol(int(z)) for z in np.unique(one.numbers)) for one in crystals]
    if group == "cluster":
        return [frozenset([str(k)]) for k in clustered(crystals, clusters)]
    if group == "space_group":
        if records.amounts is not None:
            raise DataError("split.group=space_group needs structures, and these are formulas; use split=element.")
        return [frozenset([str(fingerprint.space_group(one))]) for one in crystals]
    raise ConfigError(f"split.group={group!r} is not known; use {', '.join(GROUPS[:-1])} or {GROUPS[-1]}.")


def clustered(crystals: Sequence[Crystal], clusters: int) -> list[int]:
    """Return the cluster of each crystal: k-means of ``composition_features``, the same for every seed of a split.

    Leave one cluster out: Meredig and others, Mol. Syst. Des. Eng. 3, 819 (2018), doi:10.1039/C8ME00012C. Raise
    ConfigError unless there are at least two clusters and as many crystals.
    """
    from sklearn.cluster import KMeans

    if not 2 <= clusters <= len(crystals):
        raise ConfigError(f"split.clusters={clusters} must be 2 to {len(crystals)}, the number of labelled crystals.")
    found = np.stack([composition_features(one) for one in crystals])
    deviation = found.std(axis=0)
    scaled = (found - found.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    distinct = len(np.unique(scaled.round(9), axis=0))
    fitted = KMeans(n_clusters=min(clusters, distinct), n_init=4, random_state=0).fit(scaled)
    return [int(k) for k in fitted.labels_]


def composition_features(crystal: Crystal) -> Floats:
    """Return (18,): mean and standard deviation over the atoms of each property of ``elements.PROPERTIES``."""
    numbers, place = np.unique(crystal.numbers, return_inverse=True)
    share = np.bincount(place, crystal.amounts).astype(float)
    share /= share.sum()
    values = properties()[numbers].astype(float)
    mean = share @ values
    return np.concatenate([mean, np.sqrt(share @ (values - mean) ** 2)])
