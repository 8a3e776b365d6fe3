"""A network and its training as a Keras tutorial has them: stock layers, `groups=2`, TensorFlow's LRN, `fit`."""

from typing import Any

import keras
import tensorflow as tf

from alexnet_tf.bench.contender import Subject
from alexnet_tf.bench.epochs import in_memory
from alexnet_tf.bench.ours import made_up_batch, normalization, training_flops
from alexnet_tf.config.schema import Config, LRNConfig, Norm, PoolConfig, StageConfig, StagedModelConfig
from alexnet_tf.training.strategy import configure_process


def fit(config: Config, jit_compile: bool) -> Subject:
    """`Model.fit` over the same batch again and again."""
    network = _compiled(config, jit_compile)
    images, labels = made_up_batch(config)
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat()

    def run(repetitions: int) -> None:
        network.fit(batches, steps_per_epoch=repetitions, epochs=1, verbose=0)

    rows = config.training.batch_size
    return Subject(run, rows * training_flops(network), rows, {"keras": keras.__version__})


def epoch(config: Config) -> Subject:
    """An epoch of `Model.fit` over a tf.data pipeline from memory: shuffle, batch, augment, prefetch."""
    config, images, labels = in_memory(config)
    shape, size = images.shape, config.training.batch_size
    network = _compiled(config, jit_compile=False)
    mean, padding = images.mean(axis=0), 4

    def augment(batch: tf.Tensor, truth: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        padded = tf.pad(batch, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
        cropped = tf.image.random_crop(padded, [size, *shape[1:]])  # one place for the batch, the quickest
        mirrored = tf.image.random_flip_left_right(cropped)
        return (tf.cast(mirrored, tf.float32) - mean) / 64, truth

    batches = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images))
    batches = batches.batch(size, drop_remainder=True).map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    batches = batches.prefetch(tf.data.AUTOTUNE)

    def run(repetitions: int) -> None:
        network.fit(batches, epochs=repetitions, verbose=0)

    return Subject(run, items=len(images) // size * size, facts={"keras": keras.__version__}, warm_up=0)


def _compiled(config: Config, jit_compile: bool) -> keras.Model:
    configure_process(config)
    if config.training.precision == "bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    assert isinstance(config.model, StagedModelConfig)
    network = stock_network(config.model)
    optimizer: Any = config.optimizer
    network.compile(
        keras.optimizers.SGD(optimizer.lr, optimizer.momentum, weight_decay=optimizer.weight_decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=jit_compile,
    )
    return network


def stock_network(config: StagedModelConfig) -> keras.Model:
    """The network that `config` describes, of Keras's layers and TensorFlow's LRN, with Keras's initial weights."""
    size = config.input_size
    x = images = keras.Input((size, size, config.input_channels))
    for name, stage in config.stages.items():
        x = _stage(x, name, stage, config)
    return keras.Model(images, keras.layers.Activation("linear", dtype="float32")(x))


def _stage(x: Any, name: str, stage: StageConfig, config: StagedModelConfig) -> Any:
    units, activation = stage.units or config.num_classes, str(stage.activation or config.activation)
    if stage.kind == "dense":
        x = keras.layers.Dense(units, name=name)(keras.layers.Flatten()(x))
    else:
        x = _convolution(x, name, stage, units)
    for part in stage.order:
        if part == "activation" and activation != "linear":
            x = keras.layers.Activation(activation)(x)
        elif part == "norm" and stage.norm == Norm.batch:
            x = keras.layers.BatchNormalization()(x)
        elif part == "norm" and stage.norm == Norm.lrn and config.lrn is not None:
            x = keras.layers.Lambda(_lrn(config.lrn))(x)
        elif part == "pool" and stage.pool is not None and stage.pool.kind != "none":
            x = _pool(x, stage.pool)
    if stage.adaptive_pool:
        x = keras.layers.AdaptiveAveragePooling2D(stage.adaptive_pool)(x)
    return keras.layers.Dropout(stage.dropout)(x) if stage.dropout else x


def _convolution(x: Any, name: str, stage: StageConfig, units: int | None) -> Any:
    pixels = int(stage.padding) if stage.padding.isdigit() else 0
    extra = stage.stride - 1 if stage.rounding == "up" else 0
    if pixels or extra:
        x = keras.layers.ZeroPadding2D(((pixels, pixels + extra), (pixels, pixels + extra)))(x)
    padding = "same" if stage.padding == "same" else "valid"
    return keras.layers.Conv2D(units, stage.kernel, stage.stride, padding, groups=stage.columns, name=name)(x)


def _pool(x: Any, pool: PoolConfig) -> Any:
    kind = keras.layers.MaxPooling2D if pool.kind == "max" else keras.layers.AveragePooling2D
    # Rounded up, a window reaches past the edge where the sides leave one over; "same" does so then, and only then.
    past = pool.rounding == "up" and (x.shape[1] - pool.size) % pool.stride
    return kind(pool.size, pool.stride, "same" if past else "valid")(x)


def lrn(shape: tuple[int, ...], config: LRNConfig, dtype: str) -> Subject:
    """Forward and backward of TensorFlow's op over maps of `shape`."""
    return normalization(_lrn(config), shape, dtype)


def _lrn(config: LRNConfig) -> Any:
    alpha = config.alpha / config.size if config.convention == "mean" else config.alpha

    def normalize(x: Any) -> Any:  # the op has no 16-bit kernel on a CPU
        single = tf.cast(x, tf.float32)
        y = tf.nn.local_response_normalization(single, config.size // 2, config.k, alpha, config.beta)
        return tf.cast(y, x.dtype)

    return normalize
