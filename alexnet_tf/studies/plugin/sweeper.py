"""The sweeper: a study's arms, seeds and phases, or a grid of overrides, through any Hydra launcher."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from rich.console import Console

from alexnet_tf import runs
from alexnet_tf.config import Config, ConfigError, resolve, to_dict
from alexnet_tf.config.schema import StudyConfig
from alexnet_tf.runs import Job, SweepFolder


class StudySweeper(Sweeper):
    """Runs every job of a sweep, records them in `sweep.yaml`, and always makes the report.

    A failed job is a status in its folder, not an exception, so that the others go on. Without `study` in the config
    the jobs are the product of the sweep overrides on the command line, as with Hydra's own sweeper.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives and make the launcher."""
        self.loader: ConfigLoader = hydra_context.config_loader
        self.base: DictConfig = config
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep that the command line and the config describe.

        Raises:
            ConfigError: If any job's config cannot run; no job has started then.
            SystemExit: With status 1 if a job failed, 75 if a signal came.
        """
        parser = OverridesParser.create(config_loader=self.loader)
        parsed = parser.parse_overrides(arguments)
        grid = [override for override in parsed if override.is_sweep_override()]
        fixed = [override.input_line or "" for override in parsed if not override.is_sweep_override()]
        base = self._compose(fixed)
        if base.resume:
            raise ConfigError(f"resume={base.resume}: goes on with one run, came with a sweep; leave out -m")
        if base.study is not None and grid:
            raise ConfigError(
                f"{grid[0].input_line}: a study's arms and seeds are study.arms and study.seeds; give no sweep beside it"
            )
        folder = Path(base.run_dir) if base.run_dir else runs.new_folder(Path("sweeps"), _name(base))
        fixed = [text for text in fixed if text.partition("=")[0].lstrip("+") != "run_dir"]
        self.sweep_folder = SweepFolder(folder, to_dict(base.study) if base.study else None)
        if (folder / runs.MANIFEST).exists():
            self.sweep_folder.jobs.extend(SweepFolder.open(folder).jobs)
        self.failures: list[str] = []
        try:
            if base.study is None:
                self._launch(self._grid_jobs(fixed, grid))
            else:
                self._study(base.study, fixed)
        except SystemExit:
            print(f"stopped; go on with: the same command and run_dir={folder}")
            raise
        finally:
            if (folder / runs.MANIFEST).exists():
                self._report()
        if self.failures or any(
            self.sweep_folder.run(job).status()["state"] != runs.State.finished
            for job in self.sweep_folder.jobs
        ):
            raise SystemExit(1)

    # ----------------------------------------------------------------------------------------- what to run

    def _study(self, study: StudyConfig, fixed: list[str]) -> None:
        """The tuning phase where values are given, then the comparison."""
        chosen: dict[str, list[str]] = {arm: [] for arm in study.arms}
        # Composed before anything starts: a typing mistake in the last arm must not cost the first one's hours.
        jobs = self._arm_jobs(study, fixed, chosen)
        trials = [
            job
            for arm, values in study.tune.values.items()
            for value in values
            for job in self._jobs(
                "tune", arm, [*fixed, *study.arms[arm], f"{study.tune.key}={value}"], study.tune.seeds
            )
        ]
        if trials:
            from alexnet_tf.studies import best_value

            self._launch(trials)
            for arm in study.tune.values:
                value = best_value(self.sweep_folder, arm)
                chosen[arm] = [f"{study.tune.key}={value}"]
                Console(highlight=False).print(f"{arm}: {study.tune.key}={value} chosen")
            jobs = self._arm_jobs(study, fixed, chosen)
        self._launch(jobs)
        from alexnet_tf.studies import evaluate_study

        self.failures = evaluate_study(self.sweep_folder)
        for line in self.failures:
            print(line)

    def _arm_jobs(self, study: StudyConfig, fixed: list[str], chosen: dict[str, list[str]]) -> list[Job]:
        """Seed by seed, so that an interrupted study has something of every arm."""
        arms = [
            self._jobs("train", arm, [*fixed, *own, *chosen[arm]], study.seeds)
            for arm, own in study.arms.items()
        ]
        return [job for jobs in zip(*arms, strict=True) for job in jobs]

    def _jobs(self, phase: str, arm: str, overrides: list[str], seeds: Sequence[int]) -> list[Job]:
        return [self._job(phase, arm, [*overrides, f"seed={seed}"]) for seed in seeds]

    def _grid_jobs(self, fixed: list[str], grid: list[Override]) -> list[Job]:
        """One job for each combination; the arm is what was typed, but for the seed."""
        axes = [
            [f"{item.get_key_element()}={value}" for value in item.sweep_string_iterator()] for item in grid
        ]
        jobs = []
        for combination in itertools.product(*axes):
            own = [text for text in combination if not text.startswith("seed=")]
            arm = "_".join(_short(text) for text in own)
            jobs.append(self._job("train", arm or "run", [*fixed, *combination]))
        return jobs

    def _job(self, phase: str, arm: str, overrides: list[str]) -> Job:
        from alexnet_tf.studies import make_job  # not above: its plots take half a second to import

        return make_job(self._compose(overrides), arm=arm, phase=phase, overrides=overrides)

    def _compose(self, overrides: list[str]) -> Config:
        composed = self.loader.load_sweep_config(self.base, overrides)
        with open_dict(composed):
            composed.pop("hydra")
        return resolve(composed)

    # ------------------------------------------------------------------------------------------ running it

    def _launch(self, jobs: list[Job]) -> None:
        """Enter the jobs in the manifest and hand those that have not finished to the launcher."""
        jobs = list({job.name: job for job in jobs}.values())  # seed=0,0 is one job
        known = {job.name for job in self.sweep_folder.jobs}
        self.sweep_folder.jobs.extend(job for job in jobs if job.name not in known)
        self.sweep_folder.save()
        todo = [job for job in jobs if self.sweep_folder.run(job).status()["state"] != runs.State.finished]
        if todo:
            overrides = [
                [*job.overrides, _quoted("run_dir", str(self.sweep_folder.path / job.name))] for job in todo
            ]
            self.launcher.launch(overrides, initial_job_idx=0)

    def _report(self) -> None:
        from alexnet_tf.studies import write_report

        report = write_report([self.sweep_folder.path])
        report.print(Console())


def _short(override: str) -> str:
    """An override as part of a folder's name: `optimizer.lr=0.01` is `lr=0.01`."""
    key, _, value = override.partition("=")
    return re.sub(r"[^\w.=+-]", "-", f"{key.rpartition('.')[2]}={value}")


def _quoted(key: str, value: str) -> str:
    """An override whose value is taken as it is, blanks, commas and equal signs included."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


def _name(config: Config) -> str:
    return config.study.name if config.study else "sweep"
