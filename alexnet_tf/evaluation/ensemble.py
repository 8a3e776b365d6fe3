"""The average of several runs' probabilities, as the paper averages its networks (section 6)."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alexnet_tf import runs
from alexnet_tf.config import ConfigError
from alexnet_tf.evaluation.measure import Counts, Settings, Task, measure, prepare
from alexnet_tf.evaluation.results import FOLDER, Evaluation, new_results, write_scores
from alexnet_tf.inference import Run, class_labels
from alexnet_tf.runs import SCORES, WrongPathError

ROWS_AT_ONCE = 4096


def evaluate_ensemble(
    members: Sequence[Run], settings: Settings, out: Path | None = None
) -> list[Evaluation]:
    """Measure runs as `evaluate_runs` does, and the average of their probabilities.

    Args:
        members: At least two runs of the same classes and data; network and preprocessing may differ.
        settings: How to measure.
        out: A new folder for the average's tables and the scores of all; by default one in `evaluations/`.

    Returns:
        An evaluation for each run, and last that of the average.

    Raises:
        ConfigError: If there are fewer than two runs or they are of other data or classes; else as `evaluate_runs`.
        WrongPathError: If `out` exists.
        RunError: As `evaluate_runs`.
        DataError: As `evaluate_runs`.
    """
    out = runs.new_folder(Path(FOLDER), f"{settings.split}_ensemble") if out is None else out
    if out.exists() or out.is_symlink():
        raise WrongPathError(f"--out {out}: exists already. Expected the name of a new folder")
    _check_several(members)
    tasks = [prepare(run, settings) for run in members]
    _check_alike(tasks)
    labels = class_labels(members[0], tasks[0].outputs)
    evaluations: list[Evaluation] = []
    log_sum, truth = np.full([1, len(labels)], -np.inf, np.float32), np.zeros(0, np.int32)
    with new_results(out.parent) as folder:
        for task in tasks:
            evaluation, rows, truth = measure(task, keep=True)
            evaluations.append(evaluation)
            log_sum = np.logaddexp(log_sum, rows)
        counts = Counts.of(len(labels))
        for start in range(0, len(truth), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            counts.add(log_sum[part] - np.float32(math.log(len(tasks))), truth[part])
        average = counts.evaluation(f"average of {len(tasks)} runs", settings, out, labels, len(tasks))
        average.write_tables(folder)
        write_scores(folder / SCORES, [*evaluations, average])
        folder.rename(out)
    return [*evaluations, average]


def _check_several(members: Sequence[Run]) -> None:
    paths = [run.path.resolve() for run in members]
    if len(paths) < 2:
        raise ConfigError(f"--ensemble: expected at least two runs to average. Received {len(paths)}")
    if twice := [str(run.path) for run in members if paths.count(run.path.resolve()) > 1]:
        raise ConfigError(
            f"--ensemble: expected each run once. Received {' and '.join(twice)}, which are one"
        )


def _check_alike(tasks: Sequence[Task]) -> None:
    """Raise `ConfigError` unless all runs tell the same classes apart and see the same examples."""
    first = tasks[0]
    for other in tasks[1:]:
        pair = f"{first.run.path} and {other.run.path}"
        if class_labels(first.run, first.outputs) != class_labels(other.run, other.outputs):
            raise ConfigError(f"--ensemble: expected runs of the same classes. Received {pair}, whose differ")
        if first.source.fingerprint != other.source.fingerprint:
            raise ConfigError(
                f"--ensemble: expected runs of the same data. Received {pair}: data={first.source.name} "
                f"({first.source.fingerprint}) and data={other.source.name} ({other.source.fingerprint})"
            )
