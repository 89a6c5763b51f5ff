"""One run of a stage: opens its folder, chooses how to compute, does the stage's work, and notes how it ended."""

import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from tltool import machine
from tltool.command_line.exit_codes import failed, judged
from tltool.command_line.usage import STAGES
from tltool.errors import ResourceError
from tltool.evaluation import results
from tltool.run_folder import environment, loggers
from tltool.run_folder.run import Company, Run
from tltool.training import backend, distributed, resume, setup
from tltool.training.backend import Backend
from tltool.training.distributed import Failure

_GONE = (
    "A process of this run is gone, probably for lack of memory; lower fit.batch_size or start fewer with "
    "--nproc_per_node."
)


def run(stage: str, config: Mapping[str, Any], folder: Path, words: list[str], company: Company | None = None) -> int:
    """Run one job in its own folder; return its exit code. An interruption is noted there, then ends the sweep too."""
    open_run = None
    try:
        distributed.meet()
        torch.set_num_threads(setup.threads(config["threads"], angles=False))
        open_run = Run(folder, stage, company, continues=_is_cross_validation(config))
        _work(stage, config, open_run, shlex.join(["tltool", stage, *words]))
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        code, interrupted = _end(error, stage, open_run)
        if interrupted:
            raise
        if company:
            print(f"{company.label}  failed ({company.ended()})", file=sys.stderr)
        return code
    open_run.close("finished", 0, "")
    if company:
        print(f"{company.label}  {results.in_a_line(folder)}  ({company.ended()})", file=sys.stderr)
    elif not machine.rank():
        print(f"Run folder: {folder}", file=sys.stderr)
    return 0


def _work(stage: str, config: Mapping[str, Any], run: Run, command: str) -> None:
    """Write down what runs and where, then do the stage's work."""
    (run.folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(dict(config))), encoding="utf-8")
    if not machine.rank():  # one process of several tells them
        run.attach(loggers.made(config.get("logger") or {}, run.folder, config["plugins"]))
    # Nothing is compiled for a stage that computes nothing with a network.
    compiles = stage not in ("prepare", "report")
    chosen = backend.choose(config["kernels"], config["device"], config["threads"], run.say, compiles=compiles)
    run.write_json("environment.json", environment.described(chosen.device, chosen.name, command))
    work: Callable[[Mapping[str, Any], Run, Backend], None] = import_module(f"tltool.stages.{STAGES[stage][0]}").run
    if run.company is None and machine.has_parts("sweep", "model.kernels"):
        from tltool.sweep import tasks

        run.several = tasks.several(config, chosen.device)
    distributed.join(chosen.device)
    work(config, run, chosen)
    distributed.part_ways()


def _is_cross_validation(config: Mapping[str, Any]) -> bool:
    """Say whether a run trains fold after fold, so that another one can go on in its folder."""
    return str((config.get("split") or {}).get("_target_", "")).endswith(".split_folds.cross_validation")


def _end(error: BaseException, stage: str, run: Run | None) -> tuple[int, bool]:
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
    log.write_text(trace, encoding="utf-8")
    if state == "interrupted":
        from tltool.evaluation import cross_validated

        message = cross_validated.told(run.folder, resume.told(run.folder, message))
    run.close(state, code, message)
    return failed(error, f"{message} (details: {log})", code), state == "interrupted"
