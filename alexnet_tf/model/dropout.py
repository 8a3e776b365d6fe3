"""Dropout (paper, section 4.2) whose masks are a function of seed, step and row rather than of a state."""

import contextlib
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf


@dataclass(frozen=True, slots=True)
class _Scope:
    """What decides a mask beside the layer; see `mask_scope`."""

    seed: int | tf.Tensor
    step: int | tf.Tensor
    first_row: int | tf.Tensor
    global_rows: int | tf.Tensor


SCALINGS = ("train", "test")

# MirroredStrategy traces each replica in a thread of its own, and each has its own first row.
_ACTIVE = threading.local()


@contextlib.contextmanager
def mask_scope(
    seed: int | tf.Tensor,
    step: int | tf.Tensor,
    first_row: int | tf.Tensor = 0,
    *,
    global_rows: int | tf.Tensor,
) -> Iterator[None]:
    """Makes the masks of all `Dropout` layers that train inside it a function of its arguments.

    Each layer draws the mask of the global batch and takes the rows of its replica, so masks do not depend on the
    number of replicas or on how the batch is accumulated. Enter it inside the replica function: a scope holds for
    the thread that enters it. Values may be Python integers or integer tensors of the graph being traced; pass `step`
    as a tensor, or every step is traced anew.

    The same arguments give *other* masks under `jit_compile=True`, where XLA's generator draws them: equalities hold
    within one jit setting.

    Example:
    >>> with mask_scope(seed, step, first_row=replica * rows, global_rows=replicas * rows):
    ...     logits = model(images, training=True)

    Args:
        seed: The run's seed, from 0 to 2**31 - 1.
        step: The optimizer step.
        first_row: Row of the global batch that the local batch begins with. Count in the replica's nominal rows, not
            in the rows that happen to be there.
        global_rows: Rows of the global batch; a Python integer under `jit_compile`, as it is a shape.
    """
    outer = getattr(_ACTIVE, "scope", None)
    _ACTIVE.scope = _Scope(seed, step, first_row, global_rows)
    try:
        yield
    finally:
        _ACTIVE.scope = outer


@keras.saving.register_keras_serializable(package="alexnet_tf")
class Dropout(keras.layers.Layer):
    """Sets a fraction of its inputs to zero in training, and scales so that training and inference agree in the mean.

    Formula, with `u` uniform in [0, 1) for each value:

        scaling="train":  training: y = x / (1 - rate) where u >= rate, else 0    inference: y = x
        scaling="test":   training: y = x where u >= rate, else 0                 inference: y = x * (1 - rate)

    `"test"` is the paper's way (section 4.2: "we use all the neurons but multiply their outputs by 0.5"). Inside a
    `mask_scope`, `u` is that of the global batch, drawn statelessly from the key (scope's seed, CRC-32 of the layer's
    name, step). Outside any, it comes from a `keras.random.SeedGenerator`, so that `fit` and saved models work as with
    Keras's own layer. With `trainable=False` training is as inference, like Keras's BatchNorm: a frozen layer is one
    function of its input. `u` is drawn in float32 whatever the layer's dtype: precisions share their masks.

    Example:
    >>> with mask_scope(seed=0, step=7, global_rows=4):
    ...     Dropout(0.5, name="fc6_dropout")(np.ones((4, 3), "float32"), training=True)

    Args:
        rate: Fraction of the inputs to drop, in [0, 1).
        scaling: When values are scaled: `"train"` or `"test"`.
        seed: Seed of the generator that is used outside any `mask_scope`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Input and output: floats `[rows, ...]`.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, rate: float, scaling: str = "train", seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"Invalid rate. Expected a fraction in [0, 1). Received: rate={rate}")
        if scaling not in SCALINGS:
            raise ValueError(f"Invalid scaling. Expected one of {SCALINGS}. Received: scaling={scaling!r}")
        self.rate = rate
        self.scaling = str(scaling)
        self.seed = seed
        if rate > 0:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Nothing to create."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drops values of `[rows, ...]` in training."""
        if self.rate == 0:
            return inputs
        keep = 1 - self.rate
        if not training or not self.trainable:
            return inputs if self.scaling == "train" else inputs * tf.constant(keep, inputs.dtype)
        scope: _Scope | None = getattr(_ACTIVE, "scope", None)
        if scope is None:
            uniform = keras.random.uniform(tf.shape(inputs), dtype="float32", seed=self.seed_generator)
        else:
            uniform = tf.ensure_shape(
                self._rows_of_global_batch(tf.shape(inputs, tf.int64), scope), inputs.shape
            )
        kept = inputs * tf.constant(1 / keep, inputs.dtype) if self.scaling == "train" else inputs
        return tf.where(uniform >= self.rate, kept, tf.zeros_like(kept))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments, to be built again from."""
        return {**super().get_config(), "rate": self.rate, "scaling": self.scaling, "seed": self.seed}

    def _rows_of_global_batch(self, shape: tf.Tensor, scope: _Scope) -> tf.Tensor:
        """Uniform float32 numbers for the local rows, `shape`, cut out of those for the global batch."""
        # One word of the key holds the seed above and the layer below, the other the step: no two are alike.
        # CRC-32, since Python's own hash of a string differs from process to process.
        layer = tf.constant(zlib.crc32(self.name.encode()), tf.int64)
        key = tf.stack([tf.cast(scope.seed, tf.int64) * 2**32 + layer, tf.cast(scope.step, tf.int64)])
        global_shape = tf.concat([[tf.cast(scope.global_rows, tf.int64)], shape[1:]], 0)
        uniform = tf.random.stateless_uniform(global_shape, key)
        # tf.slice rather than an index range: it fails where the rows reach past the global batch.
        begin = tf.concat([[tf.cast(scope.first_row, tf.int64)], tf.zeros_like(shape[1:])], 0)
        return tf.slice(uniform, begin, shape)
