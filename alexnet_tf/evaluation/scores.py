"""Loss, top-1 and top-5 error of logits, and how sure one can be of an error."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

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

    def interval(self, error: float | None) -> tuple[float, float] | tuple[None, None]:
        """The 95 % Wilson interval of `top1_error` or `top5_error`."""
        return (None, None) if error is None else wilson(round(error * self.examples), self.examples)


def wilson(errors: int, examples: int) -> tuple[float, float]:
    """The 95 % interval of Wilson (1927) around the fraction `errors / examples`, `examples` at least 1."""
    from scipy.stats import binomtest  # half a second that training should not pay

    interval = binomtest(errors, examples).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


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
