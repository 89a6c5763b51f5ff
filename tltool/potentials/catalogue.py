"""The potentials that tltool knows by name: each is a YAML in ``configs/potential``, and a package that has it.

Nothing heavy is imported here, so that a command line can be checked first.
"""

from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tltool import instantiate
from tltool.errors import ConfigError

if TYPE_CHECKING:
    from tltool.potentials.potential import Potential


@cache
def names() -> tuple[str, ...]:
    """Return the names of the potentials, in alphabetical order."""
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml")))


def is_one(name: str) -> bool:
    """Say whether ``name`` means a potential; a folder of one's own of that name is ``./chgnet``."""
    return name in names()


def file(name: str) -> Path:
    """Return the YAML of the potential ``name``."""
    return _folder() / f"{name}.yaml"


def is_file(path: Path) -> bool:
    """Say whether ``path`` is the YAML of a potential, as ``file`` returns it."""
    return path.parent == _folder()


def about(name: str) -> dict[str, Any]:
    """Return what the YAML of the potential ``name`` says; ConfigError for a name that there is not."""
    if name not in names():
        raise ConfigError(f"There is no potential {name!r}; use one of {', '.join(names())}.")
    found: dict[str, Any] = yaml.safe_load(file(name).read_text(encoding="utf-8"))
    return found


def require(name: str) -> None:
    """Raise ConfigError, with the command that installs it, if the package of the potential ``name`` is not here."""
    package = about(name)["package"]
    if find_spec(package) is None:
        raise ConfigError(
            f"The potential {name} needs the package {package}, which is not installed; run pip install "
            f"'tltool[{package}]'."
        )


def opened(name: str, cache: Path) -> "Potential":
    """Return the potential ``name``; converted weights are kept in the folder ``cache``. Raise as ``require`` does."""
    require(name)
    found: Potential = instantiate.call(about(name)["potential"], cache / "potentials", place="potential")
    return found


def _folder() -> Path:
    return Path(str(files("tltool.configs").joinpath("potential")))
