"""What of an image excites a unit: Zeiler and Fergus's deconvolutional network.

From "Visualizing and Understanding Convolutional Networks" (2013), section 2.1: the unit's activation alone goes back down
the network, through max-pooling by the switches of the way up, through ReLU by a rectification of what comes down, and
through convolutions by their transposed filters. Where pooling windows overlap, what several of them send to one pixel is
added. Normalisations across or within maps let everything through as it is.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.model import ColumnConv2D, Dropout, LocalResponseNormalization, Pool2D, WithinMapNormalization
from alexnet_tf.visualize.network import ACTIVATIONS, POOLS, NotApplicableError, activation_name

PASSED = (LocalResponseNormalization, WithinMapNormalization)
TRANSPOSED = (
    ColumnConv2D,
    Pool2D,
    *POOLS,
    Dropout,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.BatchNormalization,
    keras.layers.ZeroPadding2D,
    keras.layers.AdaptiveAveragePooling2D,
    keras.layers.GlobalAveragePooling2D,
)
"""Layers whose gradient is what goes back: linear ones, and max-pooling, whose gradient is its switches."""
RECTIFIERS = ("relu", "linear")


def check_deconvolvable(layers: Sequence[keras.layers.Layer]) -> None:
    """Raise `NotApplicableError` for a chain with a layer that nothing is known to lead back through."""
    for layer in layers:
        if _is_activation(layer):
            if (name := activation_name(layer)) not in RECTIFIERS:
                raise NotApplicableError(f"it leads back through ReLU, and {layer.name} is {name}")
        elif not isinstance(layer, (*PASSED, *TRANSPOSED)):
            raise NotApplicableError(
                f"nothing leads back through {layer.name}, of class {type(layer).__name__}"
            )


def project(
    layers: Sequence[keras.layers.Layer], image: np.ndarray, unit: int, place: tuple[int, int] | None
) -> np.ndarray:
    """Lead one unit's activation back to the pixels.

    Args:
        layers: The chain from the first layer after the input to the unit's, see `check_deconvolvable`.
        image: Floats `[H, W, C]`, preprocessed.
        unit: Its channel.
        place: Its row and column; None for a layer without maps.

    Returns:
        Floats `[H, W, C]`.
    """
    values = [tf.convert_to_tensor(image[None])]
    for layer in layers:
        values.append(layer(values[-1], training=False))
    where = (0, unit) if place is None else (0, *place, unit)
    mask = np.zeros(values[-1].shape, np.float32)
    mask[where] = 1
    signal = tf.cast(values[-1], tf.float32) * mask
    for layer, below in zip(reversed(layers), reversed(values[:-1]), strict=True):
        signal = _back(layer, below, signal)
    return signal[0].numpy()


def _back(layer: keras.layers.Layer, below: tf.Tensor, signal: tf.Tensor) -> tf.Tensor:
    """From a signal on a layer's output to one on its input `below`."""
    if isinstance(layer, PASSED):
        return signal
    if isinstance(layer, ACTIVATIONS):
        return tf.nn.relu(signal) if activation_name(layer) == "relu" else signal
    if _is_activation(layer) and activation_name(layer) == "relu":
        signal = tf.nn.relu(signal)
    function = _linear_part(layer)
    with tf.GradientTape() as tape:
        tape.watch(below)
        above = function(below)
    return tape.gradient(above, below, output_gradients=tf.cast(signal, above.dtype))


def _is_activation(layer: keras.layers.Layer) -> bool:
    """Whether a layer is a nonlinearity or has one inside, as those of `keras.applications`."""
    return isinstance(layer, (*ACTIVATIONS, keras.layers.Conv2D, keras.layers.Dense))


def _linear_part(layer: keras.layers.Layer) -> Callable[[Any], Any]:
    """What a layer does before its nonlinearity, up to a constant."""
    if isinstance(layer, keras.layers.Conv2D):
        return lambda x: layer.convolution_op(x, layer.kernel)
    if isinstance(layer, keras.layers.Dense):
        return lambda x: keras.ops.matmul(x, layer.kernel)
    return lambda x: layer(x, training=False)
