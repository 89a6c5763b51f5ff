"""One run of a stage: opens its folder, chooses how to compute, does the stage's work, and notes how it ended."""

import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from tltool import machine
from tltool.command_line.exit_codes import failed, judged
from tltool.command_line.usage import STAGES
from tltool.errors import ResourceError
from tltool.evaluation import result_tables
from tltool.run_folder import environment, loggers
from tltool.run_folder.run import Company, Continues, Run
from tltool.training import backend, distributed, setup
from tltool.training.backend import Backend
from tltool.training.distributed import Failure
from tltool.training.saved_state import finished_cells, resume

_GONE = (
    "A process of this run is gone, probably for lack of memory; lower fit.batch_size or start fewer with "
    "--nproc_per_node."
)


def run(
    stage: str,
    config: Mapping[str, Any],
    folder: Path,
    words: list[str],
    company: Company | None = None,
    *,
    of_many: bool = False,
) -> int:
    """Run one job in its own folder; return its exit code. An interruption is noted there, then ends the sweep too.

    ``of_many`` says that it is a run of a study; those of a sweep tell by their ``words``. Such a run takes the folder
    of an unfinished one, and what started it says how it goes on.
    """
    of_many = of_many or is_sweep(words)
    open_run = None
    try:
        distributed.meet()
        setup.use_threads(setup.threads(config["threads"], angles=False))
        open_run = Run(folder, stage, company, continues=_continues(config, of_many))
        _work(stage, config, open_run, shlex.join(["tltool", stage, *words]))
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        code, interrupted = _end(error, stage, open_run, words, of_many)
        if interrupted:
            raise
        if company:
            print(f"{company.label}  failed ({company.ended()})", file=sys.stderr)
        return code
    open_run.close("finished", 0, "", inputs=finished_cells.digest(config) if of_many else None)
    if company:
        print(f"{company.label}  {result_tables.in_a_line(folder)}  ({company.ended()})", file=sys.stderr)
    elif not machine.rank():
        print(f"Run folder: {folder}", file=sys.stderr)
    return 0


def _work(stage: str, config: Mapping[str, Any], run: Run, command: str) -> None:
    """Write down what runs and where, then do the stage's work."""
    (run.folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(dict(config))), encoding="utf-8")
    if not machine.rank():  # one process of several tells them
        run.attach(loggers.made(config.get("logger") or {}, run.folder, config["plugins"]))
    # Nothing is compiled for a stage that computes nothing with a network.
    compiles = stage not in ("prepare", "report", "study")
    chosen = backend.choose(config["kernels"], config["device"], config["threads"], run.say, compiles=compiles)
    run.write_json("environment.json", environment.described(chosen.device, chosen.name, command))
    work: Callable[[Mapping[str, Any], Run, Backend], None] = import_module(f"tltool.{STAGES[stage][0]}").run
    if run.company is None and machine.has_parts("sweep", "model.kernels"):
        from tltool.sweep import tasks

        run.several = tasks.several(config, chosen.device)
    distributed.join(chosen.device)
    work(config, run, chosen)
    distributed.part_ways()


def _is_cross_validation(config: Mapping[str, Any]) -> bool:
    """Say whether a run trains fold after fold, so that another one can go on in its folder."""
    return str((config.get("split") or {}).get("_target_", "")).endswith(".split_folds.cross_validation")


def _continues(config: Mapping[str, Any], of_many: bool) -> Continues:
    """Return whether a run may take the folder of another one, and if its log goes on or is written anew."""
    if config["stage"] == "study":
        return "after"
    if _is_cross_validation(config) or (of_many and config["stage"] == "pretrain"):
        return "on"
    return "anew" if of_many else None


def _end(error: BaseException, stage: str, run: Run | None, words: Sequence[str], of_many: bool) -> tuple[int, bool]:
    """Print and keep why a run ended; return the exit code, and if the run was open and someone interrupted it."""
    if machine.ranks() > 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends the others, who are about to end themselves
    code, state, message = judged(error, stage)
    if distributed.lost(error):
        code, message = ResourceError.code, _GONE
    own = Failure(code, state, message, traceback.format_exc())
    code, state, message, trace = distributed.settled(own)
    if run is None:
        return failed(error, message, code), False
    log = run.folder / "error.log"
    with suppress(OSError):  # the disk is full, perhaps
        log.write_text(trace, encoding="utf-8")
    if state == "interrupted":
        run.close(state, code, message := _told(run, message, stage, words, of_many))
        # Of many runs, one sentence for all of them follows.
        return code if of_many else failed(error, message, code), True
    run.close(state, code, message)
    return failed(error, f"{message} (details: {log})", code), False


def is_sweep(words: Sequence[str]) -> bool:
    """Say if the command line ``words`` start a sweep."""
    return any(word in ("-m", "--multirun") for word in words)


def _told(run: Run, message: str, stage: str, words: Sequence[str], of_many: bool) -> str:
    """Return the ``message`` about an interruption with the command that continues the run or starts it again."""
    from tltool.evaluation.cross_validation import fits

    if stage == "study":
        return (
            f"{message}; the same command goes on with the cells that are left: {shlex.join(['tltool', stage, *words])}"
        )
    if of_many:
        return f"{message}; start the same {'sweep' if is_sweep(words) else 'study'} again in its folder."
    if stage == "pretrain":
        return resume.told(run.folder, message, stage, words)
    return fits.told(run.folder, message, stage, words)
