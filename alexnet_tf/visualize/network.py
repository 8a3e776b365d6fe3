"""Walking through a functional Keras model: which layer follows which, and what of the image a unit sees."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf.config import ConfigError
from alexnet_tf.model import (
    ColumnConv2D,
    Dropout,
    LocalResponseNormalization,
    Pool2D,
    WithinMapNormalization,
    ZeroPaddedShortcut,
)

CONVOLUTIONS = (ColumnConv2D, keras.layers.Conv2D)
WEIGHTED = (*CONVOLUTIONS, keras.layers.Dense)
POOLS = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
ACTIVATIONS = (keras.layers.Activation, keras.layers.ReLU)
POINTWISE = (
    *ACTIVATIONS,
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    Dropout,
    LocalResponseNormalization,
    keras.layers.Add,
)
"""Layers whose output at a pixel comes from the same pixel of their inputs."""
BETWEEN = (*POINTWISE, WithinMapNormalization, Pool2D, *POOLS)
"""Layers that may stand between a layer's weights and its nonlinearity, the sum of a residual block among them."""
ROWS = 64
"""Images of a batch at most."""
BATCH_BYTES = 128 * 2**20
"""What the outputs of all layers on a batch may take. A tape holds them, and oneDNN keeps several times as much ever after."""


class NotApplicableError(ConfigError):
    """A run has no such picture; the message says why, without the picture's name."""


def inputs_of(layer: keras.layers.Layer) -> list[Any]:
    """The tensors that a layer of a functional model takes; none for an input layer."""
    if isinstance(layer, keras.layers.InputLayer):
        return []
    return layer.input if isinstance(layer.input, list) else [layer.input]


