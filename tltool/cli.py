"""``tltool STAGE [overrides]``: finds the stage, lets Hydra compose its config, turns failures into exit codes.

Nothing heavy is imported before a stage is known, so that help and version answer at once.
"""

import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tltool import machine
from tltool.errors import CellError, ConfigError, ResourceError, TltoolError, nearest

if TYPE_CHECKING:
    from tltool.run_folder.run import Company

STAGES = {
    "prepare": ("prepare", "read a data set and build its graphs"),
    "pretrain": ("pretrain", "learn a backbone on a large, cheap data set"),
    "transfer": ("transfer", "take it to a small data set of another quantity"),
    "eval": ("evaluate", "errors of a trained model"),
    "predict": ("predict", "a table of predictions for structure files"),
    "report": ("report", "one page over all runs"),
}

_COMPOSITIONS = ("matbench_steels", "matbench_expt_gap", "matbench_expt_is_metal", "matbench_glass")

_SEVERAL = ("pretrain", "transfer")
"""Stages that several processes of torchrun can work on together."""

_LAUNCHERS = {"joblib": "joblib", "submitit_slurm": "slurm", "submitit_local": "slurm"}
"""Extras that bring launchers of Hydra."""

_GONE = (
    "A process of this run is gone, probably for lack of memory; lower fit.batch_size or start fewer with "
    "--nproc_per_node."
)

_MEMORY = {"pretrain": "fit.batch_size", "transfer": "fit.batch_size", "predict": "batch_size"} | dict.fromkeys(
    ("prepare", "eval", "report"), "workers"
)
"""The key that says how much memory a stage takes."""

_USAGE = """usage: tltool STAGE [overrides]

{stages}

  tltool pretrain                                  the bundled demo data
  tltool transfer target=bulk_modulus mode=freeze
  tltool transfer -m mode=scratch,finetune,freeze,features seed=0,1,2
  tltool predict input=my_structures/

tltool STAGE --help      what can be set          tltool STAGE --cfg job    the config of a run
tltool --version         the version              eval "$(tltool -sc install=bash)"   completion in bash
"""


def main() -> None:
    """Run the command line and exit with a documented code."""
    words = sys.argv[1:]
    if words and words[0].startswith(("-sc", "--shell-completion")):
        sys.exit(_complete(words))
    if words and words[0] in ("-h", "--help"):
        print(usage())
        sys.exit(0)
    if words and words[0] == "--version":
        from importlib.metadata import version

        print(f"tltool {version('tltool')}")
        sys.exit(0)
    if not words or words[0] not in STAGES:
        print(usage(), file=sys.stderr)
        if words:
            print(f"tltool: there is no stage {words[0]!r}.{nearest(words[0], STAGES)}", file=sys.stderr)
        sys.exit(ConfigError.code)
    sys.exit(launch(words[0], words[1:]))


def usage() -> str:
    """Return the help text."""
    return _USAGE.format(stages="\n".join(f"  {name:<10}{what}" for name, (_, what) in STAGES.items()))


def launch(stage: str, words: list[str]) -> int:
    """Run ``stage`` with Hydra's command line ``words``; return the exit code, of a sweep the first that failed."""
    if machine.ranks() > 1 and stage not in _SEVERAL:
        return _failed(ConfigError(f"{stage} runs in one process; start it without torchrun."))
    with TemporaryDirectory(prefix="tltool-") if machine.rank() else nullcontext() as aside:
        # Hydra makes a folder for every run; only that of rank 0 is kept.
        return _launched(stage, [*words, f"hydra.run.dir={aside}", f"hydra.sweep.dir={aside}"] if aside else words)


