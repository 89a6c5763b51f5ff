import io
import subprocess
import sys

from rich.console import Console
from run_folders import make_run

from tltool.reporting.finished_runs import collect
from tltool.reporting.render.terminal import remarks, tables


def test_terminal_table(three_seeds):
    make_run(three_seeds / "odd", "[bold]x[/bold]", 0, 0.3)
    console = Console(width=80, file=io.StringIO())
    console.print(*tables(collect([three_seeds]).results), sep="\n")
    text = console.file.getvalue()
    assert "bulk_modulus (elastic), log10_K_VRH, 100 training crystals" in text
    line = next(line for line in text.splitlines() if "finetune" in line)
    assert line.split() == ["finetune", "(best)", "3", "0.120±0.020", "12.0±2.0", "0.480", "12,345", "4.20", "positive"]
    assert "[bold]x[/bold]" in text


def test_remarks_below_the_table(three_seeds):
    for seed in range(2):
        make_run(three_seeds / f"other{seed}", "freeze", seed, 0.1, identity={"shape": "wider"})
    make_run(three_seeds / "one", "lora", 0, 0.19, command="tltool transfer mode=lora")
    first, second, third = remarks(collect([three_seeds]).results)
    assert first.text == (
        "Not compared: 2 freeze runs of bulk_modulus, log10_K_VRH. The models differ in shape, because their "
        "sources have different settings."
    )
    assert (first.command, third.command) == ("", "")
    assert second.text.startswith(
        "bulk_modulus (elastic), log10_K_VRH, 100 training crystals; shape shape, lora: With 100"
    )
    assert second.command.startswith("tltool transfer -m source=runs/pretrain/model mode=scratch,lora 'split.draw=")


def test_importing_report_is_light():
    code = "import sys, tltool.stages.report as r; print([m for m in ('matplotlib', 'pandas', 'scipy.stats') " \
        "if m in sys.modules])"  # fmt: skip
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
