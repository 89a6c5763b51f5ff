"""What Hydra does again for each command and would find the same is done once for a whole run of the tests.

It reads every YAML file of a config anew, and composes the config of a command twice, the first time to learn whether
``hydra.mode`` is set. Choices of files that were composed before are composed again for each value that is set beside
them. For each node it makes a config of all choices, which a default with ``${...}`` alone would read: a fifth of the
time. ``commands.start`` and everything else that starts a process has Hydra as it is.
"""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.default_element import ResultDefault
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig

Plugins.instance()  # which fills the registry
_Source: Any = SourcesRegistry.instance().resolve("pkg")
_read: dict[tuple[str, int, int], bytes] = {}
_composed: dict[tuple[Any, ...], bytes] = {}
_whole_read = _Source._read_config
_whole_mode = Hydra.get_mode
_whole_choices = defaults_list._create_interpolation_map
_whole_composed = ConfigLoaderImpl._compose_config_from_defaults_list


def _read_once(self: ConfigSource, file: Any) -> ConfigResult:
    """Read a YAML file of tltool, or copy what was read of it before it was last changed."""
    if not isinstance(file, Path):
        return _whole_read(self, file)
    about = file.stat()
    key = (str(file), about.st_mtime_ns, about.st_size)
    if key not in _read:
        _read[key] = pickle.dumps(_whole_read(self, file))
    found: ConfigResult = pickle.loads(_read[key])
    found.provider = self.provider
    found.path = f"{self.scheme()}://{self.path}"
    found.of_file = key  # type: ignore[attr-defined]
    return found


def _mode(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """Return what ``hydra.mode`` is set to; without composing if nobody sets it."""
    return _whole_mode(self, config_name, overrides) if any("hydra.mode" in word for word in overrides) else None


def _choices(overrides: Any, defaults: list[Any], self_added: bool) -> DictConfig:
    """Return the choices so far, if one of ``defaults`` reads them."""
    read = any(not default.is_self() and default.is_interpolation() for default in defaults)
    return _whole_choices(overrides, defaults, self_added) if read else DictConfig({})


def _composed_once(self: ConfigLoaderImpl, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
    """Compose the files of ``defaults``, or copy what was composed of them before; with those of a user always."""
    found = [repo.load_config(default.config_path or "") for default in defaults]
    if any(one is None or one.path.startswith("file:") for one in found):
        return _whole_composed(self, defaults, repo)
    files = [getattr(one, "of_file", one and one.path) for one in found]
    key = tuple((default.config_path, default.package, file) for default, file in zip(defaults, files, strict=True))
    if key not in _composed:
        _composed[key] = pickle.dumps(_whole_composed(self, defaults, repo))
    copied: DictConfig = pickle.loads(_composed[key])
    return copied


@contextmanager
def quick() -> Iterator[None]:
    """Do it once in the body."""
    with (
        patch.object(_Source, "_read_config", _read_once),
        patch.object(Hydra, "get_mode", _mode),
        patch.object(defaults_list, "_create_interpolation_map", _choices),
        patch.object(ConfigLoaderImpl, "_compose_config_from_defaults_list", _composed_once),
    ):
        yield
