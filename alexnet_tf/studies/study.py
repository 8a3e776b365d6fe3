"""A study's sweep folder as one structure: arms, crossings, comparisons, tuning, and the jobs that do not count."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alexnet_tf.config import flatten
from alexnet_tf.config.schema import Metric
from alexnet_tf.runs import MANIFEST, SCORES, Job, RunError, SweepFolder
from alexnet_tf.studies.measures import Effect, Reading, Verdict, judge, paired_difference, paired_ratio
from alexnet_tf.studies.results import (
    Measure,
    RunResult,
    Unfinished,
    differences,
    evaluated_error,
    load_jobs,
)

SMOKE = "smoke"
"""The scale that shows that a study runs, and no more."""
ENSEMBLES = "ensembles"
"""Folder of a sweep with the evaluations of averaged runs."""
TUNE, PRETRAIN = "tune", "pretrain"
"""The phases of the jobs that choose a value for an arm, and that arms start from; all others are the comparison itself."""


@dataclass(frozen=True)
class Arm:
    """An arm with its finished runs by seed."""

    name: str
    overrides: tuple[str, ...]
    runs: dict[int, RunResult]

    def readings(self, measure: Measure) -> dict[int, Reading]:
        """A measure of each seed's run."""
        return {seed: run.read(measure) for seed, run in self.runs.items()}

    def seconds(self, measure: Measure) -> dict[int, Reading]:
        """The training time of each seed's run to the threshold of a measure of time."""
        return {seed: run.seconds_to(run.read(measure)) for seed, run in self.runs.items()}

    def mean_last(self, split: str, column: str = "top1_error") -> float:
        """The mean over seeds of a split's last value; NaN without any."""
        values = [run.last(split, column) for run in self.runs.values()]
        return statistics.fmean(values) if values else math.nan


@dataclass(frozen=True, kw_only=True)
class ComparisonSpec:
    """What a study compares by which measure, and what was claimed."""

    name: str
    arm: str
    reference: str
    measure: Measure
    reference_measure: Measure
    average: int
    """How many runs' probabilities are averaged; 1: none."""
    claim: float | None
    direction: int
    margin: float | None
    id: str = ""
    """The claim's number; empty: it is not one of the paper's."""


@dataclass(frozen=True, kw_only=True)
class Comparison(ComparisonSpec):
    """How far `arm` lies from `reference`."""

    effect: Effect
    seconds: Effect | None
    """The ratio of training times, beside one of iterations."""
    scale: str = ""

    @property
    def verdict(self) -> Verdict:
        """On the claim; none at smoke scale, whatever the seeds."""
        if self.scale == SMOKE:
            return Verdict.none
        return judge(self.effect, self.claim, self.direction, self.margin)


@dataclass(frozen=True)
class Trial:
    """One run of the tuning phase.

    Args:
        arm: The arm it tunes.
        value: The candidate.
        seed: Its seed.
        reading: Its value of the study's measure; None if the run did not finish.
        last_error: The measured split's last error (fraction, 0-1); infinite if the run did not finish.
        reason: Why it did not finish, else empty.
    """

    arm: str
    value: float
    seed: int
    reading: Reading | None
    last_error: float
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """Everything that the report of a study says."""

    name: str
    question: str
    source: str
    scale: str
    measure: Measure
    sweep: SweepFolder
    arms: list[Arm]
    comparisons: list[Comparison]
    trials: list[Trial]
    unfinished: list[Unfinished]

    @property
    def finished(self) -> list[RunResult]:
        """The runs that count, in the order of arms and seeds."""
        return [run for arm in self.arms for run in arm.runs.values()]

    @property
    def measures(self) -> list[Measure]:
        """All that it measures, each once."""
        pairs = [(item.measure, item.reference_measure) for item in self.comparisons]
        return list(dict.fromkeys([self.measure, *(measure for pair in pairs for measure in pair)]))

    @property
    def races(self) -> list[Measure]:
        """The measures of time among them."""
        return [measure for measure in self.measures if measure.is_time]

    def config_differences(self) -> tuple[list[str], dict[str, list[str]]]:
        """The arms that have a run, and the config keys in which they differ with a value for each."""
        firsts = {arm.name: next(iter(arm.runs.values())).config for arm in self.arms if arm.runs}
        return list(firsts), differences(firsts)