def _launched(stage: str, words: list[str]) -> int:
    # With this, Hydra hands its exceptions on instead of printing several lines and leaving with code 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # OpenMP reads this when torch loads; without it idle threads spin and slow down other runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from tltool.command_line import overrides
    from tltool.data.materials_project import api_key

    try:
        api_key.refuse_overrides(words)  # before Hydra writes them anywhere
    except ConfigError as error:
        return _failed(error)
    os.environ["TLTOOL_RUN_ID"] = _run_id()
    codes: list[int] = []
    home = os.getpid()
    sweep: list[tuple[dict[str, Any], Path]] = []

    def job(config: DictConfig) -> None:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        about, away = HydraConfig.get(), os.getpid() != home
        if away:
            _settle(about.launcher.get("n_jobs"))
        # An error here must not reach Hydra, which prints lines of its own and ends a sweep.
        try:
            plain = _checked(stage, OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
            if about.mode == RunMode.RUN:  # of a sweep they were looked at before its first cell
                if not machine.rank():
                    overrides.refuse_hydra(about.overrides.hydra, sweep=False)
                overrides.refuse(stage, [overrides.cell_of(config)], sweep=False)
        except OmegaConfBaseException as error:
            codes.append(_failed(ConfigError(_sentence(error))))
        except ConfigError as error:
            codes.append(_failed(error))
        else:
            folder = Path(about.runtime.output_dir)
            # Another launcher may have brought this job to another process, where it has to be done.
            if (
                stage == "transfer"
                and about.mode == RunMode.MULTIRUN
                and "BasicLauncher" in about.launcher._target_
                and machine.ranks() == 1
            ):
                sweep.append((plain, folder))
                return
            codes.append(_run(stage, plain, folder, words))
        if away and codes[-1]:
            # Hydra hands this on when all cells have ended.
            raise CellError(codes[-1])
        if machine.ranks() > 1 and codes[-1]:
            # Ranks that failed at different places cannot meet again.
            raise SystemExit(codes[-1])

    sys.argv = ["tltool", *words]
    signal.signal(signal.SIGTERM, _terminated)
    try:
        hydra.main(version_base="1.3", config_path="pkg://tltool.configs", config_name=stage)(job)()
        if sweep:
            codes += _run_all(stage, sweep, words)
    except RuntimeError as error:
        if "srun" not in str(error):
            raise
        return _failed(ResourceError("Slurm is not here; start it where srun is, or use hydra/launcher=joblib."))
    except CellError as failed:
        return failed.code
    except TltoolError as error:
        return _failed(error)
    except (HydraException, OmegaConfBaseException) as error:
        return _failed(ConfigError(_sentence(error)))
    except KeyboardInterrupt:
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    return next((code for code in codes if code), 0)


def _settle(jobs: int | None) -> None:
    """Make this process, which one of Hydra's launchers started, ready to run a cell, beside ``jobs`` in all."""
    signal.signal(signal.SIGTERM, _terminated)
    if machine.ranks() > 1:
        raise CellError(_failed(ConfigError("A launcher and torchrun do not go together; leave one of them out.")))
    if jobs is not None:
        os.environ["TLTOOL_JOBS"] = str(jobs if jobs > 0 else machine.cores())


def _run_all(stage: str, jobs: list[tuple[dict[str, Any], Path]], words: list[str]) -> list[int]:
    """Run the jobs of a sweep, many of them at once; return their exit codes."""
    from tltool.sweep import processes

    def work(job: processes.Job, company: "Company") -> int:
        return _run(stage, job.config, job.folder, words, company)

    if len(jobs) == 1:
        return [_run(stage, *jobs[0], words)]
    return processes.run([processes.Job(*job) for job in jobs], work)


def _run(
    stage: str, config: Mapping[str, Any], folder: Path, words: list[str], company: "Company | None" = None
) -> int:
    """Run one job in its own folder; return its exit code. An interruption is noted there, then ends the sweep too."""
    from omegaconf import OmegaConf

    from tltool.model.kernels import cpp_library
    from tltool.run_folder.run import Run
    from tltool.training import backend, distributed
    from tltool.training.distributed import Failure
    from tltool.training.fit import device

    run = None
    try:
        distributed.meet()
        _set_threads(config["threads"])
        run = Run(folder, stage, company)
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(dict(config))), encoding="utf-8")
        command = shlex.join(["tltool", stage, *words])
        where = device(config["device"])
        # Nothing is compiled for a stage that computes nothing with a network.
        keep = None if stage in ("prepare", "report") else cpp_library.folder()
        chosen = backend.use(distributed.kernels(config["kernels"], run.say), where, keep, run.say)
        run.write_environment(where, chosen, command)
        work: Callable[[Mapping[str, Any], Run], None] = import_module(f"tltool.stages.{STAGES[stage][0]}").run
        distributed.join(where)
        work(config, run)
        distributed.part_ways()
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if machine.ranks() > 1:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends the others, who are about to end themselves
        code, state, message = _judged(error, stage)
        if distributed.lost(error):
            code, message = ResourceError.code, _GONE
        own = Failure(code, state, message, traceback.format_exc())
        code, state, message, trace = distributed.settled(own)
        if run is None:
            return _failed(error, message, code)
        (folder / "error.log").write_text(trace, encoding="utf-8")
        if state == "interrupted":
            from tltool.training import resume

            message = resume.told(folder, message)
        run.close(state, code, message)
        _failed(error, f"{message} (details: {folder / 'error.log'})", code)
        if state == "interrupted":
            raise
        return code
    run.close("finished", 0, "")
    if not machine.rank():
        print(f"Run folder: {folder}", file=sys.stderr)
    return 0


