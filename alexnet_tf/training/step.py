"""One optimizer step over a global batch, on any number of replicas."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf.config.schema import TrainingConfig
from alexnet_tf.evaluation import cross_entropy, tally
from alexnet_tf.model import mask_scope

TrainStep = Callable[[Any, Any, Any, Any], tf.Tensor]
"""`(images, labels, step, totals) -> totals` with the sums of `evaluation.tally` over the batch added."""


def make_train_step(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    config: TrainingConfig,
    seed: int,
) -> TrainStep:
    """The step function of a run.

    Every replica takes its rows of the global batch; the gradient is that of the mean loss over the global batch.

    Args:
        model: Built under `strategy`; float images to logits.
        optimizer: Built on the model's trainable variables.
        strategy: Where the replicas are.
        config: `batch_size`, `jit_compile` and `eager` count here.
        seed: The run's seed, from which dropout masks derive.
    """
    rows = config.batch_size // strategy.num_replicas_in_sync
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

    def gradients(
        images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor, first_row: Any
    ) -> tuple[Any, tf.Tensor]:
        with mask_scope(seed, step, first_row, global_rows=config.batch_size), tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_sum(cross_entropy(logits, labels)) / config.batch_size
            objective = optimizer.scale_loss(loss) if scaled else loss
        return tape.gradient(objective, model.trainable_variables), tally(
            logits, labels, tf.ones_like(labels)
        )

    if config.jit_compile:  # only forward and backward: the reduction between replicas is not XLA's
        gradients = tf.function(gradients, jit_compile=True)

    def replica(images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        first_row = tf.cast(context.replica_id_in_sync_group, tf.int32) * rows
        grads, sums = gradients(images, labels, step, first_row)
        optimizer.apply(grads, model.trainable_variables)
        return sums

    def train_step(images: Any, labels: Any, step: tf.Tensor, totals: tf.Tensor) -> tf.Tensor:
        sums = strategy.run(replica, args=(images, labels, step))
        return totals + strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)

    return train_step if config.eager else tf.function(train_step)
