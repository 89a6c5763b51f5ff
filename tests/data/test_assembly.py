"""Compiled assembly of batches gives what the plain form gives, to the bit."""

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from support import FULL, QUOTIENT, recipe_of

from tltool.data import assembly, graphs, loading
from tltool.data.record import Crystal
from tltool.fields import Graph
from tltool.model import building

pytestmark = pytest.mark.skipif(building.compiler() is None, reason="no C++ compiler is here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(autouse=True)
def _library(folder: Path) -> Iterator[None]:
    assembly.use(building.library(assembly.SOURCE, (), folder, print))
    yield
    assembly.use(None)


def both(table: loading.Table, rows: torch.Tensor) -> tuple[Graph, Graph]:
    assert assembly.select(vars(table), table._kinds, rows) is not None
    mine = table.select(rows)
    library = assembly._library
    assembly.use(None)
    plain = table.select(rows)
    assembly.use(library)
    return plain, mine


def assert_same(plain: Graph, mine: Graph) -> None:
    for field in fields(Graph):
        a, b = getattr(plain, field.name), getattr(mine, field.name)
        if isinstance(a, torch.Tensor):
            assert a.dtype == b.dtype
            assert torch.equal(a, b), field.name
    assert (plain.line is None) == (mine.line is None)
    if plain.line is not None and mine.line is not None:
        assert_same(plain.line, mine.line)


@pytest.mark.parametrize("recipe", [QUOTIENT, FULL, recipe_of("alignn")], ids=["quotient", "full", "angles"])
@pytest.mark.parametrize("rows", [[0], [3, 3, 1], [], list(range(39, -1, -1))])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_batch_equals_the_plain_one(crystals: list[Crystal], recipe, rows: list[int], kind: torch.dtype) -> None:
    torch.set_default_dtype(kind)
    try:
        table = loading.table(graphs.build(crystals[:40], recipe))
        assert_same(*both(table, torch.tensor(rows, dtype=torch.int64)))
    finally:
        torch.set_default_dtype(torch.float32)


def test_what_it_does_not_take_is_plain(crystals: list[Crystal]) -> None:
    table = loading.table(graphs.build(crystals[:5], QUOTIENT))
    assert assembly.select(vars(table), table._kinds, torch.tensor([0, 1], dtype=torch.int32)) is None
    assert assembly.select(vars(table), table._kinds, torch.tensor([-1])) is None
    assert assembly.select(vars(table), table._kinds, torch.tensor([5])) is None
    with pytest.raises(IndexError):
        table.select(torch.tensor([5]))
    assert replace(table, distance=table.distance.half())._kinds is None
    spaced = replace(table, distance=table.distance.repeat_interleave(2)[::2])
    assert spaced._kinds is None
    assert torch.equal(spaced.select(torch.tensor([1])).distance, table.select(torch.tensor([1])).distance)
