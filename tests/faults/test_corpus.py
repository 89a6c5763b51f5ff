"""What ``make fuzz`` has found is read as it should be ever since: a value, or an error of tltool, within 2 s."""

import base64
import contextlib
import json
import time
import warnings
from pathlib import Path

import pytest
from faults.mutated_files import READERS, fresh

from tltool.errors import TltoolError

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))


@pytest.mark.parametrize("case", CORPUS, ids=lambda file: file.stem)
def test_a_found_input_is_read_or_refused(case: Path, tmp_path: Path) -> None:
    about = json.loads(case.read_text(encoding="utf-8"))
    fresh(about["reader"], tmp_path / "files")
    (tmp_path / "files" / about["file"]).write_bytes(base64.b64decode(about["content"]))
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(TltoolError):
            READERS[about["reader"]].read(tmp_path / "files")
    assert time.process_time() - began < 4


@pytest.mark.parametrize("name", READERS)
def test_the_files_that_are_changed_are_valid(name: str, tmp_path: Path) -> None:
    fresh(name, tmp_path / "files")
    assert READERS[name].read(tmp_path / "files")
