"""A network divided into two columns, each on a device of its own, and the wire between them."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.model import ColumnConv2D, LocalResponseNormalization

COLUMNS = 2


class Wire:
    """The only way from one device to the other; what takes it is counted.

    Args:
        devices: The names of both.
    """

    def __init__(self, devices: list[str]) -> None:
        self.devices = devices
        self.bytes: Counter[tuple[str, str, int]] = Counter()
        """(place, `forward` or `backward`, receiver's index) -> bytes."""

    def send(self, tensor: tf.Tensor, to: int, place: str, direction: str) -> tf.Tensor:
        """A copy of the tensor on the device of index `to`."""
        self.bytes[place, direction, to] += math.prod(tensor.shape) * tensor.dtype.size
        with tf.device(self.devices[to]):
            return tf.identity(tensor)


class Part:
    """Layers on one device between two exchanges: one column's share of the model's, ordinary layers of half the width.

    Args:
        layers: Built, in their order, with their variables on the device.
        device: Its name.
    """

    def __init__(self, layers: list[keras.layers.Layer], device: str) -> None:
        self.layers = layers
        self.device = device
        self.variables = [variable for layer in layers for variable in layer.trainable_variables]

    def forward(self, inputs: tf.Tensor) -> tf.Tensor:
        """The part's outputs; what the backward pass needs is kept."""
        with tf.device(self.device), tf.GradientTape() as self.tape:
            self.tape.watch(inputs)
            outputs = inputs
            for layer in self.layers:
                outputs = layer(outputs)
        self.inputs, self.outputs = inputs, outputs
        return self._here([outputs])[0]

    def backward(self, gradient: tf.Tensor) -> tf.Tensor:
        """The gradient by the inputs, from that by the outputs; those by the variables are kept in `gradients`."""
        with tf.device(self.device):
            by_inputs, *self.gradients = self.tape.gradient(
                self.outputs, [self.inputs, *self.variables], gradient
            )
        return self._here([by_inputs, *self.gradients])[0]

    def _here(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        places = {tensor.backing_device for tensor in tensors}
        if not all(place.endswith(self.device) for place in places):
            raise RuntimeError(f"Expected all tensors of this part on {self.device}. Received: {places}")
        return tensors


class TwoDevices:
    """A network whose columns are on two devices, with the weights of an ordinary one.

    Between exchanges a column reads its own maps only. The layers that read both columns' get the other's half over the
    wire, and send the gradient by that half back.

    Args:
        model: Functional, with layers of two columns.
        wire: Between the two devices.
    """

    def __init__(self, model: keras.Model, wire: Wire) -> None:
        self.wire = wire
        *stretches, last = stretches_of(model)
        self.places = [place_of(stretch) for stretch in (*stretches, last)]
        self.parts = [
            [Part(share(stretch, column, device), device) for column, device in enumerate(wire.devices)]
            for stretch in stretches
        ]
        # The logits read both columns too, and are not divided: they stand on the first device.
        self.parts.append([Part(share(last, 0, wire.devices[0], columns=1), wire.devices[0])])

    def step(self, images: np.ndarray, labels: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
        """A forward and a backward pass.

        Args:
            images: `[N, S, S, C]` in the model's dtype, which both devices get from the host.
            labels: `[N]` int32.

        Returns:
            Logits `[N, classes]` and the mean loss; each part has its `gradients` afterwards.
        """
        maps = [on(device, images) for device in self.wire.devices]
        for number, parts in enumerate(self.parts):
            if number:
                maps = [self._gather(maps, reader, self.places[number]) for reader in range(len(parts))]
            maps = [part.forward(own) for part, own in zip(parts, maps, strict=True)]
        (logits,) = maps
        loss, gradient = loss_of(logits, labels, self.wire.devices[0])
        deltas = [gradient]
        for number, parts in reversed(list(enumerate(self.parts))):
            deltas = [part.backward(delta) for part, delta in zip(parts, deltas, strict=True)]
            if number:
                deltas = [self._scatter(deltas, column, self.places[number]) for column in range(COLUMNS)]
        return logits, loss

    def _gather(self, maps: list[tf.Tensor], reader: int, place: str) -> tf.Tensor:
        """Both columns' maps on the reader's device: its own, and the other's over the wire."""
        halves = [
            half if column == reader else self.wire.send(half, reader, place, "forward")
            for column, half in enumerate(maps)
        ]
        with tf.device(self.wire.devices[reader]):
            return tf.concat(halves, -1)

    def _scatter(self, deltas: list[tf.Tensor], column: int, place: str) -> tf.Tensor:
        """The gradient by one column's maps, on its device: the sum of what all readers say of them."""
        terms = []
        for reader, delta in enumerate(deltas):
            with tf.device(self.wire.devices[reader]):
                half = tf.split(delta, COLUMNS, -1)[column]
            terms.append(half if reader == column else self.wire.send(half, column, place, "backward"))
        with tf.device(self.wire.devices[column]):
            return tf.add_n(terms)

    def joined(self, values: Callable[[Part], list[Any]]) -> list[np.ndarray]:
        """Values of the variables in the whole model's order and shapes; `values(part)` are those of a part."""
        return [
            np.concatenate([np.asarray(half) for half in halves], -1)
            for parts in self.parts
            for halves in zip(*(values(part) for part in parts), strict=True)
        ]


def stretches_of(model: keras.Model) -> Iterator[list[keras.layers.Layer]]:
    """The model's layers in stretches, each of which begins where all columns are read: conv1, conv3, fc6, fc7, fc8."""
    stretch: list[keras.layers.Layer] = []
    for layer in model.layers[1:]:  # without the input
        whole_map = isinstance(layer, ColumnConv2D) and layer.columns == 1
        dense = isinstance(layer, keras.layers.Dense) and not isinstance(stretch[-1], keras.layers.Flatten)
        if stretch and (whole_map or dense or isinstance(layer, keras.layers.Flatten)):
            yield stretch
            stretch = []
        stretch.append(layer)
    yield stretch


def place_of(stretch: list[keras.layers.Layer]) -> str:
    """The name of a stretch's first layer with weights."""
    return next(layer.name for layer in stretch if layer.weights)


def share(
    stretch: list[keras.layers.Layer], column: int, device: str, columns: int = COLUMNS
) -> list[keras.layers.Layer]:
    """One column's share of a stretch, on a device: of every layer with weights one of `columns` parts of its units."""
    layers, inputs = [], stretch[0].input.shape[-1]
    with tf.device(device):
        for layer in stretch:
            changes: dict[str, Any] = {}
            if isinstance(layer, ColumnConv2D):
                changes = {"filters": layer.filters // columns, "columns": 1}
            elif isinstance(layer, keras.layers.Dense):
                changes = {"units": layer.units // columns}
            elif isinstance(layer, LocalResponseNormalization):
                changes = {"columns": layer.columns // columns}  # 0, an error, where it reaches across
            half = type(layer).from_config({**layer.get_config(), **changes})
            half.build((None, *layer.input.shape[1:-1], inputs))
            for own, whole in zip(half.weights, layer.weights, strict=True):
                own.assign(np.split(whole.numpy(), columns, -1)[column])
            inputs = half.compute_output_shape((None, *layer.input.shape[1:-1], inputs))[-1]
            layers.append(half)
    return layers


def on(device: str, array: np.ndarray) -> tf.Tensor:
    """The array on a device."""
    with tf.device(device):
        return tf.constant(array)


def loss_of(logits: tf.Tensor, labels: np.ndarray, device: str) -> tuple[tf.Tensor, tf.Tensor]:
    """The batch's mean cross-entropy, and its gradient by the logits."""
    with tf.device(device), tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.constant(labels), logits))
    with tf.device(device):
        return loss, tape.gradient(loss, logits)
