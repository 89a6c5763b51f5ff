"""Call loggers (callbacks): objects that get the events of a run, in addition to ``log.jsonl`` and the screen.

A logger is made with the run folder, which already holds ``config.yaml``. ``log`` gets every event, and ``close`` gets
the state in which the run ends (finished, failed or interrupted); of a finished run ``metrics.json`` is there by then.
The events are the lines of ``log.jsonl``: ``epoch`` (number, loss, learning rate, validation errors), ``load_report``
(what a transfer loaded), ``say`` (a sentence), ``auto`` (the chosen mode) and others.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from tltool import instantiate
from tltool.errors import ConfigError, TltoolError


class Logger(Protocol):
    """The interface of a logger: two methods, which must not change their arguments."""

    def log(self, event: Mapping[str, Any], /) -> None:
        """Get an event."""

    def close(self, state: str, /) -> None:
        """Get the final state of the run."""


class Loggers:
    """The loggers of a run by name. If one fails, ``say`` prints a sentence, and the other loggers continue."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._loggers: dict[str, Logger] = {}
        self._say = say

    def add(self, loggers: Mapping[str, Logger]) -> None:
        """Add further loggers."""
        self._loggers |= loggers

    def log(self, event: Mapping[str, Any]) -> None:
        """Send ``event`` to every logger."""
        for name, logger in list(self._loggers.items()):
            self._tell(name, partial(logger.log, event))

    def close(self, state: str) -> None:
        """Send the final state to every logger."""
        for name, logger in list(self._loggers.items()):
            self._tell(name, partial(logger.close, state))

    def _tell(self, name: str, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception as error:
            # The other loggers get this sentence too, but this one must not.
            self._loggers.pop(name, None)
            self._say(f"The logger {name} stopped ({_words(error)}); the run continues, and log.jsonl has every event.")


def made(nodes: Mapping[str, Any], folder: Path, plugins: Iterable[str] = ()) -> dict[str, Logger]:
    """Return the loggers in ``nodes``, {name: node with ``_target_``}, for the run in ``folder``.

    Raises ConfigError for one that cannot be made, and for what lacks the methods of a logger.
    """
    found: dict[str, Logger] = {}
    for name, node in nodes.items():
        try:
            found[name] = instantiate.call(node, folder, plugins=plugins, place="logger")
        except TltoolError:
            raise
        except Exception as error:
            raise ConfigError(f"The logger {name} could not start ({_words(error)}); use logger=none.") from error
        if not all(callable(getattr(found[name], method, None)) for method in ("log", "close")):
            raise ConfigError(
                f"logger.{name}._target_={node['_target_']!r} is not a logger: it needs the methods log and close."
            )
    return found


def _words(error: Exception) -> str:
    first = str(error).splitlines()[0] if str(error) else "no message"
    return f"{type(error).__name__}: {first.rstrip('.')}"
