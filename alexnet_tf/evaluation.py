"""Loss, top-1 and top-5 error, exact over every example whatever the batch and the number of replicas."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import data
from alexnet_tf.config import ConfigError
from alexnet_tf.inference import Run
from alexnet_tf.runs import Table, now

EVALUATIONS = "evaluations.csv"
EVALUATION_COLUMNS = ("time", "split", "loss", "top1_error", "top5_error", "examples")
TOP = 5
"""Top-5 error is reported where there are more classes than that."""


@dataclass(frozen=True)
class Scores:
    """Means over examples; errors are fractions (0-1), `top5_error` is None up to five classes."""

    loss: float
    top1_error: float
    top5_error: float | None
    examples: int

    @classmethod
    def of(cls, totals: Any, num_classes: int) -> "Scores":
        """From the sums `[loss, top-1 errors, top-5 errors, examples]` that `tally` gives."""
        loss, top1, top5, count = (float(value) for value in np.asarray(totals))
        if not count:
            raise ValueError("no examples to average over")
        return cls(loss / count, top1 / count, top5 / count if num_classes > TOP else None, round(count))


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The loss of each example, `[N]` in the dtype of the logits `[N, classes]`, for labels `[N]` int32."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def tally(logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Sums over a batch: `[loss, top-1 errors, top-5 errors, examples]`, float64 so that they add up exactly.

    The label's rank is the number of classes with a larger logit, ties going to the lower index, so that a network
    that says the same of all classes is not called right. A logit that is not a number counts as larger.

    Args:
        logits: `[N, classes]`.
        labels: `[N]` int32.
        weights: `[N]`, 1 for an example and 0 for padding.
    """
    own = tf.gather(logits, labels, batch_dims=1)[:, None]
    index = tf.range(tf.shape(logits)[1], dtype=labels.dtype)[None, :]
    ahead = tf.logical_not(logits <= own) | ((logits == own) & (index < labels[:, None]))
    rank = tf.reduce_sum(tf.cast(ahead, tf.int32), axis=1)
    weights = tf.cast(weights, tf.float64)
    # A padded row's loss may be anything; `where` keeps even a NaN there out of the sum.
    loss = tf.where(weights > 0, tf.cast(cross_entropy(logits, labels), tf.float64), 0.0)
    rows = [loss, tf.cast(rank >= 1, tf.float64), tf.cast(rank >= TOP, tf.float64), tf.ones_like(weights)]
    return tf.stack([tf.reduce_sum(weights * row) for row in rows])


class Evaluator:
    """Measures a model over data sets of `(images, labels, weights)` batches.

    Args:
        model: Float images `[N, S, S, C]` to logits `[N, classes]`.
        strategy: The strategy that the model was built under.
        eager: Run in Python, for debugging.
    """

    def __init__(self, model: keras.Model, strategy: tf.distribute.Strategy, *, eager: bool = False) -> None:
        self.model = model
        self.strategy = strategy
        self.num_classes = int(model.output_shape[-1])
        self._step = self._replicated if eager else tf.function(self._replicated, reduce_retracing=True)

    def _replicated(self, images: Any, labels: Any, weights: Any) -> tf.Tensor:
        def replica(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
            return tally(self.model(images, training=False), labels, weights)

        totals = self.strategy.run(replica, args=(images, labels, weights))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, totals, axis=None)

    def __call__(self, batches: tf.data.Dataset) -> Scores:
        """The scores over all examples of weight 1.

        Raises:
            ValueError: If there are none.
        """
        totals = np.zeros(4)
        for images, labels, weights in distribute(self.strategy, batches):
            totals += self._step(images, labels, weights).numpy()
        return Scores.of(totals, self.num_classes)


def distribute(strategy: tf.distribute.Strategy, batches: tf.data.Dataset) -> Any:
    """Batches cut into equal contiguous shares of rows, one for each replica, in the order of the replicas."""
    if strategy.num_replicas_in_sync == 1:
        return batches
    return strategy.experimental_distribute_dataset(batches)


def evaluate_run(run: Run, split: str, batch_size: int = 128) -> Scores:
    """Measure a finished run on a split of its data, and append the result to its `evaluations.csv`.

    Raises:
        RunError: If the run has no model yet, or a file of it is damaged.
        ConfigError: If its data has no such split, or other classes than the run.
        DataError: If its data is not there or not readable.
    """
    source = run.load_source()
    if split not in source.splits:
        raise ConfigError(
            f"--split {split}: expected one of {', '.join(source.splits)}, the splits of {source.name}"
        )
    evaluator = Evaluator(run.model(), tf.distribute.get_strategy())
    table = Table(run.path / EVALUATIONS, EVALUATION_COLUMNS)
    batches = data.eval_batches(source, split, run.config.augment, run.statistics(), batch_size=batch_size)
    try:
        scores = evaluator(batches)
    except tf.errors.OpError as error:
        if known := data.explain_error(error, source):
            raise known from error
        raise
    table.append(time=now(), split=split, **vars(scores))
    table.save()
    return scores
