"""``tltool STAGE [overrides]``: help and version at once, and a stage by ``command_line.launch``.

Nothing heavy is imported before a stage is known.
"""

import shlex
import sys
from collections.abc import Callable

from tltool.command_line.usage import STAGES, settings_of, stage_to_complete, usage
from tltool.errors import ConfigError, ResourceError, nearest


def main() -> None:
    """Run the command line and exit with a documented code."""
    sys.exit(_answer(sys.argv[1:]))


def _answer(words: list[str]) -> int:
    """Do what ``words`` ask for; return the exit code."""
    first = words[0] if words else ""
    if first.startswith(("-sc", "--shell-completion")):
        stage = stage_to_complete(words)
        return 0 if stage is None else _launch(stage, words)
    if first in ("-h", "--help"):
        print(usage())
        return 0
    if first == "--version":
        from importlib.metadata import version

        print(f"tltool {version('tltool')}")
        return 0
    if first in STAGES:
        settings = settings_of(first, words[1:])
        return _help(first, settings) if {"-h", "--help"} & set(words) else _launch(first, settings)
    if first == "show":
        return _show(words[1:])
    if first == "doctor":
        return _doctor(words[1:])
    if first == "cache":
        return _cache(words[1:])
    print(usage(), file=sys.stderr)
    if words:
        print(
            f"tltool: there is no stage {first!r}.{nearest(first, [*STAGES, 'show', 'doctor', 'cache'])}",
            file=sys.stderr,
        )
    return ConfigError.code


def _help(stage: str, words: list[str]) -> int:
    from tltool.command_line.stage_help import stage_help

    return _printed(lambda: stage_help(stage, words))


def _show(words: list[str]) -> int:
    from tltool.command_line.commands.show import show

    return _printed(lambda: show(words))


def _doctor(words: list[str]) -> int:
    from tltool.command_line.commands.doctor import doctor

    found = {"code": 0}

    def told() -> str:
        text, found["code"] = doctor(words)
        return text

    return _printed(told) or found["code"]


def _cache(words: list[str]) -> int:
    from tltool.command_line.commands.cache import asked, cache

    return _printed(lambda: cache(words, asked if sys.stdin.isatty() else None))


def _printed(text: Callable[[], str]) -> int:
    """Print a text; return the exit code."""
    try:
        print(text())
    except (ConfigError, ResourceError) as error:
        print(f"tltool: {error}", file=sys.stderr)
        return error.code
    return 0


def _launch(stage: str, words: list[str]) -> int:
    from tltool import interruption

    interruption.install()  # before Hydra, whose import takes half a second
    try:
        from tltool.command_line.launch import launch

        return launch(stage, words)
    except (KeyboardInterrupt, interruption.Terminated):
        again = shlex.join(["tltool", stage, *words])
        print(f"tltool: Interrupted before the run began; start it again: {again}", file=sys.stderr)
        return interruption.CODE
