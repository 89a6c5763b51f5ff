"""Let Hydra compose the config of a stage, for one run or a sweep, and run each in its own folder.

torch is imported when the first run starts, so that Hydra's help and config come without it.
"""

import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import hydra
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from tltool import interruption, machine
from tltool.command_line import early_checks, gpu_cells, mistakes, overrides
from tltool.command_line.composition import checked, refuse_bombs, sentence
from tltool.command_line.exit_codes import failed
from tltool.command_line.usage import TRAINING
from tltool.data import own_labels
from tltool.data.materials_project import api_key
from tltool.errors import CellError, ConfigError, ResourceError, TltoolError
from tltool.run_folder import status

if TYPE_CHECKING:
    from tltool.run_folder.run import Company
    from tltool.sweep.processes import Job


def launch(stage: str, words: list[str]) -> int:
    """Run ``stage`` with Hydra's command line ``words``; return the exit code, of a sweep the first that failed."""
    if machine.ranks() > 1 and stage not in TRAINING:
        return failed(ConfigError(f"{stage} runs in one process; start it without torchrun."))
    try:
        api_key.refuse_overrides(words)  # before Hydra writes them anywhere
        mistakes.refuse_words(stage, words)
        refuse_bombs(words)
    except ConfigError as error:
        return failed(error)
    _prepare_process()
    with TemporaryDirectory(prefix="tltool-") if machine.rank() else nullcontext() as aside:
        # Hydra makes a folder for every run; only that of rank 0 is kept.
        own = [f"hydra.run.dir={aside}", f"hydra.sweep.dir={aside}"] if aside else gpu_cells.words(stage, words)
        return _compose(Launch(stage, [*words, *own]))


def _prepare_process() -> None:
    """Set what libraries read of the environment, a name for the run folder, and what ends this process."""
    # With this, Hydra hands its exceptions on instead of printing several lines and leaving with code 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # OpenMP reads this when torch loads; without it idle threads spin and slow down other runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # No other run of this second shares it: time to the microsecond and process.
    os.environ["TLTOOL_RUN_ID"] = f"{datetime.now():%Y%m%d-%H%M%S-%f}-{os.getpid()}"
    interruption.install()


def _compose(jobs: "Launch") -> int:
    """Hand ``jobs`` to Hydra, which calls it with each config; return the exit code."""

    def job(config: DictConfig) -> None:
        jobs.take(config)

    # Hydra takes flags before settings only.
    flags, settings = mistakes.flags_first(jobs.words)
    sys.argv = ["tltool", *flags, *settings]
    try:
        hydra.main(version_base="1.3", config_path="pkg://tltool.configs", config_name=jobs.stage)(job)()
        jobs.run_waiting()
    except RuntimeError as error:
        if "srun" not in str(error):
            raise
        return failed(ResourceError("Slurm is not here; start it where srun is, or use hydra/launcher=joblib."))
    except CellError as cell:
        return cell.code
    except TltoolError as error:
        return failed(error)
    except (HydraException, OmegaConfBaseException) as error:
        return failed(ConfigError(sentence(error, jobs.stage, jobs.words)))
    except OSError as error:
        if not error.filename:
            raise
        return failed(early_checks.not_writable(error))
    except (KeyboardInterrupt, interruption.Terminated):
        if jobs.sweep is None and not jobs.began:
            raise
        if jobs.sweep is None:  # the run has said how it goes on
            return interruption.CODE
        others = [word for word in jobs.words if not word.startswith("hydra.sweep.dir=")]
        again = shlex.join(["tltool", jobs.stage, *others, f"hydra.sweep.dir={jobs.sweep}"])
        failed(ResourceError(f"Interrupted; this goes on with the runs that are left: {again}"))
        return interruption.CODE
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    return next((code for code in jobs.codes if code), 0)


