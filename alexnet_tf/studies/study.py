"""A study's sweep folder as one structure: arms, crossings, comparisons, tuning, and the jobs that do not count."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alexnet_tf.runs import MANIFEST, Job, RunError, SweepFolder
from alexnet_tf.studies.measures import Crossing, Ratio, Summary, Verdict, judge, paired_ratio, summarize
from alexnet_tf.studies.results import RunResult, Unfinished, differences, flatten, load_jobs

TUNE = "tune"
"""The phase of the jobs that choose a value for an arm; all others are the comparison itself."""


@dataclass(frozen=True)
class SeedResult:
    """One finished run of an arm."""

    run: RunResult
    steps: Crossing
    seconds: Crossing


@dataclass(frozen=True)
class Arm:
    """An arm with its finished runs by seed."""

    name: str
    overrides: tuple[str, ...]
    seeds: dict[int, SeedResult]

    @property
    def steps(self) -> Summary | None:
        """Iterations to the threshold over the seeds."""
        return summarize(result.steps for result in self.seeds.values())

    @property
    def seconds(self) -> Summary | None:
        """Seconds of training to the threshold over the seeds."""
        return summarize(result.seconds for result in self.seeds.values())

    def mean_last(self, split: str, column: str = "top1_error") -> float:
        """The mean over seeds of a split's last value; NaN without any."""
        values = [result.run.last(split, column) for result in self.seeds.values()]
        return statistics.fmean(values) if values else math.nan


@dataclass(frozen=True)
class Comparison:
    """Two arms: how many times faster `arm` is than `reference`, and what was claimed."""

    name: str
    arm: str
    reference: str
    claim: float | None
    steps: Ratio
    seconds: Ratio

    @property
    def verdict(self) -> Verdict:
        """On the claim, by iterations."""
        return judge(self.steps, self.claim)


@dataclass(frozen=True)
class Trial:
    """One run of the tuning phase.

    Args:
        arm: The arm it tunes.
        value: The candidate.
        seed: Its seed.
        steps: Its crossing; None if the run did not finish.
        last_error: The probe's last error (fraction, 0-1); infinite if the run did not finish.
        reason: Why it did not finish, else empty.
    """

    arm: str
    value: float
    seed: int
    steps: Crossing | None
    last_error: float
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """Everything that the report of a study says."""

    name: str
    question: str
    source: str
    threshold: float
    sweep: SweepFolder
    arms: list[Arm]
    comparisons: list[Comparison]
    trials: list[Trial]
    unfinished: list[Unfinished]

    @property
    def finished(self) -> list[RunResult]:
        """The runs that count, in the order of arms and seeds."""
        return [result.run for arm in self.arms for result in arm.seeds.values()]

    def config_differences(self) -> tuple[list[str], dict[str, list[str]]]:
        """The arms that have a run, and the config keys in which they differ with a value for each."""
        firsts = {arm.name: next(iter(arm.seeds.values())).run.config for arm in self.arms if arm.seeds}
        return list(firsts), differences(firsts)


def load_study(sweep: SweepFolder) -> StudyResult:
    """Read the runs of a study. Only finished ones count; all others are in `unfinished` with their reason.

    Raises:
        RunError: If the sweep has no study, or its description is damaged or asks for an unknown metric.
    """
    study = _description(sweep)
    threshold = float(study["threshold"])
    jobs = [job for job in sweep.jobs if job.phase != TUNE]
    finished, unfinished = load_jobs(sweep, jobs, probe=True)
    names = [*study["arms"], *(run.arm for run in finished if run.arm not in study["arms"])]
    arms = [_arm(name, study["arms"], finished, threshold) for name in dict.fromkeys(names)]
    by_name = {arm.name: arm for arm in arms}
    comparisons = [
        _comparison(name, spec, by_name) for name, spec in (study.get("comparisons") or {}).items()
    ]
    return StudyResult(
        name=str(study["name"]),
        question=str(study["question"]),
        source=str(study.get("source") or ""),
        threshold=threshold,
        sweep=sweep,
        arms=arms,
        comparisons=comparisons,
        trials=load_trials(sweep),
        unfinished=unfinished,
    )


def _description(sweep: SweepFolder) -> dict[str, Any]:
    path = sweep.path / MANIFEST
    if sweep.study is None:
        raise RunError(f"{path}: this sweep has no study, only jobs")
    missing = [key for key in ("name", "question", "arms", "threshold") if key not in sweep.study]
    if missing:
        raise RunError(f"{path}: the study lacks {', '.join(missing)}")
    metric = sweep.study.get("metric", "time_to_error")
    if metric != "time_to_error":
        raise RunError(f"{path}: study.metric={metric}: expected one of time_to_error")
    return sweep.study


