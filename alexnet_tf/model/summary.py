"""A model as a table: what each layer yields, holds and costs."""

import math
from dataclasses import dataclass

import keras

from alexnet_tf.model.convolution import ColumnConv2D


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer of a built model."""

    name: str
    kind: str
    """The layer's class."""
    output_shape: tuple[int | None, ...]
    """Without the batch axis: `(height, width, channels)` or `(units,)`."""
    parameters: int
    """Numbers in its kernel and bias."""
    macs: int
    """Multiply-accumulates of its kernel for one image: the paper-and-pencil count, without biases, and 0 for layers
    without a kernel."""


def layer_table(model: keras.Model) -> list[LayerRow]:
    """The layers of a built functional model in their order, without its input."""
    return [_row(layer) for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]


def total(rows: list[LayerRow]) -> LayerRow:
    """The sums of parameters and multiply-accumulates, with the last layer's output shape."""
    if not rows:
        raise ValueError("Invalid rows. Expected at least one layer. Received: an empty list")
    return LayerRow(
        name="total",
        kind="",
        output_shape=rows[-1].output_shape,
        parameters=sum(row.parameters for row in rows),
        macs=sum(row.macs for row in rows),
    )


def _row(layer: keras.layers.Layer) -> LayerRow:
    shape = tuple(layer.output.shape[1:])
    return LayerRow(
        name=layer.name,
        kind=type(layer).__name__,
        output_shape=shape,
        parameters=layer.count_params(),
        macs=_macs(layer, shape),
    )


def _macs(layer: keras.layers.Layer, output_shape: tuple[int | None, ...]) -> int:
    """A convolution applies its kernel `[k, k, channels / columns, filters]` at every pixel, a dense layer once."""
    if isinstance(layer, ColumnConv2D | keras.layers.Conv2D):
        height, width, _ = output_shape
        return (height or 0) * (width or 0) * math.prod(layer.kernel.shape)
    if isinstance(layer, keras.layers.Dense):
        return math.prod(layer.kernel.shape)
    return 0
