"""Exact scores of a model over every example, whatever the batch and the number of replicas: training's measure."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.evaluation.scores import Scores, tally


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
