"""The sweeper: a study's arms, seeds and phases, or a grid of overrides, through any Hydra launcher."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.alexnet_tf.runner import SweepRunner
from omegaconf import DictConfig
from rich.console import Console

from alexnet_tf.config import ConfigError, override_key
from alexnet_tf.config.schema import StudyConfig
from alexnet_tf.runs import Job


class StudySweeper(Sweeper):
    """Runs every job of a sweep, records them in `sweep.yaml`, and always makes the report.

    A failed job is a status in its folder, not an exception, so that the others go on. Without `study` in the config
    the jobs are the product of the sweep overrides on the command line, as with Hydra's own sweeper.

    Args:
        leftovers: Whether to run also what the manifest has beside the jobs of this command.
        retry_failed: Whether jobs that failed before are tried again.
        reuse: A folder of sweeps, whose finished runs are taken where a job has their resolved config.
    """

    def __init__(self, leftovers: bool, retry_failed: bool, reuse: str | None) -> None:
        self.leftovers, self.retry_failed, self.reuse = leftovers, retry_failed, reuse

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives."""
        self.runner = SweepRunner(hydra_context, task_function, config, self.retry_failed, self.reuse)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep that the command line and the config describe.

        Raises:
            ConfigError: If any job's config cannot run; no job has started then.
            SystemExit: With status 1 if a job failed, 75 if a signal came.
        """
        parsed = OverridesParser.create(config_loader=self.runner.loader).parse_overrides(arguments)
        grid = [override for override in parsed if override.is_sweep_override()]
        fixed = [override.input_line or "" for override in parsed if not override.is_sweep_override()]
        base = self.runner.compose(fixed)
        if base.resume:
            raise ConfigError(f"resume={base.resume}: goes on with one run, came with a sweep; leave out -m")
        if base.study is not None and grid:
            raise ConfigError(
                f"{grid[0].input_line}: a study's arms and seeds are study.arms and study.seeds; give no sweep beside it"
            )
        fixed = [text for text in fixed if override_key(text) != "run_dir"]
        with self.runner.running(base, base.study.name if base.study else "sweep"):
            if base.study is None:
                self.runner.launch(self._grid_jobs(fixed, grid))
            else:
                self._study(base.study, [*base.study.common, *fixed])
            if self.leftovers:
                self.runner.launch_leftovers()

    # ----------------------------------------------------------------------------------------- what to run

    def _study(self, study: StudyConfig, fixed: list[str]) -> None:
        """The runs that arms start from, the tuning phase where values are given, then the comparison."""
        sources = self._sources(study, fixed)
        chosen: dict[str, list[str]] = {arm: [] for arm in study.arms}

        def compared() -> list[Job]:
            """Seed by seed, so that an interrupted study has something of every arm."""
            arms = [
                self.runner.jobs("train", arm, [*fixed, *own, *chosen[arm]], study.seeds, sources[arm])
                for arm, own in study.arms.items()
            ]
            return [job for jobs in zip(*arms, strict=True) for job in jobs]

        # Composed before anything starts: a typing mistake in the last arm must not cost the first one's hours.
        jobs = compared()
        trials = [
            job
            for arm, values in study.tune.values.items()
            for value in values
            for job in self.runner.jobs(
                "tune",
                arm,
                [*fixed, *study.arms[arm], f"{study.tune.key}={value}"],
                study.tune.seeds,
                sources[arm],
            )
        ]
        if started := {job.name: job for own in sources.values() for job in (own or {}).values()}:
            self.runner.launch(list(started.values()), supersede=True)
        if trials:
            from alexnet_tf.studies import best_value

            self.runner.launch(trials, supersede=True)
            for arm in study.tune.values:
                value = best_value(self.runner.folder, arm)
                chosen[arm] = [f"{study.tune.key}={value}"]
                Console(highlight=False).print(f"{arm}: {study.tune.key}={value} chosen")
            jobs = compared()
        self.runner.launch(jobs, supersede=True)
        self.runner.evaluate()

    def _sources(self, study: StudyConfig, fixed: list[str]) -> dict[str, dict[int, Job] | None]:
        """For each arm the jobs that its runs start from, by seed; None where they start from none."""
        starting = study.pretrain.arms
        tuned = study.tune.seeds if set(starting) & set(study.tune.values) else []
        seeds = list(dict.fromkeys([*study.seeds, *tuned])) if starting else []
        overrides = [*fixed, *study.pretrain.overrides]
        jobs = self.runner.jobs("pretrain", "source", overrides, seeds) if seeds else []
        by_seed = {job.seed: job for job in jobs}
        return {arm: by_seed if arm in starting else None for arm in study.arms}

    def _grid_jobs(self, fixed: list[str], grid: list[Override]) -> list[Job]:
        """One job for each combination; the arm is what was typed, but for the seed."""
        axes = [
            [f"{item.get_key_element()}={value}" for value in item.sweep_string_iterator()] for item in grid
        ]
        return [
            self.runner.job("train", arm_of(combination), [*fixed, *combination])
            for combination in itertools.product(*axes)
        ]


def arm_of(overrides: Sequence[str]) -> str:
    """What differs between the jobs of a sweep as part of a folder's name: `optimizer.lr=0.01` is `lr=0.01`."""
    own = [text.partition("=") for text in overrides if not text.startswith("seed=")]
    short = [re.sub(r"[^\w.=+-]", "-", f"{key.rpartition('.')[2]}={value}") for key, _, value in own]
    return "_".join(short) or "run"
