"""The report's tables as text, built once: the page and the terminal show the same rows."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

from alexnet_tf.studies import wording
from alexnet_tf.studies.measures import Crossing
from alexnet_tf.studies.results import RunResult, Unfinished, differences
from alexnet_tf.studies.study import Arm, StudyResult


@dataclass(frozen=True)
class TextTable:
    """A table of finished text; the first cell of each row names it.

    Args:
        caption: What the table shows.
        columns: The header.
        rows: Cells as shown.
        numeric: Whether all but the first column read best flushed right.
        prose: Whether cells hold sentences, which may wrap in the page.
        wide: Whether it is too wide or long for the terminal and stands in the page alone.
    """

    caption: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numeric: bool = False
    prose: bool = False
    wide: bool = False


def arms_table(study: StudyResult) -> TextTable:
    """A row for each arm: seeds, iterations and seconds to the threshold, errors at the end."""
    goal = wording.threshold_text(study.threshold)
    return TextTable(
        caption=f"Way to {goal} training error: mean over seeds (minimum to maximum), '>' where a run ended before it; errors at the end",
        columns=(
            "Arm",
            "Reached",
            "Iterations",
            "Seconds",
            "Training error",
            "Validation error",
        ),
        rows=[_arm_row(arm) for arm in study.arms],
        numeric=True,
    )


def _arm_row(arm: Arm) -> tuple[str, ...]:
    steps = arm.steps
    return (
        arm.name,
        f"{steps.n - steps.censored} of {steps.n}" if steps else "0 of 0",
        wording.summary(steps),
        wording.summary(arm.seconds, "seconds"),
        wording.percent(arm.mean_last("probe")),
        wording.percent(arm.mean_last("validation")),
    )


def comparisons_table(study: StudyResult) -> TextTable:
    """A row for each comparison: ratio with interval, the claim, the verdict."""
    rows = [
        (
            item.name,
            f"{item.reference} / {item.arm}",
            str(item.steps.n),
            wording.ratio(item.steps),
            wording.ratio(item.seconds),
            wording.claimed(item.steps, item.claim),
            wording.verdict(item.steps, item.claim),
        )
        for item in study.comparisons
    ]
    columns = ("Comparison", "Ratio", "Seeds", "Iterations", "Seconds", "Claimed", "Verdict")
    return TextTable(
        "Comparisons: ratio [95 % t interval] over the seeds that both arms share", columns, rows
    )


def seeds_table(study: StudyResult) -> TextTable:
    """A row for each finished run of the comparison."""
    rows = [
        (
            arm.name,
            str(seed),
            wording.crossing(result.steps),
            wording.crossing(result.seconds, "seconds"),
            wording.percent(result.run.last("probe", "top1_error")),
            wording.percent(result.run.last("validation", "top1_error")),
        )
        for arm in study.arms
        for seed, result in arm.seeds.items()
    ]
    columns = (
        "Arm",
        "Seed",
        "Iterations",
        "Seconds",
        "Training error",
        "Validation error",
    )
    goal = wording.threshold_text(study.threshold)
    return TextTable(
        f"Every run that counts: its way to {goal}, and its errors at the end",
        columns,
        rows,
        numeric=True,
        wide=True,
    )


def tuning_table(study: StudyResult) -> TextTable:
    """A row for each run of the tuning phase."""
    key = ((study.sweep.study or {}).get("tune") or {}).get("key", "value")
    rows = [
        (
            trial.arm,
            f"{trial.value:g}",
            str(trial.seed),
            wording.crossing(trial.steps),
            trial.reason or wording.percent(trial.last_error),
        )
        for trial in study.trials
    ]
    columns = ("Arm", key, "Seed", "Iterations", "Training error")
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
        "Best validation",
        "Seconds",
        "Images/s",
    )
    rows = [_run_row(run, top5) for run in results]
    return TextTable("Runs: loss and errors at the end, training / validation", columns, rows, numeric=True)


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
        wording.seconds(float(run.rows["seconds"].max())),
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


def results_csv(study: StudyResult) -> str:
    """A row for each finished run of the comparison: steps, seconds (s) and errors (fractions, 0-1) in full."""
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            "arm",
            "seed",
            "job",
            "steps",
            "steps_censored",
            "seconds",
            "seconds_censored",
            "probe_error",
            "best_probe_error",
            "train_loss",
            "validation_error",
            "best_validation_error",
        ]
    )
    for arm in study.arms:
        for seed, result in arm.seeds.items():
            run = result.run
            errors = (
                run.last("probe", "top1_error"),
                run.best("probe"),
                run.last("train", "loss"),
                run.last("validation", "top1_error"),
                run.best("validation"),
            )
            crossings = (*_cells(result.steps), *_cells(result.seconds))
            writer.writerow([arm.name, seed, run.name, *crossings, *map(_cell, errors)])
    return stream.getvalue()


def _cells(crossing: Crossing) -> tuple[str, str]:
    return _cell(crossing.value), str(crossing.censored).lower()


def _cell(value: float) -> str:
    return repr(value) if math.isfinite(value) else ""