def _arm(
    name: str, arms: Mapping[str, Sequence[str]], finished: Iterable[RunResult], threshold: float
) -> Arm:
    own = sorted((run for run in finished if run.arm == name), key=lambda run: run.seed)
    results = {}
    for run in own:
        steps = run.crossing(threshold)
        results[run.seed] = SeedResult(run, steps, run.seconds_to(steps))
    return Arm(name, tuple(arms.get(name, ())), results)


def _comparison(name: str, spec: Mapping[str, Any], arms: Mapping[str, Arm]) -> Comparison:
    for role in ("arm", "reference"):
        if spec.get(role) not in arms:
            known = ", ".join(arms)
            raise RunError(f"study.comparisons.{name}.{role}={spec.get(role)}: expected one of {known}")
    arm, reference = arms[spec["arm"]], arms[spec["reference"]]
    claim = spec.get("claim")
    return Comparison(
        name,
        arm.name,
        reference.name,
        None if claim is None else float(claim),
        steps=paired_ratio(_values(reference, "steps"), _values(arm, "steps")),
        seconds=paired_ratio(_values(reference, "seconds"), _values(arm, "seconds")),
    )


def _values(arm: Arm, unit: str) -> dict[int, Crossing]:
    return {seed: getattr(result, unit) for seed, result in arm.seeds.items()}


def load_trials(sweep: SweepFolder) -> list[Trial]:
    """The runs of the tuning phase, unfinished ones included, in the order of the manifest.

    Raises:
        RunError: If a job does not say which value it tries.
    """
    jobs = [job for job in sweep.jobs if job.phase == TUNE]
    if not jobs:
        return []
    study = _description(sweep)
    key = (study.get("tune") or {}).get("key", "optimizer.lr")
    threshold = float(study["threshold"])
    finished, unfinished = load_jobs(sweep, jobs, probe=True)
    runs = {run.name: run for run in finished}
    reasons = {item.job.name: f"{item.state}: {item.reason}" for item in unfinished}
    return [_trial(sweep, job, key, threshold, runs.get(job.name), reasons.get(job.name, "")) for job in jobs]


def _trial(
    sweep: SweepFolder, job: Job, key: str, threshold: float, run: RunResult | None, reason: str
) -> Trial:
    value = _tuned(sweep, job, key, run)
    if run is None:
        return Trial(job.arm, value, job.seed, None, math.inf, reason)
    return Trial(job.arm, value, job.seed, run.crossing(threshold), run.last("probe", "top1_error"))


def _tuned(sweep: SweepFolder, job: Job, key: str, run: RunResult | None) -> float:
    """The candidate: the job's last override of the key, else what its resolved config says."""
    typed = [text.partition("=")[2] for text in job.overrides if text.partition("=")[0].lstrip("+") == key]
    found = typed[-1] if typed else flatten(run.config).get(key) if run else None
    try:
        return float(found)  # type: ignore[arg-type]  # None raises the TypeError that is caught
    except (TypeError, ValueError) as error:
        raise RunError(
            f"{sweep.path / MANIFEST}: job {job.name}: expected an override {key}=NUMBER"
        ) from error


def best_value(sweep: SweepFolder, arm: str) -> float:
    """The tuned value of an arm, by `choose_value` on the sweep's tuning runs.

    Raises:
        RunError: If the arm has no tuning run, or none of them finished.
    """
    return choose_value(load_trials(sweep), arm)


def choose_value(trials: Iterable[Trial], arm: str) -> float:
    """The candidate with the fewest mean iterations to the threshold.

    A candidate of which a seed did not reach the threshold ranks behind all that always did, by its mean last
    error; one of which a seed failed ranks last. Among equals the first tried wins.

    Raises:
        RunError: If the arm has no trial, or none of them finished.
    """
    candidates: dict[float, list[Trial]] = {}
    for trial in trials:
        if trial.arm == arm:
            candidates.setdefault(trial.value, []).append(trial)
    if not any(trial.steps for group in candidates.values() for trial in group):
        raise RunError(f"arm {arm}: none of {sum(map(len, candidates.values()))} tuning runs finished")
    return min(candidates, key=lambda value: _rank(candidates[value]))


def _rank(trials: Sequence[Trial]) -> tuple[int, float, float]:
    steps = [trial.steps for trial in trials if trial.steps is not None]
    failed = len(trials) - len(steps)
    error = statistics.fmean(trial.last_error for trial in trials if trial.steps) if steps else math.inf
    if failed or any(crossing.censored for crossing in steps):
        return (2 if failed else 1), error, 0.0
    return 0, statistics.fmean(crossing.value for crossing in steps), error
