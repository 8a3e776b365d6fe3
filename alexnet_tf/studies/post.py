"""The phase after the training: evaluations of finished runs that a study's comparisons ask for. Imports no TensorFlow."""

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from alexnet_tf.runs import SweepFolder
from alexnet_tf.studies.results import Measure, RunResult
from alexnet_tf.studies.study import Comparison, StudyResult, ensemble_folder, groups, load_study

LOG = "post.txt"
"""What the evaluations printed, in the sweep's folder."""


def evaluate_study(sweep: SweepFolder) -> list[str]:
    """Evaluate what has not been evaluated yet, one command after the other, each in a process of its own.

    Returns:
        A line for each command that failed.
    """
    study = load_study(sweep)
    failed = []
    for item in study.comparisons:
        for command in (*_views(study, item), *_averages(study, item)):
            if (code := _run(sweep.path / LOG, command)) != 0:
                failed.append(f"alexnet {' '.join(command)}: exit status {code}; see {sweep.path / LOG}")
    return failed


def _views(study: StudyResult, item: Comparison) -> list[list[str]]:
    """The evaluations of single runs, those of one network and number of views in one process.

    Averaged runs are evaluated one by one on the way to their average.
    """
    if item.average > 1:
        return []
    sides = dict.fromkeys([(item.reference, item.reference_measure), (item.arm, item.measure)])
    commands = []
    for name, measure in sides:
        missing = [
            run
            for run in _runs(study, name)
            if measure.views and math.isnan(run.evaluated(measure.split, measure.views))
        ]
        if missing:
            commands.append(_command(missing, measure))
    return commands


def _runs(study: StudyResult, arm: str) -> list[RunResult]:
    return [run for run in study.finished if run.arm == arm]


def _averages(study: StudyResult, item: Comparison) -> list[list[str]]:
    """The evaluations of averaged runs."""
    if item.average == 1:
        return []
    runs = _runs(study, item.arm)
    return [
        [*_command(members, item.measure), "--ensemble", "--out", str(folder)]
        for members in groups(runs, item.average)
        if not (folder := ensemble_folder(study.sweep, members, item.measure)).exists()
    ]


def _command(members: Sequence[RunResult], measure: Measure) -> list[str]:
    paths = [str(run.folder.path) for run in members]
    return ["evaluate", *paths, "--split", measure.split, "--views", str(measure.views)]


def _run(log: Path, command: Sequence[str]) -> int:
    print(f"alexnet {' '.join(command)}", flush=True)
    with log.open("ab") as stream:
        return subprocess.run(
            [sys.executable, "-m", "alexnet_tf", *command],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
