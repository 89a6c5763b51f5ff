"""The start-up bench runs from end to end; how fast is never tested."""

import re
import subprocess
import sys

import pytest
from support import ROOT

pytestmark = pytest.mark.slow


def test_both_figures_are_told() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "bench_startup.py"), "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    told = re.fullmatch(r"tltool --help (\S+) s .* to its first batch (\S+) s \(aim 8 s\)\n", done.stdout)
    assert told
    quick, first = map(float, told.groups())
    assert 0 < quick < first
