"""Real runs on two tables of one name: each verdict rests on its own table, and the command that is printed works."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
from commands import run
from pymatgen.core import Lattice, Structure

from tltool.data.store import Store
from tltool.model.property_model import PropertyModel
from tltool.training.saved_model import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]

WORDS = ("target=table", "target.data.quantities=[e_form]", "fit.epochs=1", "source=source", "workers=1")


@pytest.fixture(scope="module")
def home(demo: Store, source: PropertyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of formation energies of other crystals, one of them under a name that a shell has to be told."""
    folder = tmp_path_factory.mktemp("comparison")
    checkpoint.save(folder / "source", source)
    for name, rows in (("a b.csv", range(200, 240)), ("b.csv", range(240, 280))):
        lines = []
        for row in rows:
            crystal = demo.crystal(row)
            text = json.dumps(Structure(Lattice(crystal.lattice), crystal.numbers, crystal.frac).as_dict())
            lines.append(f'{demo.ids[row]},"{text.replace(chr(34), chr(34) * 2)}",{demo.label("e_form")[row]}')
        (folder / name).write_text("id,structure,e_form\n" + "\n".join(lines) + "\n")
    return folder


def said(folder: Path) -> list[dict[str, str]]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == "say"]


def test_a_scratch_run_on_another_table_is_no_baseline_and_the_command_makes_one(home: Path) -> None:
    run(home, "transfer", *WORDS, "mode=scratch", "target.data.root=b.csv", "hydra.run.dir=runs/transfer/other")
    mine = (
        "target.data.root='a b.csv'",
        "mode=finetune",
        "mode.lr_scale={encoder: 0.3}",
        "hydra.run.dir=runs/transfer/me",
    )
    done = run(home, "transfer", *WORDS, *mine)
    texts = [line["text"] for line in said(home / "runs/transfer/me")]
    assert "e_form: the scratch run other cannot be the baseline. The data differ (a b.csv and b.csv)." in texts
    commands = [line["command"] for line in said(home / "runs/transfer/me") if "command" in line]
    (command,) = [one for one in commands if "split=cv" not in one]
    assert all(line in done.stderr.splitlines() for line in command.splitlines())

    # Pasted into a shell, but for two draws instead of twenty.
    assert command.count("'split.draw=range(20)'") == 2
    few = command.replace("range(20)", "0,1")
    (home / "bin").mkdir()
    # What the shell makes of it is written down, and then run here.
    (home / "bin" / "tltool").write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" END >>{shlex.quote(str(home / 'words'))}\n")
    (home / "bin" / "tltool").chmod(0o755)
    env = os.environ | {"PATH": f"{home}/bin:{os.environ['PATH']}"}
    pasted = subprocess.run(["sh", "-ec", few], cwd=home, env=env, capture_output=True, text=True, timeout=400)
    assert pasted.returncode == 0, pasted.stderr
    commands = (home / "words").read_text().removesuffix("END\n").split("END\n")
    assert len(commands) == 2
    for words in commands:
        run(home, *words.splitlines())
    made = [json.loads(file.read_text()) for file in home.glob("runs/transfer/*/*/metrics.json")]
    first = json.loads((home / "runs/transfer/me/metrics.json").read_text())
    assert sorted((m["mode"], m["draw"]) for m in made) == [
        ("finetune", 0), ("finetune", 1), ("scratch", 0), ("scratch", 1),
    ]  # fmt: skip
    for metrics in made:
        assert {k: metrics["identity"][k] for k in ("data", "test", "shape")} == {
            k: first["identity"][k] for k in ("data", "test", "shape")
        }
        if metrics["mode"] == "finetune":
            assert metrics["settings"] == first["settings"]

    report = run(home, "report", "inputs=[runs/transfer]", "output=page")
    page = (home / "page" / "report.md").read_text()
    assert "### table, e_form, 32 training crystals; a b.csv" in page
    assert "### table, e_form, 32 training crystals; b.csv" in page
    assert "| finetune | me | " not in page
    assert "split.draw is null and 0." in page
    assert "Not compared: 1 finetune run of table, e_form." in report.stderr
