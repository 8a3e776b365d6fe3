"""What every sweeper of ours does with its jobs: enter them in the manifest, launch them, record, report, exit."""

import contextlib
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from rich.console import Console

from alexnet_tf import runs
from alexnet_tf.config import (
    Config,
    ConfigError,
    check_installed,
    override_key,
    require_package,
    resolve,
    to_dict,
)
from alexnet_tf.processes import handling, visible_gpus
from alexnet_tf.runs import Job, RunError, State, SweepFolder

SETTLE_SECONDS = 60.0
"""After a signal the jobs that run elsewhere have so long to save before the report is made."""
OWN_OPTIONS = ("run_dir", "hydra.sweeper.leftovers", "hydra.sweeper.retry_failed")
"""What `alexnet sweep resume` gives anew, so that the manifest does not keep it."""


class SweepRunner:
    """The jobs of one sweep, from their composition to the exit status.

    Args:
        hydra_context: As Hydra gives it to a sweeper.
        task_function: What runs a job; it gets the job's composed config.
        config: The composed config of the command, with Hydra's own part.
        retry_failed: Whether jobs that failed in an earlier attempt are tried again.
        reuse: A folder of sweeps, whose finished runs are taken where a job has their resolved config.
    """

    def __init__(
        self,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
        retry_failed: bool,
        reuse: str | None = None,
    ) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config
        self.retry_failed = retry_failed
        self.reuse = Path(reuse) if reuse else None
        self.loader: ConfigLoader = hydra_context.config_loader
        self.launched: set[str] = set()
        self.failures: list[str] = []
        self.stack = contextlib.ExitStack()
        self.launcher: Launcher | None = None

    # ------------------------------------------------------------------------------------------- composing

    def compose(self, overrides: Sequence[str]) -> Config:
        """The config that overrides give.

        Raises:
            ConfigError: If it cannot run.
        """
        return resolve(self._load(overrides))

    def _load(self, overrides: Sequence[str]) -> DictConfig:
        composed = self.loader.load_sweep_config(self.config, list(overrides))
        with open_dict(composed):
            composed.pop("hydra")
        return composed

    def job(self, phase: str, arm: str, overrides: Sequence[str]) -> Job:
        """A job by its overrides."""
        return _make_job(self.compose(overrides), phase, arm, overrides)

    def jobs(
        self,
        phase: str,
        arm: str,
        overrides: Sequence[str],
        seeds: Sequence[int],
        starts: Mapping[int, Job] | None = None,
    ) -> list[Job]:
        """Jobs that differ in their seed alone: composed once, which takes a third of a second.

        Args:
            phase: See `Job`.
            arm: Whose jobs they are.
            overrides: Of all of them.
            seeds: One for each.
            starts: By seed the jobs whose runs they start from; None: they start from none.
        """
        from alexnet_tf.studies.sweep import quoted

        composed, found = self._load(overrides), []
        for seed in seeds:
            composed.seed, own = seed, [f"seed={seed}"]
            if starts is not None:
                composed.init_from = str(self.folder.run(starts[seed]).path.absolute())
                own.append(quoted("init_from", composed.init_from))
            start = starts[seed] if starts else None
            found.append(_make_job(resolve(composed), phase, arm, [*overrides, *own], start))
        return found

    # --------------------------------------------------------------------------------------- the whole sweep

    @contextlib.contextmanager
    def running(self, base: Config, name: str) -> Iterator[None]:
        """Within it jobs are launched; after it there is a report, whatever happened.

        Args:
            base: The config without the sweep's own overrides.
            name: Of a folder to make where `run_dir` says none.

        Raises:
            SystemExit: With status 1 if a job has not finished, 75 if a signal came.
        """
        folder = Path(base.run_dir) if base.run_dir else runs.new_folder(Path("sweeps"), name)
        self._check_launcher()
        if self.reuse and not self.reuse.is_dir():
            raise ConfigError(
                f"hydra.sweeper.reuse={self.reuse}: no such folder. Expected a folder of sweeps"
            )
        if (folder / runs.CONFIG).exists():
            raise ConfigError(f"run_dir={folder}: expected a new folder or a sweep, came a run")
        self.folder = SweepFolder(
            folder, to_dict(base.study) if base.study else None, [], _command(), str(Path.cwd())
        )
        with self.stack, _interruptible():
            try:
                yield
            except (KeyboardInterrupt, SystemExit):
                go_on = f"go on with: alexnet sweep resume {folder}" if self.launched else "nothing has begun"
                print(f"stopped; {go_on}")
                raise SystemExit(runs.STOPPED) from None
            finally:
                if self.launched:
                    self._report()
        self._exit()

    def _check_launcher(self) -> None:
        """Refuse a launcher whose package is missing, which Hydra would say in a traceback."""
        target = str(self.config.hydra.launcher.get("_target_", ""))
        package = ".".join(target.split(".")[:2])
        if package.startswith("hydra_plugins."):
            choice = f"hydra/launcher={self.config.hydra.runtime.choices['hydra/launcher']}"
            require_package(choice, package, "sweep")

    def _exit(self) -> None:
        """Say how many jobs did not finish, and leave with that as the status."""
        counts = Counter(self.folder.run(job).status()["state"] for job in self.folder.jobs)
        if set(counts) <= {State.finished} and not self.failures:
            return
        said = ", ".join(
            [f"{number} {state}" for state, number in counts.items()]
            + ([f"{len(self.failures)} evaluations failed"] if self.failures else [])
        )
        hint = f"try again with: alexnet sweep resume {self.folder.path}"
        print(
            f"{said}; {hint}{' (--skip-failed leaves out the failed ones)' if counts[State.failed] else ''}"
        )
        raise SystemExit(1)

    def _report(self) -> None:
        from alexnet_tf.studies import write_report

        write_report([self.folder.path]).print(Console())

    # ---------------------------------------------------------------------------------------- launching jobs

    def launch(self, jobs: Sequence[Job], *, supersede: bool = False) -> None:
        """Enter jobs in the manifest and run those that have not finished.

        Args:
            jobs: The jobs.
            supersede: Whether to take out of the manifest what they supersede; its folders stay.

        Raises:
            RunError: If the launcher itself fails.
            SystemExit: With status 75 if a job was stopped by a signal.
        """
        jobs = list({job.name: job for job in jobs}.values())  # seed=0,0 is one job
        if self.launcher is None:
            self._start()
        assert self.launcher is not None
        if supersede:
            self._supersede(jobs)
        known = {job.name for job in self.folder.jobs}
        self.folder.jobs.extend(job for job in jobs if job.name not in known)
        self.folder.save()
        self.launched |= {job.name for job in jobs}
        if self.reuse:
            self._take_over(self.reuse, jobs)
        todo = [job for job in jobs if self._wanted(job)]
        if len(todo) < len(jobs):
            print(f"{len(todo)} of {len(jobs)} jobs are left to run", flush=True)
        if todo:
            self._run(self.launcher, todo)

    def _take_over(self, sweeps: Path, jobs: Sequence[Job]) -> None:
        """Copy the finished runs of other sweeps that are the same as jobs of this one."""
        from alexnet_tf.studies.sweep import finished_elsewhere

        for job in jobs:
            run = self.folder.run(job)
            if not run.path.exists() and (found := finished_elsewhere(job, sweeps)):
                found.copy_to(run.path)
                print(f"{job.name}: copied from {found.path}", flush=True)

    def evaluate(self) -> None:
        """Evaluate a study's finished runs where its comparisons ask for it."""
        from alexnet_tf.studies import evaluate_study

        self.failures = evaluate_study(self.folder)
        for line in self.failures:
            print(line, flush=True)

    def launch_leftovers(self) -> None:
        """Run the jobs that the manifest has beside those launched already, such as an earlier command's."""
        rest = []
        for job in self.folder.jobs:
            if job.name in self.launched or not self._wanted(job):
                continue
            try:
                self.compose(job.overrides)
            except Exception as error:  # whatever it is, it must not keep the others
                print(f"{job.name}: cannot be composed any more ({error}); left alone", flush=True)
                continue
            rest.append(job)
        if rest:
            self.launch(rest)

    def _supersede(self, jobs: Sequence[Job]) -> None:
        from alexnet_tf.studies.sweep import superseded

        if old := superseded(self.folder.jobs, jobs):
            print(f"no longer part of this study: {', '.join(job.name for job in old)}", flush=True)
            self.folder.jobs[:] = [job for job in self.folder.jobs if job not in old]

    def _start(self) -> None:
        """Make the folder, keep other sweeps out of it, read its manifest if there is one, and make the launcher."""
        path = self.folder.path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"run_dir={path}: cannot be written ({error.strerror})") from error
        self.stack.enter_context(
            runs.locked(path, "another process is running this sweep. Expected one at a time")
        )
        if (path / runs.MANIFEST).exists():
            self.folder.jobs.extend(SweepFolder.open(path).jobs)
        with open_dict(self.config):
            self.config.hydra.sweep.dir = str(path)  # where launchers put what they write
            self._share(self.config.hydra.launcher)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task, config=self.config
        )

    def _share(self, launcher: DictConfig) -> None:
        """Fill in what this machine decides, and make a place for each job that runs on it at once."""
        from alexnet_tf.studies.places import PLACES

        gpus = len(visible_gpus())
        if "n_jobs" in launcher:
            if launcher.n_jobs is None:
                launcher.n_jobs = gpus or 2
            places = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="alexnet-places-")))
            for number in range(launcher.n_jobs if launcher.n_jobs > 0 else os.cpu_count() or 1):
                (places / f"{number:03d}").mkdir()
            self.stack.enter_context(runs.locked(places, "taken"))
            os.environ[PLACES] = str(places)  # workers inherit it
        if "remote" in launcher.get("ray", {}) and launcher.ray.remote.num_gpus is None:
            launcher.ray.remote.num_gpus = min(1, gpus)

    def _wanted(self, job: Job) -> bool:
        state = self.folder.run(job).status()["state"]
        return state != State.finished and (self.retry_failed or state != State.failed)

    def _run(self, launcher: Launcher, jobs: Sequence[Job]) -> None:
        """Hand jobs to the launcher, and record what it could not run."""
        from alexnet_tf.studies.sweep import quoted, stop_jobs

        folders = [self.folder.run(job) for job in jobs]
        overrides = [
            [*job.overrides, quoted("run_dir", str(run.path))] for job, run in zip(jobs, folders, strict=True)
        ]
        try:
            with _interruptible(lambda: stop_jobs(folders, SETTLE_SECONDS)):
                results = launcher.launch(overrides, initial_job_idx=0)
        except Exception as error:
            stop_jobs(folders, SETTLE_SECONDS)
            said = " ".join(str(error).split())[:300] or type(error).__name__
            raise RunError(
                f"the launcher failed ({said}); go on with: alexnet sweep resume {self.folder.path}"
            ) from error
        for run, result in zip(folders, results, strict=True):
            if isinstance(result, JobReturn) and result.status == JobStatus.FAILED:
                reason = " ".join(str(result._return_value).split())
                print(f"{run.name}: failed ({reason})", flush=True)
                if run.path.is_dir():
                    run.write_status(State.failed, reason=reason)
        if any(run.status()["state"] == State.stopped for run in folders):
            raise SystemExit(runs.STOPPED)


def _command() -> tuple[str, ...]:
    """What was typed after `alexnet train`, but for what `alexnet sweep resume` gives anew."""
    return tuple(text for text in sys.argv[1:] if override_key(text) not in OWN_OPTIONS)


def _make_job(
    config: Config, phase: str, arm: str, overrides: Sequence[str], start: Job | None = None
) -> Job:
    from alexnet_tf.studies.sweep import make_job  # not above: its package takes half a second to import

    check_installed(config.model)
    return make_job(config, arm=arm, phase=phase, overrides=overrides, start=start)


def _interruptible(first: Callable[[], None] = lambda: None) -> contextlib.AbstractContextManager[None]:
    """SIGINT and SIGTERM call `first` and raise KeyboardInterrupt.

    A job that runs in this process passes them on to its child instead. Launchers with processes of their own kill them
    on a KeyboardInterrupt, so their jobs must have saved before.
    """

    def interrupt(number: int, frame: Any) -> None:
        first()
        signal.default_int_handler(number, frame)

    return handling(interrupt)
