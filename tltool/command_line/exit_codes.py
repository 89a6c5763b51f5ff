"""What ended a run, as an exit code and one sentence (``docs/exit_codes.md``)."""

import errno
import sys

from tltool import interruption, machine
from tltool.errors import ResourceError, TltoolError, is_out_of_memory

_MEMORY = {"pretrain": "fit.batch_size", "transfer": "fit.batch_size", "predict": "batch_size"} | dict.fromkeys(
    ("prepare", "eval", "report", "study"), "workers"
)
"""The key that says how much memory a stage takes."""


_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNUSABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.ENOENT, errno.ESTALE)


def _is_full(error: BaseException | None) -> bool:
    """Say if a full disk is the cause of ``error``; libraries have errors of their own for it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def judged(error: BaseException, stage: str) -> tuple[int, str, str]:
    """Return exit code, state and one sentence for whatever ended a run."""
    if isinstance(error, TltoolError):
        return error.code, "failed", str(error)
    if isinstance(error, KeyboardInterrupt):
        return interruption.CODE, "interrupted", "Interrupted"
    if isinstance(error, SystemExit):
        return interruption.CODE, "interrupted", "Terminated"
    if is_out_of_memory(error):
        return ResourceError.code, "failed", f"Out of memory; lower {_MEMORY[stage]}."
    if _is_full(error):
        return ResourceError.code, "failed", "The disk is full; free space or name another folder with runs=."
    if isinstance(error, OSError) and error.filename and error.errno in _UNUSABLE:
        why = f"Cannot use {error.filename} ({error.strerror}); check the folder, its disk and its permissions."
        return ResourceError.code, "failed", why
    return 1, "failed", f"Unexpected {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def failed(error: BaseException, message: str = "", code: int = 0) -> int:
    """Print what is wrong, in one process of several; return the exit code."""
    if not machine.rank():
        print(f"tltool: {message or error}", file=sys.stderr)
    return code or getattr(error, "code", 1)
