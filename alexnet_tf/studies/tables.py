"""The report's tables as text, built once: the page and the terminal show the same rows."""

import csv
import math
from collections.abc import Sequence
from io import StringIO

from alexnet_tf.pages import TextTable
from alexnet_tf.studies import wording
from alexnet_tf.studies.measures import Reading, summarize
from alexnet_tf.studies.results import Measure, RunResult, Unfinished, differences
from alexnet_tf.studies.study import Arm, StudyResult


def arms_table(study: StudyResult) -> TextTable:
    """A row for each arm: seeds, iterations and seconds to the threshold where that is measured, errors at the end."""
    races, columns = study.races, ["Arm", "Seeds"]
    for race in races:
        goal = f"{wording.threshold_text(race.threshold)} {wording.error_name(race.split)}"
        columns += [f"Reached {goal}" if len(races) > 1 else "Reached", "Iterations", "Seconds"]
    columns += ["Training error", "Validation error"]
    goals = " and ".join(wording.measure_name(race) for race in races)
    return TextTable(
        caption=f"{wording.capitalized(goals)}: mean over seeds (minimum to maximum), '>' where a run ended before; errors at the end"
        if races
        else "Errors at the end: mean over seeds (minimum to maximum)",
        columns=tuple(columns),
        rows=[_arm_row(arm, races) for arm in study.arms],
        numeric=True,
    )


def _arm_row(arm: Arm, races: Sequence[Measure]) -> tuple[str, ...]:
    row = [arm.name, str(len(arm.runs))]
    for race in races:
        steps, seconds = (summarize(found(race).values()) for found in (arm.readings, arm.seconds))
        reached = f"{steps.n - steps.censored} of {steps.n}" if steps else "0 of 0"
        row += [reached, wording.summary(steps), wording.summary(seconds, "seconds")]
    return (*row, *(_end(arm, split, ranges=not races) for split in ("probe", "validation")))


def _end(arm: Arm, split: str, *, ranges: bool) -> str:
    """The mean error at the end (of the training images: by the probe, else the running one), with its range."""
    for name in (split, "train") if split == "probe" else (split,):
        ends = [run.last(name, "top1_error") for run in arm.runs.values()]
        if ends and all(map(math.isfinite, ends)):
            if not ranges:
                return wording.percent(arm.mean_last(name))
            return wording.summary(summarize(Reading(100 * end) for end in ends), "percent")
    return wording.MISSING


def comparisons_table(study: StudyResult) -> TextTable:
    """A row for each comparison: effect with interval, the claim, the verdict."""
    rows = [
        (
            item.name,
            wording.sides_text(item),
            wording.compared(item),
            str(item.effect.n),
            wording.effect(item.effect),
            *([wording.effect(item.seconds) if item.seconds else wording.MISSING] if study.races else []),
            wording.claimed(item),
            wording.verdict(item),
        )
        for item in study.comparisons
    ]
    columns = (
        "Comparison",
        "Arms",
        "Measure",
        "Seeds",
        "Effect",
        *(["By seconds"] if study.races else []),
        "Claimed",
        "Verdict",
    )
    caption = (
        "Comparisons over the seeds that both arms share: how many times as fast (x), or difference in percentage "
        "points, with its 95 % t interval"
    )
    return TextTable(caption, columns, rows, prose=True, wide=True)


def seeds_table(study: StudyResult) -> TextTable:
    """A row for each finished run of the comparison: every measure that the study compares by, and the ends."""
    measures = study.measures
    names = [wording.measure_name(measure) for measure in measures]
    ends = [
        (name, split)
        for name, split in (
            ("training error at the end", "probe"),
            ("validation error at the end", "validation"),
        )
        if name not in names
    ]
    rows = [
        (
            arm.name,
            str(seed),
            *(wording.reading(run.read(measure), wording.unit_of(measure)) for measure in measures),
            *(wording.percent(run.last(split, "top1_error")) for _, split in ends),
        )
        for arm in study.arms
        for seed, run in arm.runs.items()
    ]
    columns = (
        "Arm",
        "Seed",
        *(wording.capitalized(name) for name in [*names, *(name for name, _ in ends)]),
    )
    return TextTable("Every run that counts", columns, rows, numeric=True, wide=True)


def tuning_table(study: StudyResult) -> TextTable:
    """A row for each run of the tuning phase."""
    key = ((study.sweep.study or {}).get("tune") or {}).get("key", "value")
    rows = [
        (
            trial.arm,
            f"{trial.value:g}",
            str(trial.seed),
            wording.reading(trial.reading, wording.unit_of(study.measure)),
            trial.reason or wording.percent(trial.last_error),
        )
        for trial in study.trials
    ]
    measured = wording.capitalized(wording.measure_name(study.measure))
    columns = ("Arm", key, "Seed", measured, "Error at the end")
    return TextTable(
        "Tuning, on seeds of its own, errors at the end; not part of the comparison",
        columns,
        rows,
        numeric=True,
    )


