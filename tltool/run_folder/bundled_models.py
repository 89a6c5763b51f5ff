"""Pretrained models that ship with tltool: ``bundled`` names the best of them, ``bundled/NAME`` one by its name.

They are model folders like any other, in ``tltool/bundled_models``; ``scripts/train_bundled.py`` makes them.
"""

from pathlib import Path

from tltool.errors import CheckpointError

FOLDER = Path(__file__).parents[1] / "bundled_models"
WORD = "bundled"
BEST = "cgcnn"
"""What ``bundled`` alone means; docs/bundled_models.md says why."""


def names() -> list[str]:
    """Return the names of the models that ship, in alphabetical order."""
    return sorted(path.parent.name for path in FOLDER.glob("*/manifest.json"))


def is_one(name: str) -> bool:
    """Say whether ``name`` means a model that ships; a folder of one's own of that name is ``./bundled``."""
    return name == WORD or name.startswith(f"{WORD}/")


def folder(name: str) -> Path:
    """Return the model folder that ``bundled`` or ``bundled/NAME`` means.

    Raises CheckpointError, naming those there are, if there is none of this name.
    """
    wanted = BEST if name == WORD else name.removeprefix(f"{WORD}/")
    if wanted not in names():
        known = ", ".join(f"{WORD}/{one}" for one in names())
        raise CheckpointError(
            f"There is no pretrained model {name} in tltool; use one of {known}, or ./{name} for a folder of your own."
        )
    return FOLDER / wanted


def called(path: Path) -> str:
    """Return what to call the model folder ``path``: ``bundled/NAME`` for one that ships, its path for others."""
    return f"{WORD}/{path.name}" if path.parent == FOLDER else str(path)
