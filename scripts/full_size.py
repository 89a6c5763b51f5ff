"""A dump of the size of Alexandria on this machine: written, prepared, trained on for one epoch, and killed twice.

The entries are bundled crystals, each at a volume of its own, in the layout of the genuine dumps: files
``alexandria_00000.json.bz2`` of 100,000 entries. ``tltool prepare`` is killed when half of the files are done and
started again; ``tltool pretrain`` is killed after it has saved a state, and resumed. Prints time, disk and memory of
each step, and the last line as JSON. What it wrote is removed at the end, unless ``--keep``; started again in a folder
that was kept, it takes the files that are there.

``--folder`` needs about 5 GB for a million entries.
"""

import argparse
import bz2
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil

GENUINE = 5_777_914
"""Entries of Alexandria, PBE, 2025.07.02."""

_DATA = (
    '{{"@module":"pymatgen.entries.computed_entries","@class":"ComputedStructureEntry","energy":{energy:.8f},'
    '"composition":{composition},"entry_id":null,"correction":0.0,"energy_adjustments":[],"parameters":{{}},"data":{{'
    '"mat_id":"agm{number:09d}","prototype_id":"{formula}","formula":"{formula}","spg":1,"nsites":{size},'
    '"stress":[[0.0,0.0,0.0],[0.0,0.0,0.0],[0.0,0.0,0.0]],"energy_total":{energy:.8f},"total_mag":-8.94e-05,'
    '"band_gap_ind":0.0,"band_gap_dir":0.0056,"dos_ef":2.5487456,"energy_corrected":{energy:.8f},"e_form":{e_form:.8f},'
    '"e_above_hull":0.0013688,"e_phase_separation":0.0013688,"decomposition":"{formula}"}},"structure":{{'
    '"@module":"pymatgen.core.structure","@class":"Structure","charge":0.0,"lattice":{{"matrix":{matrix},'
    '"volume":{volume:.8f}}},"sites":[{sites}],"properties":{{}}}}}}'
)


@cache
def _crystals() -> list[dict[str, Any]]:
    """Return what stays the same of every bundled crystal at another volume."""
    from tltool.data import store
    from tltool.data.download.locate import BUNDLED
    from tltool.elements import symbol

    demo, found = store.load(BUNDLED / "demo.h5"), []
    for row in range(len(demo)):
        record = demo.record(row)
        names = [symbol(int(number)) for number in record.crystal.numbers]
        counts = {name: names.count(name) for name in dict.fromkeys(names)}
        site = '{{"species":[{{"element":"{0}","occu":1}}],"abc":[{1[0]:.8f},{1[1]:.8f},{1[2]:.8f}],"properties":{{}},'
        site += '"label":"{0}","xyz":'
        found.append(
            {
                "lattice": record.crystal.lattice,
                "xyz": record.crystal.frac @ record.crystal.lattice,
                "sites": [site.format(name, abc) for name, abc in zip(names, record.crystal.frac, strict=True)],
                "composition": json.dumps(counts),
                "formula": "".join(f"{name}{n}" for name, n in counts.items()),
                "size": len(names),
                "e_form": record.labels["e_form"],
            }
        )
    return found


def entry(number: int) -> str:
    """Return the JSON of entry ``number``: a bundled crystal with an even strain of at most 3 %."""
    about = _crystals()[number % len(_crystals())]
    strain = 1 + 0.03 * np.sin(number)
    lattice = about["lattice"] * strain
    xyz = [f"[{x:.8f},{y:.8f},{z:.8f}]}}" for x, y, z in (about["xyz"] * strain).tolist()]
    return _DATA.format(
        number=number,
        energy=-4.5 * about["size"] + 0.01 * np.sin(number),
        composition=about["composition"],
        formula=about["formula"],
        size=about["size"],
        e_form=about["e_form"],
        matrix=json.dumps(np.round(lattice, 8).tolist()),
        volume=abs(np.linalg.det(lattice)),
        sites=",".join(map("".join, zip(about["sites"], xyz, strict=True))),
    )


def write(place: Path, begin: int, end: int) -> None:
    """Write the entries ``begin`` to ``end`` as a dump, completely or not at all."""
    new = place.with_suffix(".new")
    with bz2.open(new, "wt", compresslevel=9, encoding="utf-8") as file:
        file.write('{"entries": [')
        for number in range(begin, end):
            file.write((", " if number > begin else "") + entry(number))
        file.write("]}")
    new.replace(place)


def make(folder: Path, count: int, per_file: int, workers: int) -> None:
    """Write the files of the dump that are not in ``folder`` yet."""
    folder.mkdir(parents=True, exist_ok=True)
    places = [(folder / f"alexandria_{n:05d}.json.bz2", begin) for n, begin in enumerate(range(0, count, per_file))]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        todo = [(place, begin, min(begin + per_file, count)) for place, begin in places if not place.is_file()]
        for done in [pool.submit(write, *words) for words in todo]:
            done.result()