def _judged(error: BaseException, stage: str) -> tuple[int, str, str]:
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


def _failed(error: BaseException, message: str = "", code: int = 0) -> int:
    if not machine.rank():
        print(f"tltool: {message or error}", file=sys.stderr)
    return code or getattr(error, "code", 1)


def _terminated(number: int, frame: object) -> None:
    raise SystemExit(143)


def _checked(stage: str, config: Any) -> dict[str, Any]:
    """Return ``config``; raise ConfigError for a top-level key that the stage does not have, and for an API key."""
    from importlib.resources import files

    import yaml

    from tltool.data.materials_project import api_key

    api_key.refuse_config(config)
    known: set[str] = set()
    for name in ("common", stage):
        text = files("tltool.configs").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
        groups = [next(iter(d)) for d in tree.get("defaults", ()) if isinstance(d, dict)]
        known |= tree.keys() | {str(g).removeprefix("optional ").rpartition("@")[2] for g in groups}
    for key in config:
        if key not in known:
            raise ConfigError(f"{stage} has no key {key!r}.{nearest(key, known - {'defaults', 'hydra'})}")
    return dict(config)


def _sentence(error: BaseException) -> str:
    """Return what Hydra or OmegaConf says in several lines as one, with the nearest known key."""
    cause = error.__cause__ or error
    text = " ".join(str(error).split())
    missing = str(getattr(error, "missing_cfg_file", None)).rpartition("/")[2]
    if missing in _LAUNCHERS:
        return f"This launcher is not installed; run pip install 'tltool[{_LAUNCHERS[missing]}]'."
    if missing in _COMPOSITIONS:
        return (
            f"{missing} holds compositions without structures; read its file with target=formulas and mode=features, "
            "or use another task, such as target=matbench_phonons."
        )
    key, parent = getattr(cause, "key", None), getattr(cause, "parent_node", None)
    if key is not None and parent is not None and hasattr(parent, "keys") and str(key) not in map(str, parent.keys()):
        return f"There is no key {getattr(cause, 'full_key', key)!r}.{nearest(str(key), map(str, parent.keys()))}"
    if "Missing mandatory value" in text or "MissingMandatoryValue" in type(error).__name__:
        name = getattr(cause, "full_key", None) or key
        return f"{name} must be given, as {name}=VALUE."
    return text


def _set_threads(wanted: int | str) -> None:
    """Use ``wanted`` CPU threads, ``auto`` for as many as pay (see ``setup.threads``), of a graph without angles.

    Compiled kernels look for themselves how many pay.
    """
    import torch

    from tltool.model.kernels import cgcnn_cpp
    from tltool.training import setup

    torch.set_num_threads(setup.threads(wanted, angles=False))
    cgcnn_cpp.use_threads(wanted)


def _run_id() -> str:
    """Return a name for a run folder that no other run of this second shares: time to the microsecond and process."""
    from datetime import datetime

    return f"{datetime.now():%Y%m%d-%H%M%S-%f}-{os.getpid()}"


def _complete(words: list[str]) -> int:
    """Answer bash's question what could come next: the stage here, all else by Hydra."""
    stage = "pretrain"
    if words[-1].startswith("query"):
        line = os.environ.get("COMP_LINE", "")
        given = line.split()
        complete = given[1:] if line.endswith(" ") else given[1:-1]
        if not complete:
            start = "" if line.endswith(" ") or len(given) < 2 else given[-1]
            print(" ".join(name for name in STAGES if name.startswith(start)))
            return 0
        if complete[0] not in STAGES:
            return 0
        stage = complete[0]
        shorter = line.replace(f" {stage}", "", 1)
        os.environ["COMP_POINT"] = str(len(shorter))
        os.environ["COMP_LINE"] = shorter
    return launch(stage, words)
