"""One optimizer step over a global batch, on any number of replicas."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf.config.schema import TrainingConfig
from alexnet_tf.evaluation import cross_entropy, tally
from alexnet_tf.model import mask_scope
from alexnet_tf.training.optimizer import set_group_rates

TrainStep = Callable[[Any, Any, Any, Any], tf.Tensor]
"""`(images, labels, step, totals) -> totals` with the sums of `evaluation.tally` over the batch added."""
TrainSteps = Callable[[Any, Any, Any, Any, Any], tf.Tensor]
"""`(batches, first, count, rates, totals) -> totals` after `count` steps (int32) from `first` (int64) on over the next batches.

`rates` are those of each step's groups, float64 `[count or more, groups]`; the optimizer has the first step's already.
"""


def make_train_step(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    config: TrainingConfig,
    seed: int,
) -> TrainStep:
    """The step function of a run.

    Every replica takes its rows of the global batch, all at once or in `accumulate` parts one after the other; the
    gradient is that of the mean loss over the global batch.

    Args:
        model: Built under `strategy`; float images to logits.
        optimizer: Built on the model's trainable variables.
        strategy: Where the replicas are.
        config: `batch_size`, `accumulate`, `jit_compile` and `eager` count here.
        seed: The run's seed, from which dropout masks derive.
    """
    rows = config.batch_size // strategy.num_replicas_in_sync
    part_rows = rows // config.accumulate
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

    def accumulated(
        images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor, first_row: Any
    ) -> tuple[Any, tf.Tensor]:
        """The sums over all parts; a loop of the graph, so that the activations of one part are there at a time."""

        def add(part: tf.Tensor, grads: Any, sums: tf.Tensor) -> tuple[tf.Tensor, Any, tf.Tensor]:
            begin = part * part_rows
            here = slice(begin, begin + part_rows)
            more, more_sums = gradients(images[here], labels[here], step, first_row + begin)
            return part + 1, [old + new for old, new in zip(grads, more, strict=True)], sums + more_sums

        zeros = [tf.zeros(variable.shape, variable.dtype) for variable in model.trainable_variables]
        start = (tf.constant(0), zeros, tf.zeros(4, tf.float64))
        _, grads, sums = tf.while_loop(
            lambda part, *_: part < config.accumulate, add, start, parallel_iterations=1
        )
        return grads, sums

    def replica(images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        first_row = tf.cast(context.replica_id_in_sync_group, tf.int32) * rows
        compute = gradients if config.accumulate == 1 else accumulated
        grads, sums = compute(images, labels, step, first_row)
        if scaled and strategy.num_replicas_in_sync > 1:
            grads = _overflow_for_all(grads)
        optimizer.apply(grads, model.trainable_variables)
        return sums

    def train_step(images: Any, labels: Any, step: tf.Tensor, totals: tf.Tensor) -> tf.Tensor:
        sums = strategy.run(replica, args=(images, labels, step))
        return totals + strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)

    return train_step if config.eager else tf.function(train_step)


def make_train_steps(
    train_step: TrainStep,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    groups: Sequence[str],
    finish: Callable[..., tf.Tensor] | None,
) -> TrainSteps:
    """Several steps in one call, which take their batches themselves: nothing waits for Python between them.

    Args:
        train_step: One step.
        optimizer: Its optimizer, whose rates are set where they are other than those of the step before.
        strategy: Where the replicas are.
        groups: Whose rates are given, in this order.
        finish: What finishes the images of the batches, see `data.finisher`; None: they are finished.
    """

    def set_rates(rates: tf.Tensor) -> None:
        set_group_rates(optimizer, dict(zip(groups, tf.unstack(rates, len(groups)), strict=True)))

    def train_steps(
        batches: Any, first: tf.Tensor, count: tf.Tensor, rates: tf.Tensor, totals: tf.Tensor
    ) -> tf.Tensor:
        def one(done: tf.Tensor, totals: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.device("CPU:0"):  # the host decides: it need not wait for a GPU
                change = tf.reduce_any(rates[done] != rates[tf.maximum(done - 1, 0)])
            tf.cond(change, lambda: set_rates(rates[done]), lambda: None)
            images, labels, _ = next(batches)
            images = strategy.run(finish, args=images) if finish else images
            return done + 1, train_step(images, labels, first + tf.cast(done, tf.int64), totals)

        start = (tf.zeros_like(count), totals)  # int32, which is counted on the host where a GPU trains
        return tf.while_loop(lambda done, _: done < count, one, start, parallel_iterations=1)[1]

    return tf.function(train_steps)


def _overflow_for_all(grads: list[Any]) -> list[Any]:
    """Gradients that are not finite on any replica where they are not on one.

    `LossScaleOptimizer` asks each replica about its own gradients before they are summed: replicas that disagree would
    skip different steps.
    """
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(grad)) for grad in grads])
    lost = tf.distribute.get_replica_context().all_reduce(
        tf.distribute.ReduceOp.SUM, tf.where(finite, 0.0, 1.0)
    )
    first, *others = grads
    return [tf.where(lost > 0, tf.constant(float("nan"), first.dtype), first), *others]