def load_study(sweep: SweepFolder) -> StudyResult:
    """Read the runs of a study. Only finished ones count; all others are in `unfinished` with their reason.

    Raises:
        RunError: If the sweep has no study, or its description is damaged or asks for an unknown metric.
    """
    study = _description(sweep)
    measure = measure_of(study, {})
    specs = comparison_specs(study)
    measures = [measure, *(spec.measure for spec in specs)]
    jobs = [job for job in sweep.jobs if job.phase not in (TUNE, PRETRAIN)]
    finished, unfinished = load_jobs(sweep, jobs, splits=_splits(measures))
    names = [*study["arms"], *(run.arm for run in finished if run.arm not in study["arms"])]
    arms = [_arm(name, study["arms"], finished) for name in dict.fromkeys(names)]
    by_name = {arm.name: arm for arm in arms}
    return StudyResult(
        name=str(study["name"]),
        question=str(study["question"]),
        source=str(study.get("source") or ""),
        scale=str(study.get("scale") or ""),
        measure=measure,
        sweep=sweep,
        arms=arms,
        comparisons=[_comparison(sweep, spec, by_name) for spec in specs],
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
    return sweep.study


def measure_of(study: Mapping[str, Any], spec: Mapping[str, Any]) -> Measure:
    """The measure of a comparison: its own keys, else the study's."""

    def value(key: str, default: str) -> str:
        own = spec.get(key)
        return str(study.get(key, default) if own is None else own)

    metric = value("metric", Metric.time_to_error)
    if metric not in list(Metric):
        raise RunError(f"study.metric={metric}: expected one of {', '.join(Metric)}")
    views = int(spec.get("views") or 0)
    return Measure(Metric(metric), value("split", "probe"), float(value("threshold", "nan")), views)


def comparison_specs(study: Mapping[str, Any]) -> list[ComparisonSpec]:
    """A study's comparisons, from its description in a manifest or in a file of `conf/experiment/`.

    Raises:
        RunError: If one lacks an arm, names one that is not there, or asks for an unknown metric.
    """
    return [_spec(study, name, spec) for name, spec in (study.get("comparisons") or {}).items()]


def _spec(study: Mapping[str, Any], name: str, spec: Mapping[str, Any]) -> ComparisonSpec:
    for role in ("arm", "reference"):
        if spec.get(role) not in study["arms"]:
            known = ", ".join(study["arms"])
            raise RunError(f"study.comparisons.{name}.{role}={spec.get(role)}: expected one of {known}")
    measure = measure_of(study, spec)
    return ComparisonSpec(
        name=name,
        arm=spec["arm"],
        reference=spec["reference"],
        measure=measure,
        reference_measure=replace(measure, views=int(spec.get("reference_views") or 0)),
        average=int(spec.get("average") or 1),
        claim=_number(spec, "claim"),
        direction=int(spec.get("direction") or 0),
        margin=_number(spec, "margin"),
        id=str(spec.get("id") or ""),
    )


def _splits(measures: Iterable[Measure]) -> list[str]:
    """The splits of which training must have measured the error."""
    splits = [measure.split for measure in measures if not measure.views]
    return sorted({*splits, *(["validation"] if any(m.metric is Metric.gap for m in measures) else [])})


def _arm(name: str, arms: Mapping[str, Sequence[str]], finished: Iterable[RunResult]) -> Arm:
    own = sorted((run for run in finished if run.arm == name), key=lambda run: run.seed)
    return Arm(name, tuple(arms.get(name, ())), {run.seed: run for run in own})


def _comparison(sweep: SweepFolder, spec: ComparisonSpec, arms: Mapping[str, Arm]) -> Comparison:
    arm, reference, measure = arms[spec.arm], arms[spec.reference], spec.measure
    return Comparison(
        **vars(spec),
        effect=(
            _averaging_effect(sweep, arm, measure, spec.average)
            if spec.average > 1
            else _effect(arm, measure, reference, spec.reference_measure)
        ),
        seconds=paired_ratio(reference.seconds(measure), arm.seconds(measure)) if measure.is_time else None,
        scale=str(_description(sweep).get("scale") or ""),
    )


def _number(spec: Mapping[str, Any], key: str) -> float | None:
    return None if spec.get(key) is None else float(spec[key])


def _effect(arm: Arm, measure: Measure, reference: Arm, reference_measure: Measure) -> Effect:
    sides = (arm.readings(measure), reference.readings(reference_measure))
    if measure.is_time:
        return paired_ratio(sides[1], sides[0])
    return paired_difference(*({seed: found.value for seed, found in side.items()} for side in sides))


def groups(runs: Sequence[RunResult], size: int) -> list[Sequence[RunResult]]:
    """The runs of an arm that are averaged together: `size` seeds that follow on one another, what is left not."""
    return [runs[start : start + size] for start in range(0, len(runs) - size + 1, size)]


def ensemble_folder(sweep: SweepFolder, members: Sequence[RunResult], measure: Measure) -> Path:
    """Where the evaluation of the average of some runs is."""
    seeds = "-".join(str(run.seed) for run in members)
    return sweep.path / ENSEMBLES / f"{members[0].arm}-seeds{seeds}-{measure.split}-{measure.views}views"


def _averaging_effect(sweep: SweepFolder, arm: Arm, measure: Measure, size: int) -> Effect:
    """The error of averaged runs less the mean of their own errors, in points, a pair for each group of runs."""
    averaged, single = {}, {}
    for index, members in enumerate(groups(list(arm.runs.values()), size)):
        scores = ensemble_folder(sweep, members, measure) / SCORES
        averaged[index] = 100 * evaluated_error(scores, measure.split, measure.views, averaged=size)
        single[index] = statistics.fmean(run.read(measure).value for run in members)
    return paired_difference(averaged, single)


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
    measure = measure_of(study, {})
    finished, unfinished = load_jobs(sweep, jobs, splits=_splits([measure]))
    runs = {run.name: run for run in finished}
    reasons = {item.job.name: f"{item.state}: {item.reason}" for item in unfinished}
    return [_trial(sweep, job, key, measure, runs.get(job.name), reasons.get(job.name, "")) for job in jobs]


def _trial(
    sweep: SweepFolder, job: Job, key: str, measure: Measure, run: RunResult | None, reason: str
) -> Trial:
    value = _tuned(sweep, job, key, run)
    if run is None:
        return Trial(job.arm, value, job.seed, None, math.inf, reason)
    return Trial(job.arm, value, job.seed, run.read(measure), run.last(measure.split, "top1_error"))


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
    """The candidate with the lowest mean of the study's measure: the fewest iterations, or the lowest error.

    A candidate of which a seed did not reach the threshold ranks behind all that always did, by its mean last
    error; one of which a seed failed ranks last. Among equals the first tried wins.

    Raises:
        RunError: If the arm has no trial, or none of them finished.
    """
    candidates: dict[float, list[Trial]] = {}
    for trial in trials:
        if trial.arm == arm:
            candidates.setdefault(trial.value, []).append(trial)
    if not any(trial.reading for group in candidates.values() for trial in group):
        raise RunError(f"arm {arm}: none of {sum(map(len, candidates.values()))} tuning runs finished")
    return min(candidates, key=lambda value: _rank(candidates[value]))


def _rank(trials: Sequence[Trial]) -> tuple[int, float, float]:
    readings = [trial.reading for trial in trials if trial.reading is not None]
    failed = len(trials) - len(readings)
    error = statistics.fmean(trial.last_error for trial in trials if trial.reading) if readings else math.inf
    if failed or any(reading.censored for reading in readings):
        return (2 if failed else 1), error, 0.0
    return 0, statistics.fmean(reading.value for reading in readings), error
