"""Exact scores of a model over every example, whatever the batch and the number of replicas: training's measure."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.evaluation.scores import Scores, tally
from alexnet_tf.model import one_pass_scope


class Evaluator:
    """Measures a model over data sets of `(images, labels, weights)` batches.

    Args:
        model: Float images `[N, S, S, C]` to logits `[N, classes]`.
        strategy: The strategy that the model was built under.
        eager: Run in Python, for debugging.
        after_batch: Called after each batch.
    """

    def __init__(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        *,
        eager: bool = False,
        after_batch: Callable[[], object] = lambda: None,
    ) -> None:
        self.model = model
        self.strategy = strategy
        self.after_batch = after_batch
        self.num_classes = int(model.output_shape[-1])
        self._step = self._replicated if eager else tf.function(self._replicated, reduce_retracing=True)

    def _replicated(self, images: Any, labels: Any, weights: Any) -> tf.Tensor:
        def replica(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
            with one_pass_scope():
                return tally(self.model(images, training=False), labels, weights)

        totals = self.strategy.run(replica, args=(images, labels, weights))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, totals, axis=None)

    def __call__(self, batches: tf.data.Dataset) -> Scores:
        """The scores over all examples of weight 1, those of other workers included.

        Raises:
            ValueError: If there are none.
        """
        totals = np.zeros(4)
        for images, labels, weights in distribute(self.strategy, batches):
            totals += self._step(images, labels, weights).numpy()
            self.after_batch()
        return Scores.of(totals, self.num_classes)


def distribute(strategy: tf.distribute.Strategy, batches: tf.data.Dataset) -> Any:
    """This process's rows of every batch, cut into equal contiguous shares for its replicas, in their order.

    Args:
        strategy: Of one worker or of several, each of which calls this with its own rows (`data.Share`).
        batches: As `data.train_batches` and `data.eval_batches` make them, their second component of static shape.
    """
    if strategy.num_replicas_in_sync == 1:
        return batches
    replicas = len(strategy.extended.worker_devices)
    rows = batches.element_spec[1].shape[0] // replicas
    own = batches if replicas == 1 else batches.rebatch(rows, drop_remainder=True)
    # All workers have as many batches, of full size: to ask each other before each whether there is one is for nothing.
    strategy.extended.experimental_enable_get_next_as_optional = False
    return strategy.distribute_datasets_from_function(lambda _: own)
