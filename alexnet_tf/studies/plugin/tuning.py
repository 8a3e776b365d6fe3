"""The search: Optuna proposes, our jobs answer with their validation error."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from hydra_plugins.alexnet_tf.runner import SweepRunner
from hydra_plugins.alexnet_tf.sweeper import arm_of
from omegaconf import DictConfig

from alexnet_tf.config import ConfigError, override_key, require_package
from alexnet_tf.runs import Job, RunError, State

WORST = 1.0
"""The error of a trial that failed: a diverging rate is a bad rate, and the search goes on."""


class TuningSweeper(Sweeper):
    """Hydra's Optuna sweeper with our jobs: each has a folder, a place in `sweep.yaml` and a process of its own.

    Args:
        leftovers: For `alexnet sweep resume`, which gives it to every sweeper; a search has none.
        retry_failed: Whether trials that failed before are tried again.
        options: Of Hydra's Optuna sweeper.
    """

    def __init__(self, leftovers: bool, retry_failed: bool, **options: Any) -> None:
        del leftovers
        self.retry_failed, self.options = retry_failed, options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives."""
        self.context, self.config = hydra_context, config
        self.runner = SweepRunner(hydra_context, task_function, config, self.retry_failed)

    def sweep(self, arguments: list[str]) -> Any:
        """Search, and say what was best.

        Raises:
            ConfigError: If the config cannot run, is a study or leaves nothing to search.
            SystemExit: With status 1 if a trial failed, 75 if a signal came.
        """
        require_package("hydra/sweeper=optuna", "hydra_plugins.hydra_optuna_sweeper", "sweep")
        import optuna
        from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        parsed = OverridesParser.create(config_loader=self.runner.loader).parse_overrides(arguments)
        searched = [item.get_key_element() for item in parsed if item.is_sweep_override()]
        searched += self.options["params"] or {}
        fixed = [item.input_line or "" for item in parsed if not item.is_sweep_override()]
        base = self.runner.compose(fixed)
        if base.study is not None:
            raise ConfigError(
                f"study.name={base.study.name}: a study tunes with study.tune, not with hydra/sweeper=optuna"
            )
        if not searched:
            raise ConfigError(
                "hydra/sweeper=optuna: expected a key to search, such as 'optimizer.lr=interval(0.01,0.1)'"
            )
        search = OptunaSweeperImpl(**{**self.options, "sampler": instantiate(self.options["sampler"])})
        search.config, search.hydra_context = self.config, self.context
        search.launcher = _Trials(self.runner, searched)
        with self.runner.running(base, "search"):
            search.sweep([text for text in arguments if override_key(text) != "run_dir"])
            print(search.launcher.best())


class _Trials(Launcher):
    """What Optuna's sweeper takes for a launcher: it runs the trials as jobs and hands their errors back."""

    def __init__(self, runner: SweepRunner, searched: Sequence[str]) -> None:
        self.runner, self.searched = runner, searched
        self.errors: dict[str, float] = {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing: the runner has it all."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run trials; each returns the validation error (fraction, 0-1) at its end."""
        del initial_job_idx
        jobs = [self._job(list(overrides)) for overrides in job_overrides]
        self.runner.launch(jobs)
        for job in jobs:
            self.errors[job.name] = self._error(job)
        return [
            JobReturn(
                status=JobStatus.COMPLETED, _return_value=self.errors[job.name], overrides=job.overrides
            )
            for job in jobs
        ]

    def _job(self, overrides: list[str]) -> Job:
        pairs = [text.partition("=") for text in overrides]
        own = [f"{key}={_rounded(value)}" for key, _, value in pairs if key in self.searched]
        return self.runner.job("train", arm_of(own), overrides)

    def _error(self, job: Job) -> float:
        from alexnet_tf.studies.results import load_run

        run = self.runner.folder.run(job)
        if run.status()["state"] != State.finished:
            return WORST
        error = load_run(run).last("validation", "top1_error")
        if error != error:
            raise RunError(
                f"{run.path}: has no validation error to search by; choose data with a validation split"
            )
        return error

    def best(self) -> str:
        """The lowest error and its job, in words."""
        error, name = min((error, name) for name, error in self.errors.items())
        return f"lowest validation error {100 * error:.2f} % by {name}"


def _rounded(value: str) -> str:
    """A number as a folder's name shows it; the job's hash tells apart what looks the same."""
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value