def parents(model: keras.Model, layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers whose outputs a layer takes."""
    return [other for tensor in inputs_of(layer) for other in model.layers if other.output is tensor]


def children(model: keras.Model, layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that take a layer's output."""
    return [other for other in model.layers if any(tensor is layer.output for tensor in inputs_of(other))]


def tap(model: keras.Model, tensors: Sequence[Any]) -> Callable[[Any], list[Any]]:
    """A function from images to the values of some of a functional model's tensors, without dropout."""
    inside = keras.Model(model.inputs[0], list(tensors))
    return lambda images: keras.tree.flatten(inside(images, training=False))


def batch_rows(model: keras.Model) -> int:
    """How many images go through a model at once, so that memory does not depend on the size of its maps."""
    outputs = [tensor for layer in model.layers for tensor in keras.tree.flatten(layer.output)]
    values = sum(math.prod(tensor.shape[1:]) * tf.as_dtype(tensor.dtype).size for tensor in outputs)
    return max(1, min(ROWS, BATCH_BYTES // values))


def weighted_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Convolutions and dense layers, in their order."""
    return [layer for layer in model.layers if isinstance(layer, WEIGHTED)]


def convolutions(model: keras.Model) -> list[keras.layers.Layer]:
    """Convolutions, in their order."""
    return [layer for layer in model.layers if isinstance(layer, CONVOLUTIONS)]


def find_layer(model: keras.Model, name: str | None) -> keras.layers.Layer:
    """A layer with weights by its name; without a name the last convolution.

    Raises:
        ConfigError: There is none of that name.
        NotApplicableError: No name was given, and the network has no convolution.
    """
    if name is None:
        if not (found := convolutions(model)):
            raise NotApplicableError("the network has no convolution; name a layer")
        return found[-1]
    layers = {layer.name: layer for layer in weighted_layers(model)}
    if name not in layers:
        raise ConfigError(f"layer={name}: expected one of {', '.join(layers)}")
    return layers[name]


def activated(model: keras.Model, layer: keras.layers.Layer) -> keras.layers.Layer:
    """The layer that applies a weighted layer's nonlinearity; the weighted layer itself where it has none of its own."""
    following = layer
    while len(after := children(model, following)) == 1 and isinstance(after[0], BETWEEN):
        following = after[0]
        if isinstance(following, ACTIVATIONS):
            return following
    return layer


def activation_name(layer: keras.layers.Layer) -> str:
    """The nonlinearity that a layer is or has inside: one of `ACTIVATIONS`, or a convolution or dense layer of Keras."""
    return "relu" if isinstance(layer, keras.layers.ReLU) else layer.activation.__name__


def columns_of(model: keras.Model, layer: keras.layers.Layer) -> int:
    """The columns that a convolution's kernels belong to: by what they see, or by which kernels of the next see them."""
    found = convolutions(model)
    if layer not in found:
        return 1
    pair = found[found.index(layer) :][:2]
    return max(getattr(each, "columns", 1) for each in pair)


def chain(model: keras.Model, layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers from the first after the input to `layer`, each of which takes the output of the one before it.

    Raises:
        NotApplicableError: The network branches on the way.
    """
    found: list[keras.layers.Layer] = []
    while not isinstance(layer, keras.layers.InputLayer):
        found.append(layer)
        before = parents(model, layer)
        if len(before) != 1:
            raise NotApplicableError(
                f"the network is no chain of layers: {layer.name} has {len(before)} inputs"
            )
        layer = before[0]
    return found[::-1]


# -------------------------------------------------------------------------------------- receptive fields


@dataclass(frozen=True)
class Box:
    """Pixels of the network's input: rows `top` to `bottom`, columns `left` to `right`, the last two not included.

    Where it reaches past the image, numbers are negative or larger than its sides.
    """

    top: int
    left: int
    bottom: int
    right: int


def receptive_field(model: keras.Model, layer: keras.layers.Layer, row: int = 0, column: int = 0) -> Box:
    """The pixels of the input that a unit at (row, column) of a layer's map depends on.

    Of the same size for all units of a map, so that it may reach past the image, into the padding. Normalisations within
    a map are taken with their window; dense layers see everything.

    Args:
        model: A functional model of images `[N, H, W, C]`.
        layer: One of its layers.
        row: Of the unit; any number for layers without maps.
        column: Of the unit.
    """
    rows = _span(model, layer, (row, row), 0)
    columns = _span(model, layer, (column, column), 1)
    return Box(rows[0], columns[0], rows[1] + 1, columns[1] + 1)


Span = tuple[int, int]


def _span(model: keras.Model, layer: keras.layers.Layer, span: Span, axis: int) -> Span:
    """The first and the last place of the input on an axis that `span` of a layer's output depends on."""
    if isinstance(layer, keras.layers.InputLayer):
        return span
    window = _window(layer, axis)
    if window is None:
        return 0, model.inputs[0].shape[1 + axis] - 1
    size, stride, before = window
    below = span[0] * stride - before, span[1] * stride - before + size - 1
    found = [_span(model, parent, below, axis) for parent in parents(model, layer)]
    return min(low for low, _ in found), max(high for _, high in found)


def _window(layer: keras.layers.Layer, axis: int) -> tuple[int, int, int] | None:
    """Size, stride and padding before the first window of a layer; None where it sees all of its input."""
    if isinstance(layer, POINTWISE):
        return 1, 1, 0
    if isinstance(layer, ColumnConv2D):
        pixels = layer.padding if isinstance(layer.padding, int) else 0
        same = layer.padding == "same"
        before = _same_before(layer, layer.kernel_size, layer.strides, axis) if same else pixels
        return layer.kernel_size, layer.strides, before
    if isinstance(layer, Pool2D):
        return layer.size, layer.stride, 0
    if isinstance(layer, WithinMapNormalization):
        return layer.size, 1, layer.size // 2
    if isinstance(layer, ZeroPaddedShortcut):
        return 1, layer.strides, 0
    if isinstance(layer, keras.layers.ZeroPadding2D):
        return 1, 1, layer.padding[axis][0]
    if isinstance(layer, keras.layers.Conv2D | keras.layers.MaxPooling2D | keras.layers.AveragePooling2D):
        sizes = layer.kernel_size if isinstance(layer, keras.layers.Conv2D) else layer.pool_size
        size, stride = sizes[axis], layer.strides[axis]
        return size, stride, _same_before(layer, size, stride, axis) if layer.padding == "same" else 0
    return None


def _same_before(layer: keras.layers.Layer, size: int, stride: int, axis: int) -> int:
    """The smaller half of what TensorFlow's padding `"same"` adds."""
    side, windows = layer.input.shape[1 + axis], layer.output.shape[1 + axis]
    return max((windows - 1) * stride + size - side, 0) // 2
