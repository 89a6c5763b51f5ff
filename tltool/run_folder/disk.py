"""What the folder of all runs holds: a run or a sweep a line, with its size, and whether it still works."""

from pathlib import Path

from tltool.data.cache import contents
from tltool.data.cache.contents import Entry
from tltool.run_folder import owner, status


def entries(runs: Path) -> list[Entry]:
    """Return the runs and sweeps in the folder ``runs``, the largest first."""
    stages = [path for path in sorted(runs.iterdir()) if path.is_dir()] if runs.is_dir() else []
    found = []
    for stage in stages:
        # A folder of runs by itself, as that of scripts/sweep.sh, is one sweep; else each folder in it is a run or one.
        inside = [path for path in sorted(stage.iterdir()) if path.is_dir()]
        whole = stage.name.startswith("sweep-") or (stage / status.NAME).is_file()
        found += [_entry(path, runs) for path in ([stage] if whole else inside)]
    return sorted(found, key=lambda entry: -entry.size)


def _entry(path: Path, runs: Path) -> Entry:
    cells = [path, *(file.parent for file in sorted(path.rglob(status.NAME)) if file.parent != path)]
    states = [str(about["state"]) for cell in cells if (about := status.read(cell))]
    kinds = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    what = (
        "not of tltool" if not states else states[0] if len(states) == 1 else f"sweep of {len(states)} runs ({kinds})"
    )
    alive = [cell for cell in cells if owner.is_alive(cell)]
    if alive:
        what = what.replace("running", "running now")
    busy = owner.told(alive[0]) if alive else ""
    return Entry(path.relative_to(runs).as_posix(), path, what, contents.size(path), contents.last_used(path), busy)
