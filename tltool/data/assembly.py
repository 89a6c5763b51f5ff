"""Batches put together by compiled code: what stands between ``loading.py``, which has the plain form, and
``batch.cpp``.

Whoever has compiled ``SOURCE`` hands it in with ``use``. Sizes as in ``fields``.
"""

import ctypes
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tltool.fields import Graph

SOURCE = Path(__file__).with_name("batch.cpp")
# The structures of batch.cpp: q a whole number or an address. Columns are followed by their kind.
_STARTS = ("first_node", "first_distance", "first_edge")
_COLUMNS = ("number", "multiplicity", "neighbour", "edge_multiplicity", "distance_index", "distance")
_KINDS = {kind: k for k, kind in enumerate((torch.uint8, torch.int32, torch.int64, torch.float32, torch.float64))}
_TABLE, _BATCH = f"{1 + len(_STARTS) + 2 * len(_COLUMNS)}q", "10q"

_library: ctypes.CDLL | None = None


def use(library: ctypes.CDLL | None) -> None:
    """Put batches together with ``library``, made from ``SOURCE``; None for the plain form."""
    global _library
    _library = library
    if library is not None:
        facts, number = ctypes.c_char_p, ctypes.c_int64
        library.measure.argtypes = [facts, number, number, ctypes.POINTER(ctypes.c_int64)]
        library.fill.argtypes = [facts, number, number, facts, ctypes.c_int]
        library.fill.restype = None


def in_use() -> ctypes.CDLL | None:
    """Return the library that batches are put together with; None for the plain form."""
    return _library


def kinds(table: Mapping[str, Tensor]) -> tuple[int, ...] | None:
    """Return the kind of each column of a table's tensors, by name; None if it cannot be taken as it is."""
    starts, columns = [table[name] for name in _STARTS], [table[name] for name in _COLUMNS]
    if not all(tensor.is_cpu and tensor.is_contiguous() for tensor in (*starts, *columns)):
        return None
    if not all(start.dtype == torch.int64 for start in starts) or not all(c.dtype in _KINDS for c in columns):
        return None
    return tuple(_KINDS[column.dtype] for column in columns)


def select(table: Mapping[str, Tensor], kinds: tuple[int, ...] | None, rows: Tensor) -> Graph | None:
    """Return the graphs of ``rows`` (c,) of a table's tensors, by name, and their ``kinds``, as ``Table.select`` does,
    its line graph left out; None where the plain form has to do it.
    """
    kind = torch.get_default_dtype()
    if _library is None or kinds is None or not rows.is_cpu or rows.dtype != torch.int64:
        return None
    rows = rows.contiguous()
    starts = [table[name].data_ptr() for name in _STARTS]
    columns = [word for name, code in zip(_COLUMNS, kinds, strict=True) for word in (table[name].data_ptr(), code)]
    facts = struct.pack(_TABLE, len(table["first_node"]) - 1, *starts, *columns)
    sizes = (ctypes.c_int64 * 3)()
    if kind not in (torch.float32, torch.float64) or not _library.measure(facts, rows.data_ptr(), len(rows), sizes):
        return None
    n, e, d = sizes
    lengths = (n, n, len(rows) + 1, n + 1, e, e, e)
    whole_numbers = [torch.empty(length, dtype=torch.int64) for length in lengths]
    reals = [torch.empty(length, dtype=kind) for length in (n, e, d)]
    batch = struct.pack(_BATCH, *(tensor.data_ptr() for tensor in (*whole_numbers, *reals)))
    _library.fill(facts, rows.data_ptr(), len(rows), batch, kind == torch.float32)
    number, crystal, first_node, first_edge, receiver, neighbour, distance_index = whole_numbers
    return Graph(
        number=number,
        multiplicity=reals[0],
        crystal=crystal,
        first_node=first_node,
        first_edge=first_edge,
        receiver=receiver,
        neighbour=neighbour,
        edge_multiplicity=reals[1],
        distance_index=distance_index,
        distance=reals[2],
    )
