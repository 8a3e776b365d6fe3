"""Contenders of ours: the very step, network and layers that a run uses."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import evaluation, model
from alexnet_tf.bench.contender import Subject
from alexnet_tf.config.schema import Config, LRNConfig
from alexnet_tf.model import LocalResponseNormalization
from alexnet_tf.training.step import TrainStep, make_train_step, make_train_steps
from alexnet_tf.training.strategy import configure_process, make_strategy
from alexnet_tf.training.trainer import DTYPES, build_network


def made_up_batch(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [B, S, S, C] of about the size of pixels less their mean, and labels int32 [B]."""
    generator = np.random.default_rng(0)
    size, rows = config.model.input_size, config.training.batch_size
    shape = (rows, size, size, config.model.input_channels or 3)
    images = generator.normal(0, 64, shape).astype(np.float32)
    return images, generator.integers(0, config.model.num_classes or 1, rows, np.int32)


def train_step(config: Config) -> Subject:
    """The step of a run: forward, backward, sums between replicas, update, running sums of loss and errors."""
    network, *_, step, feed = _parts(config)
    images, labels, _ = next(feed)

    def one(number: int, totals: tf.Tensor) -> tf.Tensor:
        return step(images, labels, tf.constant(number, tf.int64), totals)

    return _stepping(one, network, config.training.batch_size, 1)


def train_steps(config: Config, count: int) -> Subject:
    """So many steps in one call, as a run takes short ones, over one batch that is there."""
    network, optimizer, strategy, step, feed = _parts(config)
    steps = make_train_steps(step, optimizer, strategy, [], finish=None)
    with tf.device("CPU:0"):
        rates = tf.zeros((count, 0), tf.float64)  # of no group: they stay

    def several(number: int, totals: tf.Tensor) -> tf.Tensor:
        return steps(feed, tf.constant(number, tf.int64), tf.constant(count), rates, totals)

    return _stepping(several, network, config.training.batch_size, count)


def _parts(
    config: Config,
) -> tuple[keras.Model, keras.optimizers.Optimizer, tf.distribute.Strategy, TrainStep, Iterator[Any]]:
    """Network, optimizer, strategy, step, and an iterator that gives one batch again and again."""
    configure_process(config)
    strategy = make_strategy(config.strategy, config.training)
    network, optimizer = build_network(config, strategy)
    step = make_train_step(network, optimizer, strategy, config.training, config.seed)
    images, labels = made_up_batch(config)
    batches = tf.data.Dataset.from_tensors((images, labels, labels)).repeat()
    return network, optimizer, strategy, step, iter(evaluation.distribute(strategy, batches))


def _stepping(
    call: Callable[[int, tf.Tensor], tf.Tensor], network: keras.Model, rows: int, count: int
) -> Subject:
    """A subject whose repetition is a call that does so many steps, of `rows` images each."""
    done = 0

    def run(repetitions: int) -> None:
        nonlocal done
        totals = tf.zeros(4, tf.float64)
        for _ in range(repetitions):
            totals = call(done, totals)
            done += count
        totals.numpy()  # waits for the device

    facts = {**_facts(), "bytes_by_hand": bytes_by_hand(network, rows)}
    return Subject(run, count * rows * training_flops(network), count * rows, facts)


def update(config: Config) -> Subject:
    """The optimizer alone: one update of every variable from gradients that are there."""
    configure_process(config)
    network, optimizer = build_network(config, make_strategy(config.strategy, config.training))
    variables = network.trainable_variables
    gradients = [tf.fill(variable.shape, tf.cast(1e-6, variable.dtype)) for variable in variables]

    @tf.function
    def apply() -> tf.Tensor:
        optimizer.apply(gradients, variables)
        return tf.identity(optimizer.iterations)

    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            apply().numpy()

    return Subject(run, items=config.training.batch_size)


def inference(config: Config, *, saved: bool) -> Subject:
    """The logits of a batch as a run's evaluation computes them or, `saved`, a SavedModel."""
    configure_process(config)
    network = model.build(config.model, dtype=DTYPES[config.training.precision], seed=config.seed)
    images = tf.constant(made_up_batch(config)[0])
    scope = contextlib.nullcontext if saved else model.one_pass_scope

    @tf.function
    def forward(batch: tf.Tensor) -> tf.Tensor:
        with scope():
            return network(batch, training=False)

    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            forward(images).numpy()

    rows = config.training.batch_size
    return Subject(run, rows * inference_flops(network), rows, _facts())


def lrn(shape: tuple[int, ...], config: LRNConfig, dtype: str) -> Subject:
    """Forward and backward of one normalisation of maps `shape` by our layer, as in training."""
    convention = str(config.convention)
    layer = LocalResponseNormalization(
        config.size, config.k, config.alpha, config.beta, convention, dtype=dtype
    )
    return normalization(lambda x: layer(x, training=True), shape, dtype)


def normalization(normalize: Callable[[tf.Tensor], tf.Tensor], shape: tuple[int, ...], dtype: str) -> Subject:
    """Forward and backward of a function of maps `shape`."""
    maps = tf.cast(tf.random.stateless_normal(shape, [0, 0], stddev=20.0), dtype)
    upstream = tf.cast(tf.random.stateless_normal(shape, [0, 1]), dtype)

    @tf.function
    def both(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = normalize(x)
        return y, tape.gradient(y, x, output_gradients=upstream)

    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            y, gradient = both(maps)
        tf.reduce_sum(gradient[:1, :1]).numpy()
        del y

    size = int(np.prod(shape)) * maps.dtype.size
    # Read x, write y; read x and the gradient that comes, write the one that goes.
    return Subject(run, work=5 * size, items=1, facts={"tensorflow": tf.__version__})


def training_flops(network: keras.Model) -> float:
    """Floating point operations of one image in a training step, by hand.

    Two for each multiply-accumulate, three times: forward, gradient of the weights, gradient of the input, which the
    first layer does not need. Normalisation, pooling and the update are not counted.
    """
    macs = [row.macs for row in model.layer_table(network) if row.macs]
    return 2.0 * (3 * sum(macs) - macs[0])


def inference_flops(network: keras.Model) -> float:
    """Floating point operations of one image forward: two for each multiply-accumulate."""
    return 2.0 * model.total(model.layer_table(network)).macs


def bytes_by_hand(network: keras.Model, rows: int) -> int:
    """Memory that a step with momentum cannot do without, if every layer keeps its output for the way back.

    Weights, gradients and momentum, and for each row the images and what every layer yields.
    """
    table = model.layer_table(network)
    kept = sum(math.prod(size or 0 for size in row.output_shape) for row in table)
    images = math.prod(network.input_shape[1:])
    size = tf.as_dtype(network.layers[1].compute_dtype).size
    return 3 * 4 * model.total(table).parameters + rows * size * (images + kept)


def _facts() -> dict[str, str]:
    devices = ", ".join(device.name for device in tf.config.list_logical_devices())
    return {"tensorflow": tf.__version__, "devices": devices}
