"""Reading finished runs: their curves, their final numbers, and what differs between their configs."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_tf import runs
from alexnet_tf.config import flatten
from alexnet_tf.config.schema import Metric
from alexnet_tf.runs import Job, RunError, RunFolder, State, SweepFolder
from alexnet_tf.studies.measures import Reading, mean_over_steps, seconds_at, time_to_error

if TYPE_CHECKING:
    import pandas as pd

IGNORED_KEYS = frozenset({"seed", "run_dir", "resume", "study", "scale"})
"""Top-level config keys that say which run it is and not what it does."""
ABSENT = "(absent)"
DEAD, UNREADABLE = "dead", "unreadable"
"""What a run can be beside a `State`: its process is gone without a word; its files are damaged."""
SWITCHES = {"probe": " (training.probe.every)", "validation": " (training.evaluate_every)"}
"""What makes a run measure a split."""
KEYS = ["epoch", "step", "split"]


@dataclass(frozen=True)
class Measure:
    """What of a run is compared.

    Args:
        metric: What kind of number.
        split: Whose error.
        threshold: For `time_to_error` alone; a fraction (0-1).
        views: For `error` alone: views of each image in the evaluation after the training; 0: as training measured.
    """

    metric: Metric
    split: str
    threshold: float
    views: int = 0

    @property
    def is_time(self) -> bool:
        """Whether it is a number of iterations, compared as a ratio."""
        return self.metric is Metric.time_to_error


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A run with its measurements.

    Args:
        name: How the report calls it.
        arm: The study's arm; empty for a run outside a study.
        seed: Its seed.
        folder: Where it is.
        state: A `State`, or `dead`.
        rows: `metrics.csv` beside `timing.csv`: the columns of both, a row per epoch and split.
    """

    name: str
    arm: str
    seed: int
    folder: RunFolder
    state: str
    rows: "pd.DataFrame"

    def curve(self, split: str, column: str = "top1_error") -> "pd.DataFrame":
        """The rows of one split by step, those without `column` dropped."""
        rows = self.rows[(self.rows["split"] == split) & self.rows[column].notna()]
        return rows.drop_duplicates("step", keep="last").sort_values("step")

    def last(self, split: str, column: str) -> float:
        """The last value of a split; NaN if there is none."""
        values = self.curve(split, column)[column]
        return float(values.iloc[-1]) if len(values) else math.nan

    def best(self, split: str, column: str = "top1_error") -> float:
        """The lowest value of a split; NaN if there is none."""
        values = self.curve(split, column)[column]
        return float(values.min()) if len(values) else math.nan

    def read(self, measure: "Measure") -> Reading:
        """What a study's measure says of this run: steps, or per cent (NaN where nothing was measured)."""
        curve = self.curve(measure.split)
        steps, errors = curve["step"].tolist(), curve["top1_error"].tolist()
        if measure.metric is Metric.time_to_error:
            return time_to_error(steps, errors, measure.threshold)
        if measure.metric is Metric.area:
            return Reading(100 * mean_over_steps(steps, errors))
        if measure.metric is Metric.gap:
            return Reading(
                100 * (self.last("validation", "top1_error") - self.last(measure.split, "top1_error"))
            )
        if measure.views:
            return Reading(100 * self.evaluated(measure.split, measure.views))
        chosen = self.best if measure.metric is Metric.best_error else self.last
        return Reading(100 * chosen(measure.split, "top1_error"))

    def seconds_to(self, crossing: Reading) -> Reading:
        """A crossing in steps as seconds of training; NaN without `timing.csv`."""
        clock = self.rows[self.rows["seconds"].notna()].sort_values("step").drop_duplicates("step")
        if not len(clock):
            return Reading(math.nan, crossing.censored)
        return seconds_at(crossing, clock["step"].tolist(), clock["seconds"].tolist())

    def evaluated(self, split: str, views: int) -> float:
        """The top-1 error of the newest evaluation of the finished run (fraction); NaN if there is none."""
        return evaluated_error(self.folder.path / runs.EVALUATIONS, split, views, averaged=1)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config."""
        return self.folder.config_dict()


@dataclass(frozen=True)
class Unfinished:
    """A job that does not count, and why."""

    job: Job
    state: str
    reason: str


def load_run(folder: RunFolder, *, name: str = "", arm: str = "", seed: int | None = None) -> RunResult:
    """Read a run's measurements.

    Raises:
        RunError: If `metrics.csv` is missing, damaged or empty, or another file is damaged.
    """
    rows = _floats(folder.metrics())
    if rows.empty:
        raise RunError(f"{folder.path / runs.METRICS}: has no rows yet")
    if (folder.path / runs.TIMING).exists():
        timing = _floats(folder.timing()).drop_duplicates(KEYS, keep="last")
        rows = rows.merge(timing, on=KEYS, how="left")
    else:
        rows = rows.assign(seconds=math.nan, images_per_second=math.nan)
    own_seed = folder.config_dict().get("seed", 0) if seed is None else seed
    state, _ = state_and_reason(folder)
    return RunResult(name=name or folder.name, arm=arm, seed=own_seed, folder=folder, state=state, rows=rows)


def state_and_reason(folder: RunFolder) -> tuple[str, str]:
    """A run's `State`, or `dead`, and why, on one line; empty where nothing is to be said.

    Raises:
        RunError: If the status is damaged.
    """
    dead = folder.is_dead()
    status = folder.status()
    if dead:
        return DEAD, f"interrupted: its process is gone, last heard of at {status.get('updated', '?')}"
    return str(status["state"]), " ".join(str(status.get("reason", "")).split())


def evaluated_error(path: Path, split: str, views: int, averaged: int) -> float:
    """The top-1 error (fraction) of the last matching row of a table of evaluations; NaN if there is none.

    Raises:
        RunError: If the table is damaged.
    """
    if not path.exists():
        return math.nan
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        wanted = (split, views, averaged)
        errors = [
            float(row["top1_error"])
            for row in rows
            if (row["split"], int(row["views"]), int(row["runs"])) == wanted
        ]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise RunError(f"{path}: no table of evaluations ({' '.join(str(error).split())})") from error
    return errors[-1] if errors else math.nan


def _floats(table: "pd.DataFrame") -> "pd.DataFrame":
    """The table with all columns but `split` as floats, so that an empty one has a dtype too."""
    return table.astype({name: float for name in table.columns if name != "split"})


def load_jobs(
    sweep: SweepFolder, jobs: Iterable[Job], *, splits: Iterable[str] = ()
) -> tuple[list[RunResult], list[Unfinished]]:
    """The finished runs among `jobs`, and the others with the reason why they do not count.

    Args:
        sweep: The sweep.
        jobs: Some of its jobs.
        splits: Those whose error a run must have measured to count.
    """
    finished, unfinished = [], []
    for job in jobs:
        folder = sweep.run(job)
        try:
            state, reason = _standing(folder)
            if state == State.finished:
                run = load_run(folder, name=job.name, arm=job.arm, seed=job.seed)
                if missing := [split for split in splits if run.curve(split).empty]:
                    raise RunError(f"has no {missing[0]} measurements{SWITCHES.get(missing[0], '')}")
                finished.append(run)
                continue
        except RunError as error:
            state, reason = UNREADABLE, str(error).removeprefix(f"{folder.path}/")
        unfinished.append(Unfinished(job, state, reason))
    return finished, unfinished


def _standing(folder: RunFolder) -> tuple[str, str]:
    """State and reason of a job that may not even have a folder."""
    if not folder.path.is_dir():
        return State.pending.value, "was never started (no folder)"
    state, reason = state_and_reason(folder)
    status = folder.status()
    at = f"at step {status['step']} of {status.get('steps', '?')}" if "step" in status else "no step recorded"
    return state, reason or at


def differences(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """The dotted keys in which configs differ, each with its value in every config, in the configs' order.

    `IGNORED_KEYS` do not count. A key that a config lacks shows as `ABSENT`.
    """
    flat = [
        flatten({key: value for key, value in config.items() if key not in IGNORED_KEYS})
        for config in configs.values()
    ]
    keys = list(dict.fromkeys(key for config in flat for key in config))
    table = {key: [_show(config[key]) if key in config else ABSENT for config in flat] for key in keys}
    return {key: values for key, values in table.items() if len(set(values)) > 1}


def _show(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def environment_rows(results: Sequence[RunResult]) -> list[tuple[str, str]]:
    """What `environment.json` says of the runs: one row per key, several values where the runs differ.

    The first start and the last end stand for all. A run without the file adds nothing.
    """
    found: dict[str, list[str]] = {}
    for result in results:
        try:
            environment = result.folder.environment()
        except RunError:
            continue
        for key, value in flatten(environment).items():
            values = found.setdefault(key, [])
            text = ", ".join(map(str, value)) if isinstance(value, list) else _show(value)
            if text and text not in values:
                values.append(text)
    pick = {"start": min, "end": max}
    return [
        (key, pick[key](values) if key in pick else "; ".join(values))
        for key, values in sorted(found.items())
        if values
    ]
