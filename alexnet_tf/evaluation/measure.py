"""Finished runs on a split of their data, over several views of each image."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import Progress

from alexnet_tf import data, runs
from alexnet_tf.config import ConfigError, view_crop
from alexnet_tf.evaluation.evaluator import distribute
from alexnet_tf.evaluation.results import (
    FOLDER,
    Evaluation,
    append_row,
    new_results,
    next_path,
)
from alexnet_tf.evaluation.scores import Scores, tally
from alexnet_tf.inference import Run, class_labels, log_probabilities
from alexnet_tf.runs import RunError

SECONDS_TO_WAIT = 60.0
"""For another process that adds its evaluation to the same run, which takes seconds."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        split: `train`, `validation` or `test`.
        views: Crops of each image to average over: 1, 5 or 10.
        batch_size: Crops that the network gets at once, all replicas together.
        progress: Show a bar on standard error, if that is a terminal.
    """

    split: str = "validation"
    views: int = 1
    batch_size: int = 128
    progress: bool = False


def evaluate_runs(members: Sequence[Run], settings: Settings) -> list[Evaluation]:
    """Measure finished runs on a split of their data, each with its own preprocessing.

    Every example counts once. Each result is added to its run: a row to `evaluations.csv`, and a folder under
    `evaluations/` with the errors of each class and the confusion matrix. The replicas are those of the present
    strategy, else all GPUs.

    Raises:
        RunError: If a run has no model yet, a file of it is damaged or cannot be written, or its model gives
            probabilities that are not numbers.
        ConfigError: If its data has no such split or other classes than the run, or its preprocessing cannot cut
            so many views.
        DataError: If its data is not there or not readable.
    """
    return [measure(task)[0] for task in [prepare(run, settings) for run in members]]


@dataclass
class Counts:
    """What batches of log-probabilities add up to."""

    totals: np.ndarray
    confusion: np.ndarray

    @classmethod
    def of(cls, classes: int) -> "Counts":
        """Of no examples yet."""
        return cls(np.zeros(4), np.zeros([classes, classes], np.int64))

    def add(self, rows: np.ndarray, labels: np.ndarray) -> None:
        """Count examples: log-probabilities `[N, classes]` without NaN, labels int32 `[N]`."""
        with tf.device("/CPU:0"):
            self.totals += tally(tf.constant(rows), tf.constant(labels), tf.ones(len(labels))).numpy()
        # The first of equal ones, as `tally` ranks them: what is not on the diagonal are the top-1 errors.
        np.add.at(self.confusion, (labels, rows.argmax(axis=1)), 1)

    def evaluation(
        self, name: str, settings: Settings, path: Path, labels: list[str], averaged: int = 1
    ) -> Evaluation:
        """What was counted, as the result of a run or of so many averaged."""
        scores = Scores.of(self.totals, len(labels))
        return Evaluation(
            name, runs.now(), settings.split, settings.views, averaged, scores, self.confusion, labels, path
        )


@dataclass(frozen=True)
class Task:
    """A run that can be measured: all that can be wrong before the work has been looked at."""

    run: Run
    settings: Settings
    source: data.DataSource
    batches: tf.data.Dataset
    strategy: tf.distribute.Strategy

    @property
    def outputs(self) -> int:
        """How many classes the network tells apart, which may be more than the data has."""
        outputs = self.run.config.model.num_classes
        assert outputs is not None  # training writes it down
        return outputs


def prepare(run: Run, settings: Settings) -> Task:
    """Find what is wrong before the work; errors as `evaluate_runs`."""
    view_crop(run.config.augment, settings.views)
    run.model_path()
    run.evaluations()
    source = run.load_source()
    if settings.split not in source.splits:
        raise ConfigError(
            f"--split {settings.split}: expected one of {', '.join(source.splits)} (the splits of {source.name})"
        )
    strategy = _strategy()
    replicas = strategy.num_replicas_in_sync
    batches = data.eval_batches(
        source,
        settings.split,
        run.config.augment,
        run.statistics(),
        batch_size=replicas * math.ceil(max(1, settings.batch_size // settings.views) / replicas),
        views=settings.views,
    )
    return Task(run, settings, source, batches, strategy)


def _strategy() -> tf.distribute.Strategy:
    """The one whose scope this is in, else all GPUs where there are several, else the one device there is."""
    gpus = tf.config.list_logical_devices("GPU")
    if not tf.distribute.has_strategy() and len(gpus) > 1:
        return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus])
    return tf.distribute.get_strategy()


def measure(task: Task, *, keep: bool = False) -> tuple[Evaluation, np.ndarray, np.ndarray]:
    """Measure a run and add the result to it.

    Returns:
        The result; and if asked to keep them the log-probabilities float32 `[N, classes]` and labels int32 `[N]`.
    """
    counts, kept = Counts.of(task.outputs), [(np.zeros([0, task.outputs], np.float32), np.zeros(0, np.int32))]
    parent = task.run.path / FOLDER
    with new_results(parent) as folder:
        # The bar is ended here and not where batches are drawn: that generator outlives an error, and a bar that
        # is taken away after the error's line takes the line with it.
        with data.explained(task.source), _bar(task.settings) as bar:
            for rows, labels in _outputs(task, bar):
                counts.add(rows, labels)
                if keep:
                    kept.append((rows.astype(np.float32), labels))
        names = class_labels(task.run, task.outputs)
        with runs.locked(parent, "another process is adding an evaluation", wait=SECONDS_TO_WAIT):
            path = next_path(parent, task.settings.split, task.settings.views)
            evaluation = counts.evaluation(str(task.run.path), task.settings, path, names)
            evaluation.write_tables(folder)
            append_row(task.run, evaluation)  # first: if it fails, the folder goes too
            folder.rename(path)
    log_probabilities, truth = (np.concatenate(column) for column in zip(*kept, strict=True))
    return evaluation, log_probabilities, truth


def _bar(settings: Settings) -> Progress:
    """A bar on standard error, which does not show where it is not wanted or there is no terminal."""
    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not (settings.progress and console.is_terminal))


def _outputs(task: Task, bar: Progress) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The log-probabilities float64 `[N, classes]` and labels int32 `[N]` of every example once, in batches."""
    with task.strategy.scope():
        model = task.run.model()

    def replica(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return log_probabilities(model, images), labels, weights, _alike(images)

    @tf.function(reduce_retracing=True)
    def step(*batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        parts = task.strategy.run(replica, args=batch)
        return tuple(tf.concat(task.strategy.experimental_local_results(part), axis=0) for part in parts)

    batches = distribute(task.strategy, task.batches)
    without_room = 0
    for batch in bar.track(batches, total=len(task.batches), description=task.run.name):
        rows, labels, weights, alike = (part.numpy() for part in step(*batch))
        rows, labels, alike = (column[weights > 0] for column in (rows, labels, alike))
        if np.isnan(rows).any():
            raise RunError(f"{task.run.path}: its model gives probabilities that are not numbers")
        without_room += int(alike.sum())
        yield rows, labels
    if without_room:
        logger.warning(
            "%s: %d images look the same in all corners and the centre: no larger than the crop, or blank",
            task.run.path,
            without_room,
        )


def _alike(images: tf.Tensor) -> tf.Tensor:
    """Whether the corners and the centre of an image are one crop, bool `[N]`; False where there is one view only.

    Images of one size without room are refused beforehand; here sizes differ.
    """
    if len(images.shape) == 4:
        return tf.zeros(tf.shape(images)[:1], tf.bool)
    return tf.reduce_all(images[:, 1:5] == images[:, :1], axis=[1, 2, 3, 4])
