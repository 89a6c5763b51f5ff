"""The guard of the encoders runs from end to end and leaves none out; how fast is never tested."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import bench_encoders

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_a_small_size_and_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_encoders, "LAST", tmp_path / "last.json")
    words = ["--encoders", "megnet", "--crystals", "80", "--turns", "1", "--threads", "1", "--save"]
    bench_encoders.main(words)
    assert "training megnet" in capsys.readouterr().out
    (tmp_path / "last.json").write_text((tmp_path / "last.json").read_text().replace("training megnet", "training x"))
    bench_encoders.main(words)
    kept = (tmp_path / "last.json").read_text()
    assert "training megnet" in kept
    assert "training x" in kept, "what was not measured now is not forgotten"


def test_every_encoder_has_its_row() -> None:
    there = {file.stem for file in (SCRIPTS.parent / "configs" / "encoder").glob("*.yaml")}
    assert {*bench_encoders.names(), "cgcnn"} == there
    kept = (SCRIPTS / "bench_encoders_last.json").read_text()
    assert all(f'"training {name}"' in kept and f'"peak memory {name}"' in kept for name in bench_encoders.names())
