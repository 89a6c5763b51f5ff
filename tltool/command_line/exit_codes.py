"""What ended a run, as an exit code and one sentence (``docs/exit_codes.md``)."""

import sys

from tltool import machine
from tltool.errors import ResourceError, TltoolError

_MEMORY = {"pretrain": "fit.batch_size", "transfer": "fit.batch_size", "predict": "batch_size"} | dict.fromkeys(
    ("prepare", "eval", "report"), "workers"
)
"""The key that says how much memory a stage takes."""


def judged(error: BaseException, stage: str) -> tuple[int, str, str]:
    """Return exit code, state and one sentence for whatever ended a run."""
    if isinstance(error, TltoolError):
        return error.code, "failed", str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted", "Interrupted; run the same command again."
    if isinstance(error, SystemExit):
        return 143, "interrupted", "Terminated; run the same command again."
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return ResourceError.code, "failed", f"Out of memory; lower {_MEMORY[stage]}."
    if isinstance(error, OSError) and error.errno == 28:
        return ResourceError.code, "failed", "The disk is full; free space or name another folder with runs=."
    return 1, "failed", f"Unexpected {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def failed(error: BaseException, message: str = "", code: int = 0) -> int:
    """Print what is wrong, in one process of several; return the exit code."""
    if not machine.rank():
        print(f"tltool: {message or error}", file=sys.stderr)
    return code or getattr(error, "code", 1)


def terminated(number: int, frame: object) -> None:
    """End this process as ``kill`` asks it to, with what has to be done before."""
    raise SystemExit(143)
