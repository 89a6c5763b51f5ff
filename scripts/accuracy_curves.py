"""Draw test error against training rows: scratch, fine-tuned, descriptors alone, with own sources, with a potential.

python scripts/accuracy_curves.py --data DIR --out docs/accuracy.svg makes the runs that are missing under --runs, with
tltool transfer, prints a table and draws the figure. All series of a target have the same 500 test rows and the same
training rows. The files of DIR are those that configs/data/matbench_phonons.yaml, matbench_log_kvrh.yaml,
gaps_gllbsc.yaml and gaps_hse.yaml describe. No default was chosen on these targets' test rows.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from tltool import plot_style

Series = Mapping[str, Mapping[int, Sequence[float]]]
"""{series: {training rows: test MAE of each draw}}."""

FILES = {
    "matbench_phonons": "matbench_phonons.json.gz",
    "matbench_log_kvrh": "matbench_log_kvrh_part.json.gz",
    "gaps_gllbsc": "gaps_pbe_hse_gllbsc.json.gz",
    "gaps_hse": "gaps_pbe_hse_gllbsc.json.gz",
}
"""Target: the file of its data in the folder of --data."""

LABELS = {
    "matbench_phonons": "last phonon peak, 1/cm",
    "matbench_log_kvrh": "log10 K_VRH, log10(GPa)",
    "gaps_gllbsc": "GLLB-SC gap, eV",
    "gaps_hse": "HSE gap, eV",
}

_PROCESS = ["mode=features", "mode/regressor=additive_gp"]
SERIES = {
    "scratch": ["mode=scratch"],
    "fine-tuned": ["mode=finetune"],
    "descriptors alone": [*_PROCESS, "mode.level=[]", "mode.extra_features=[elements,geometry]"],
    "additive, own sources": [*_PROCESS, "source=[bundled/cgcnn,bundled/megnet]"],
    "additive, with a potential": [*_PROCESS, "source=[bundled/cgcnn,bundled/megnet,chgnet]"],
    "auto": ["mode=auto"],
}
"""Series: how it is trained, in overrides of tltool transfer."""

NETWORKS = ("scratch", "fine-tuned")
"""Series that train the network, of which there are fewer draws."""


def make(target: str, name: str, sizes: Sequence[int], draws: int, data: Path, runs: Path, more: Sequence[str]) -> None:
    """Make the runs of a series that are not under ``runs`` yet."""
    folder, file = runs / target / name.replace(" ", "-").replace(",", ""), FILES[target]
    words = [f"target={target}", f"target.data.root={data / file}"]
    # The shared part of this Matbench file has its layout and not its checksum.
    words += ["target.data.sha256=null"] if target == "matbench_log_kvrh" else []
    own = SERIES[name]
    words += own if any(word.startswith("source=") for word in own) else ["source=bundled", *own]
    words += ["split.seed=0", "split.test=500", f"runs={folder}", *more]
    done = found(folder)
    for size in sizes:
        if left := sorted(set(range(draws)) - done.get(size, {}).keys()):
            one = [f"split.train_size={size}", f"split.draw={','.join(map(str, left))}"]
            subprocess.run([sys.executable, "-m", "tltool", "transfer", "-m", *words, *one], check=True)


def found(runs: Path) -> dict[int, dict[int, float]]:
    """Return {training rows: {draw: test MAE of the first quantity}} of the finished transfers under ``runs``."""
    table: dict[int, dict[int, float]] = {}
    for path in sorted(runs.rglob("metrics.json")):
        metrics = json.loads(path.read_text(encoding="utf-8"))
        if metrics["stage"] == "transfer":
            block = next(iter(metrics["quantities"].values()))
            table.setdefault(int(metrics["train_size"]), {})[int(metrics["draw"])] = float(block["test"]["MAE"])
    return table


def curves(runs: Path, target: str) -> dict[str, dict[int, list[float]]]:
    """Return the ``Series`` of ``target`` that have runs under ``runs``."""
    made = {name: found(runs / target / name.replace(" ", "-").replace(",", "")) for name in SERIES}
    return {name: {n: list(of.values()) for n, of in sorted(table.items())} for name, table in made.items() if table}


def table(of: Mapping[str, Series]) -> list[str]:
    """Return the lines of a Markdown table: mean and standard deviation of the test MAE over draws."""
    lines = ["| target | rows | draws | " + " | ".join(SERIES) + " |", "|---|---|---|" + "---|" * len(SERIES)]
    for target, series in of.items():
        for size in sorted({n for points in series.values() for n in points}):
            drawn = [series.get(name, {}).get(size, []) for name in SERIES]
            counts = sorted({len(values) for values in drawn if values})
            cells = [_cell(values) for values in drawn]
            lines.append(f"| {LABELS[target]} | {size} | {', '.join(map(str, counts))} | {' | '.join(cells)} |")
    return lines


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
    return f"{fmean(values):.3g}{spread}"


def draw(of: Mapping[str, Series], out: Path) -> None:
    """Draw a panel for each target: the mean test MAE over draws, with its standard deviation as a bar."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "tltool", "font.size": 9.0, "legend.frameon": False, "axes.grid": True}):
        columns = min(len(of), 2)
        lines = -(-len(of) // columns)
        figure = Figure(figsize=(3.4 * columns, 0.5 + 3.0 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, (target, series) in zip(panels, of.items(), strict=False):
            for k, (name, points) in enumerate((n, series[n]) for n in SERIES if n in series):
                means = [fmean(values) for values in points.values()]
                spreads = [stdev(values) if len(values) > 1 else 0.0 for values in points.values()]
                look = {"color": plot_style.COLOURS[k], "marker": plot_style.MARKERS[k], "markersize": 4}
                axes.errorbar(list(points), means, yerr=spreads, label=name, capsize=2, linewidth=1.3, **look)
            axes.set(xscale="log", yscale="log", title=LABELS[target], xlabel="training rows", ylabel="test MAE")
            ticks = sorted({n for points in series.values() for n in points})
            axes.set_xticks(ticks, [str(n) for n in ticks])
            axes.minorticks_off()
            axes.margins(x=0.12)
            axes.yaxis.set_major_formatter("{x:.3g}")
            low, high = axes.get_ylim()
            axes.set_yticks(
                [t * 10.0**k for k in range(-4, 5) for t in (1, 1.5, 2, 3, 5, 7) if low < t * 10.0**k < high]
            )
        for axes in panels[len(of) :]:
            axes.set_axis_off()
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3)
        figure.savefig(out, metadata={"Date": None})


def main(argv: Sequence[str] | None = None) -> None:
    """Make the runs that are missing, print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with the files of the targets; without it no run is made")
    parser.add_argument("--targets", nargs="+", choices=list(FILES), default=list(FILES))
    parser.add_argument("--series", nargs="+", choices=list(SERIES), default=list(SERIES))
    parser.add_argument("--sizes", nargs="+", type=int, default=[50, 100, 200, 500])
    parser.add_argument("--draws", type=int, default=5, help="draws of training rows [%(default)s]")
    parser.add_argument("--network-draws", type=int, default=3, help="of series that train the network [%(default)s]")
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"), help="for runs [%(default)s]")
    parser.add_argument("--out", type=Path, help="the figure, as accuracy.svg")
    parser.add_argument("more", nargs="*", help="further overrides of tltool transfer, such as fit.epochs=2")
    given = parser.parse_args(argv)
    for name in given.series if given.data else ():
        for target in given.targets:
            draws = given.network_draws if name in NETWORKS else given.draws
            make(target, name, given.sizes, draws, given.data, given.runs, given.more)
    of = {target: series for target in given.targets if (series := curves(given.runs, target))}
    print("\n".join(table(of)))
    if given.out:
        draw(of, given.out)


if __name__ == "__main__":
    main()