def unfinished_table(unfinished: Sequence[Unfinished]) -> TextTable:
    """A row for each job that does not count."""
    rows = [(item.job.name, item.job.arm, str(item.job.seed), item.state, item.reason) for item in unfinished]
    return TextTable("Jobs that do not count", ("Job", "Arm", "Seed", "State", "Reason"), rows, prose=True)


def runs_table(results: Sequence[RunResult]) -> TextTable:
    """A row for each run: losses and errors at the end, the best, time and speed."""
    top5 = any(math.isfinite(run.last("validation", "top5_error")) for run in results)
    columns = (
        "Run",
        "State",
        "Epochs",
        "Loss",
        "Top-1 error",
        *(["Top-5 error"] if top5 else []),
        "Best",
        "Seconds",
        "Images/s",
    )
    rows = [_run_row(run, top5) for run in results]
    hidden = {
        "Top-5 error",
        "Images/s",
        *(["State"] if {run.state for run in results} == {"finished"} else []),
    }
    return TextTable(
        "Runs: loss and errors at the end, training / validation; the best validation error",
        columns,
        rows,
        numeric=True,
        page_only=frozenset(hidden),
    )


def _run_row(run: RunResult, top5: bool) -> tuple[str, ...]:
    rates = run.curve("train", "images_per_second")["images_per_second"]
    losses = [wording.significant(run.last(split, "loss"), 3) for split in ("train", "validation")]
    return (
        run.name,
        run.state,
        wording.steps(float(run.rows["epoch"].max())),
        " / ".join(losses),
        _errors(run, "top1_error"),
        *([_errors(run, "top5_error")] if top5 else []),
        wording.percent(run.best("validation")),
        wording.seconds_text(float(run.rows["seconds"].max())),
        wording.steps(float(rates.median())) if len(rates) else wording.MISSING,
    )


def _errors(run: RunResult, column: str) -> str:
    return " / ".join(wording.percent(run.last(split, column)) for split in ("train", "validation"))


def differences_table(names: Sequence[str], found: dict[str, list[str]]) -> TextTable:
    """The config keys that differ, a column for each arm or run."""
    rows = [(key, *values) for key, values in found.items()]
    return TextTable("Config keys that differ", ("Key", *names), rows, prose=True, wide=True)


def run_differences(results: Sequence[RunResult]) -> TextTable:
    """The config keys in which runs differ; the seed counts here, because runs have no arms."""
    names = [f"{run.name}#{index}" for index, run in enumerate(results)]  # two folders may have one name
    found = differences(dict(zip(names, (run.config for run in results), strict=True)))
    seeds = [str(run.seed) for run in results]
    if len(set(seeds)) > 1:
        found = {"seed": seeds, **found}
    return differences_table([run.name for run in results], found)


def environment_table(rows: Sequence[tuple[str, str]]) -> TextTable:
    """What the runs ran on."""
    return TextTable("Environment", ("Key", "Value"), [tuple(row) for row in rows], prose=True, wide=True)


ENDS = {
    "probe_error": ("last", "probe", "top1_error"),
    "best_probe_error": ("best", "probe", "top1_error"),
    "train_loss": ("last", "train", "loss"),
    "train_error": ("last", "train", "top1_error"),
    "validation_error": ("last", "validation", "top1_error"),
    "best_validation_error": ("best", "validation", "top1_error"),
}
"""Columns of `results.csv` that every study has: which end of which curve."""


def results_csv(study: StudyResult) -> str:
    """A row for each finished run of the comparison: steps, seconds (s) and errors (fractions, 0-1) in full."""
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    races = study.races
    suffixes = [f"_to_{race.threshold:g}_{race.split}" if len(races) > 1 else "" for race in races]
    times = [
        f"{name}{suffix}"
        for suffix in suffixes
        for name in ("steps", "steps_censored", "seconds", "seconds_censored")
    ]
    writer.writerow(["arm", "seed", "job", *times, *ENDS])
    for arm in study.arms:
        for seed, run in arm.runs.items():
            crossings = [run.read(race) for race in races]
            cells = [cell for found in crossings for cell in (*_cells(found), *_cells(run.seconds_to(found)))]
            ends = [_cell(getattr(run, which)(split, column)) for which, split, column in ENDS.values()]
            writer.writerow([arm.name, seed, run.name, *cells, *ends])
    return stream.getvalue()


def _cells(reading: Reading) -> tuple[str, str]:
    return _cell(reading.value), str(reading.censored).lower()


def _cell(value: float) -> str:
    return repr(value) if math.isfinite(value) else ""
