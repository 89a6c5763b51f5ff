"""Faults 6, 7, 27 and 31 of the list in docs/reliability.md: states of another kind, moved runs, records that fail."""

import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import mutated_files
from support import QUOTIENT, store_of

from tltool import instantiate
from tltool.data import prepare
from tltool.data.graph import crystal_graphs
from tltool.data.prepare import Task
from tltool.data.record import Record
from tltool.errors import CheckpointError, DataError, TltoolError
from tltool.training.saved_state import files


def test_06_no_state_of_another_kind_is_unexpected(tmp_path: Path) -> None:
    """Truncated, empty, a web page, a folder, a state that lacks a key or has values of another kind."""
    made = mutated_files.fresh("state", tmp_path / "files")
    (file,) = (one for one in made if one.suffix == ".pt")
    whole = file.read_bytes()
    state = torch.load(file, weights_only=True)
    kinds: list[bytes | dict[str, Any]] = [whole[:-40], b"", b"<html></html>", {}]
    free = ("total", "steps", "batch_size", "random_cuda")  # of later versions, of a GPU
    kinds += [{k: v for k, v in state.items() if k != key} for key in state if key not in free]
    kinds += [state | {key: other} for key in ("epoch", "order", "model", "kept") for other in ("x", 3.5, [1])]
    for kind in kinds:
        if isinstance(kind, bytes):
            file.write_bytes(kind)
        else:
            torch.save(kind, file)
        with pytest.raises(TltoolError):
            mutated_files.READERS["state"].read(tmp_path / "files")
    file.unlink()
    file.mkdir()
    with pytest.raises(CheckpointError, match="is damaged"):
        files.read(tmp_path / "files", print)


class Planted:
    """Runs a command when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._proof}",)


def test_07_a_state_runs_no_code(tmp_path: Path) -> None:
    mutated_files.fresh("state", tmp_path / "files")
    (file,) = (tmp_path / "files").glob("*.pt")
    state, proof = torch.load(file, weights_only=True), tmp_path / "proof"
    for write in (lambda: torch.save(state | {"epoch": Planted(proof)}, file), lambda: _pickled(Planted(proof), file)):
        write()
        with pytest.raises(CheckpointError, match="is damaged"):
            mutated_files.READERS["state"].read(tmp_path / "files")
    assert not proof.exists()


def _pickled(thing: object, file: Path) -> None:
    file.write_bytes(pickle.dumps(thing))


def test_27_a_moved_run_goes_on(tmp_path: Path) -> None:
    mutated_files.fresh("state", tmp_path / "files")
    shutil.move(tmp_path / "files", tmp_path / "elsewhere")
    for file in (tmp_path / "elsewhere").iterdir():
        os.utime(file, (0, 0))
    assert mutated_files.READERS["state"].read(tmp_path / "elsewhere").epoch == 1


def a_task(place: Path) -> Task:
    node = {"_target_": "tltool.data.adapters.bundled.read", "file": "x.h5"}
    return Task(place / "x.h5", place / "out" / "x", node, (), {"name": "x"}, QUOTIENT)


def records(*names: str) -> Iterator[Record]:
    known = store_of(list(names))
    for row in range(len(known)):
        yield known.record(row)._replace(labels={"e_form": 0.0})


def test_31_a_record_that_an_adapter_cannot_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*given: Any, **keys: Any) -> Iterator[Record]:
        yield from records("a", "b")
        raise KeyError("lattice")

    monkeypatch.setattr(instantiate, "call", read)
    (tmp_path / "x.h5").write_bytes(b"x")
    with pytest.raises(DataError, match=r"x\.h5: what follows the record 'b' cannot be read \(KeyError: 'lattice'\)"):
        prepare.prepare(a_task(tmp_path))


def test_31_a_crystal_without_a_graph_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = crystal_graphs.build

    def failing(crystals: Any, *given: Any) -> Any:
        every = list(crystals)
        if any(len(crystal.numbers) == 2 for crystal in every):
            raise ZeroDivisionError("division by zero")
        return build(every, *given)

    def read(*given: Any, **keys: Any) -> Iterator[Record]:
        yield from records("a", "b")
        yield next(iter(_pair()))

    def _pair() -> Iterator[Record]:
        known = store_of(["bad"], [[29, 30]])
        yield known.record(0)._replace(labels={"e_form": 0.0})

    monkeypatch.setattr(instantiate, "call", read)
    monkeypatch.setattr(crystal_graphs, "build", failing)
    (tmp_path / "x.h5").write_bytes(b"x")
    with pytest.raises(DataError, match=r"x\.h5, id 'bad': its graph cannot be built \(ZeroDivisionError: division"):
        prepare.prepare(a_task(tmp_path))
    assert not list((tmp_path / "out").glob("*.json"))