def composed(stage: str, words: list[str]) -> dict[str, Any]:
    """Return the config of ``stage`` with the command-line ``words``, without running it; ConfigError if it is none."""
    try:
        with hydra.initialize_config_module("tltool.configs", version_base="1.3"):
            config = OmegaConf.to_container(hydra.compose(stage, overrides=words), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(sentence(error, stage, words)) from error
    return checked(stage, config)


def cell(stage: str, words: Sequence[str], folders: Iterable[Path]) -> overrides.Cell:
    """Return the run of ``stage`` that the command line ``words`` would start; ConfigError if it would start none.

    ``folders`` have YAML files of the user.
    """
    searched = [f"pkg://tltool.configs.{stage}", *(f"file://{folder}" for folder in folders)]
    own = [f"hydra.searchpath=[{','.join(searched)}]"] if stage in TRAINING else []
    state = Singleton.get_state()
    GlobalHydra.instance().clear()  # of the command that is being worked on
    try:
        with hydra.initialize_config_module("tltool.configs", version_base="1.3"):
            made = hydra.compose(stage, overrides=[*words, *own], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(sentence(error, stage, words)) from error
    finally:
        Singleton.set_state(state)
    choices = made.hydra.runtime.choices
    with open_dict(made):
        del made["hydra"]
    return overrides.Cell(made, list(words), choices)


def plain(stage: str, made: overrides.Cell) -> dict[str, Any]:
    """Return the config of a run as plain values; ConfigError if it is none of ``stage``."""
    try:
        return checked(stage, OmegaConf.to_container(made.config, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise ConfigError(sentence(error, stage, made.words)) from error


class Launch:
    """The jobs of one command line: what Hydra composes runs at once, a sweep of transfers all together at the end.

    ``codes`` are the exit codes so far, ``waiting`` the jobs that are still to run; ``began`` says if one has begun.
    """

    def __init__(self, stage: str, words: list[str]) -> None:
        self.stage, self.words = stage, words
        self.codes: list[int] = []
        self.began = False
        self.waiting: list[tuple[dict[str, Any], Path, list[str]]] = []
        self.sweep: Path | None = None
        self._home = os.getpid()
        self._said: set[str] = set()

    def take(self, config: DictConfig) -> None:
        """Check and run one config, or keep it for later."""
        about, away = HydraConfig.get(), os.getpid() != self._home
        if away:
            _settle(about.launcher.get("n_jobs"))
            if "joblib" in about.launcher._target_ and config.get("device") in gpu_cells.ANY_GPU:
                machine.take_gpu(Path(about.sweep.dir) / ".gpus", int(about.job.num))
        if about.mode == RunMode.MULTIRUN:
            self.sweep = Path(about.sweep.dir)
        # An error here must not reach Hydra, which prints lines of its own and ends a sweep.
        try:
            if self._is_done(config, about):
                self.codes.append(0)
                return
            plain = self._checked(config, about)
        except OmegaConfBaseException as error:
            self._refuse(ConfigError(sentence(error, self.stage, self.words)), about)
        except TltoolError as error:
            self._refuse(error, about)
        else:
            folder = Path(about.runtime.output_dir)
            if self._runs_with_others(about):
                self.waiting.append((plain, folder, list(about.overrides.task)))
                return
            self.codes.append(self._run(plain, folder))
        if away and self.codes[-1]:
            # Hydra hands this on when all cells have ended.
            raise CellError(self.codes[-1])
        if machine.ranks() > 1 and self.codes[-1]:
            # Ranks that failed at different places cannot meet again.
            raise SystemExit(self.codes[-1])

    def run_waiting(self) -> None:
        """Run the jobs that wait, many of them at once."""
        if len(self.waiting) == 1:
            self.codes.append(self._run(*self.waiting[0][:2]))
        elif self.waiting:
            from tltool.sweep import processes

            def work(job: "Job", company: "Company") -> int:
                return self._run(job.config, job.folder, company)

            shared = set.intersection(*(set(words) for _, _, words in self.waiting))
            jobs = [
                processes.Job(config, folder, " ".join(word for word in words if word not in shared) or folder.name)
                for config, folder, words in self.waiting
            ]
            self.codes += processes.run(jobs, work)
            _show([job.folder for job in jobs])

    def _is_done(self, config: DictConfig, about: HydraConf) -> bool:
        """Say, and print, if a sweep that is started again in its folder has finished this run before."""
        folder = Path(about.runtime.output_dir)
        if about.mode != RunMode.MULTIRUN or status.read(folder).get("state") != "finished":
            return False
        from tltool.training.saved_state import finished_cells

        plain = checked(self.stage, OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
        plain = own_labels.settled(plain, own_labels.of_folders(overrides.added_folders(about)), self._say)
        done = finished_cells.is_done(folder, plain)
        if done:
            self._say(f"{folder} is finished already, with the same config and data.")
        return done

    def _checked(self, config: DictConfig, about: HydraConf) -> dict[str, Any]:
        """Return ``config`` as plain values; raise ConfigError for a key that is not known or that nothing reads."""
        plain = checked(self.stage, OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
        plain = own_labels.settled(plain, own_labels.of_folders(overrides.added_folders(about)), self._say)
        if about.mode == RunMode.RUN:  # of a sweep they were looked at before its first cell
            if not machine.rank():
                overrides.refuse_hydra(about.overrides.hydra, sweep=False)
            overrides.refuse(self.stage, [overrides.cell_of(config)], sweep=False, functions=False)
        if not machine.rank():
            of_sweep = about.mode == RunMode.MULTIRUN
            early_checks.refuse_folder(
                Path(about.runtime.output_dir), of_sweep=of_sweep, of_study=self.stage == "study"
            )
        early_checks.check(self.stage, plain)
        if about.mode == RunMode.RUN:
            overrides.refuse(self.stage, [overrides.cell_of(config)], sweep=False)
        return plain

    def _refuse(self, error: TltoolError, about: HydraConf) -> None:
        """Print ``error``, and remove the folder that Hydra made for a run that does not begin."""
        self.codes.append(failed(error))
        folder = Path(about.runtime.output_dir)
        with suppress(OSError):  # one that is not empty stays
            folder.rmdir()
            if folder.parent.name == self.stage:  # as in runs/transfer
                folder.parent.rmdir()
                folder.parent.parent.rmdir()

    def _say(self, text: str) -> None:
        """Print a sentence on standard error, once for all jobs."""
        if text not in self._said and not machine.rank():
            print(text, file=sys.stderr)
        self._said.add(text)

    def _runs_with_others(self, about: HydraConf) -> bool:
        """Say whether a job can run at once with the others of its sweep."""
        # Another launcher may have brought this job to another process, where it has to be done.
        here = "BasicLauncher" in about.launcher._target_ and machine.ranks() == 1
        # Both folders are optional: without one, runs follow each other.
        able = machine.has_parts("sweep", "model.kernels")
        return self.stage == "transfer" and about.mode == RunMode.MULTIRUN and here and able

    def _run(self, config: Mapping[str, Any], folder: Path, company: "Company | None" = None) -> int:
        from tltool.command_line import job

        self.began = True
        return job.run(self.stage, config, folder, self.words, company)


def _show(folders: list[Path]) -> None:
    """Print one table of the runs of a sweep that have finished, and where they are."""
    from tltool.errors import DataError
    from tltool.reporting import finished_runs
    from tltool.reporting.render import terminal
    from tltool.run_folder import console

    try:
        console.show(*terminal.tables(finished_runs.collect(folders).results))
    except DataError:  # none has finished
        return
    print(f"Run folders: {folders[0].parent}", file=sys.stderr)


def _settle(jobs: int | None) -> None:
    """Make this process, which one of Hydra's launchers started, ready to run a cell, beside ``jobs`` in all."""
    interruption.install()
    if machine.ranks() > 1:
        raise CellError(failed(ConfigError("A launcher and torchrun do not go together; leave one of them out.")))
    if jobs is not None:
        os.environ["TLTOOL_JOBS"] = str(jobs if jobs > 0 else machine.cores())