class Watched:
    """A command in a process group of its own, with the most memory of all its processes together."""

    def __init__(self, words: Sequence[str], home: Path) -> None:
        self.memory = self.private = 0
        self._words = [sys.executable, "-m", "tltool", *words]
        self._home, self.seconds = home, 0.0

    def run(self, until: Callable[[], bool] = lambda: False) -> bool:
        """Run until the command ends, or kill it when ``until``; return whether it was killed."""
        began = time.monotonic()
        log = (self._home / "log").open("a")
        with log, subprocess.Popen(self._words, cwd=self._home, stdout=log, stderr=log, start_new_session=True) as one:
            while one.poll() is None:
                self._look(one.pid)
                self.seconds = time.monotonic() - began
                if until():
                    os.killpg(one.pid, signal.SIGKILL)
                    one.wait()
                    return True
                time.sleep(0.2)
        if one.returncode:
            raise SystemExit(f"{' '.join(self._words)} ended with code {one.returncode}; see {self._home / 'log'}.")
        return False

    def _look(self, pid: int) -> None:
        memory = private = 0
        for process in _tree(pid):
            try:
                facts = process.memory_info()
            except psutil.Error:
                continue
            memory += facts.rss
            private += facts.rss - getattr(facts, "shared", 0)
        self.memory, self.private = max(self.memory, memory), max(self.private, private)


def _tree(pid: int) -> Iterator[psutil.Process]:
    try:
        first = psutil.Process(pid)
        yield from (first, *first.children(recursive=True))
    except psutil.Error:
        return


def step(name: str, words: Sequence[str], home: Path, until: Callable[[], bool], again: Sequence[str] = ()) -> Any:
    """Run a command, kill it when ``until``, run it again with ``again`` too; print and return the figures."""
    before = size(home)
    first = Watched(words, home)
    killed = first.run(until)
    runs = [first]
    if killed:
        print(f"{name}: killed after {first.seconds:.0f} s", flush=True)
        runs.append(Watched([*words, *again], home))
        runs[-1].run()
    found = {
        "seconds": round(sum(run.seconds for run in runs), 1),
        "killed": killed,
        "memory": max(run.memory for run in runs),
        "private": max(run.private for run in runs),
        "disk": size(home) - before,
    }
    memory, private, disk = (found[key] / 1e9 for key in ("memory", "private", "disk"))
    print(
        f"{name}: {found['seconds']:.0f} s, {disk:.2f} GB written, peak memory {memory:.2f} GB, {private:.2f} GB "
        f"of it no mapped files{', killed and resumed once' if killed else ''}",
        flush=True,
    )
    return found


def size(folder: Path) -> int:
    """Return the bytes of all files in ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(argv: Sequence[str] | None = None) -> None:
    """Write the dump, prepare it, train on it; print what each took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=GENUINE, help="entries [%(default)s]")
    parser.add_argument("--folder", type=Path, required=True, help="for all that is written")
    parser.add_argument("--per-file", type=int, default=100_000, help="entries of a file [%(default)s]")
    parser.add_argument("--workers", type=int, default=2, help="processes [%(default)s]")
    parser.add_argument("--keep-every", type=float, default=1.0, help="minutes between saved states [%(default)s]")
    parser.add_argument("--keep", action="store_true", help="leave all that was written")
    options = parser.parse_args(argv)
    home = options.folder.absolute()
    dumps, cached, runs = home / "dumps", home / "cache", home / "runs"
    began = time.monotonic()
    make(dumps, options.count, options.per_file, options.workers)
    files = len(list(dumps.iterdir()))
    print(f"{options.count:,} entries in {files} files, {size(dumps) / 1e9:.2f} GB: {time.monotonic() - began:.0f} s")
    common = ["data=pbe", f"data.root={dumps}", f"cache={cached}", f"runs={runs}", f"workers={options.workers}"]
    found: dict[str, Any] = {"entries": options.count, "files": files, "dumps": size(dumps)}

    def never() -> bool:
        return False

    def half() -> bool:
        return len([p for p in cached.glob("pbe-*/*.bz2-*.json") if "timed" not in p.name]) * 2 >= files > 1

    def saved() -> bool:
        return next(runs.glob("pretrain/*/state.json"), None) is not None

    found["dry run"] = step("dry run", ["prepare", *common, "dry_run=true"], home, never)
    estimate = json.loads(max(runs.glob("prepare/*/metrics.json")).read_text(encoding="utf-8"))["parts"]["pbe"]
    found["estimate"] = {key: estimate[key] for key in ("disk", "memory", "seconds")}
    seconds = estimate["seconds"]
    print(
        f"the dry run said: {estimate['disk'] / 1e9:.2f} GB, {estimate['memory'] / 1e9:.2f} GB of memory, "
        f"{'unknown' if seconds is None else round(seconds)} s",
        flush=True,
    )
    found["prepare"] = step("prepare", ["prepare", *common], home, half)
    train = ["pretrain", *common, "fit.epochs=1", "fit.batch_size=256", "split.val=0.01", "split.test=0.01"]
    # The overlap audit takes 0.7 ms a crystal; it is no part of an epoch.
    train += ["overlap=none", f"keep_every={options.keep_every}"]
    found["epoch"] = step("one epoch", train, home, saved, ["resume=latest"])
    print(json.dumps(found))
    if not options.keep:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
