"""What the layers answer: the peaks of each unit, units that are silent, activations where the slope is gone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.visualize.network import ACTIVATIONS, activation_name, children, parents, tap

FLAT = 0.05
"""An activation whose slope is below this share of the function's steepest one passes next to no gradient."""


@dataclass(frozen=True, eq=False)
class Peaks:
    """The largest activation of each unit on each image.

    Attributes:
        values: float32 `[images, units]`.
        places: int64 `[images, units, 2]`, row and column; zeros for a layer without maps.
    """

    values: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, outputs: Iterable[np.ndarray]) -> "Peaks":
        """From batches of activations `[N, h, w, units]` or `[N, units]`."""
        values, places = [], []
        for batch in outputs:
            maps = batch.reshape(len(batch), -1, batch.shape[-1])
            where = maps.argmax(axis=1)
            values.append(np.take_along_axis(maps, where[:, None], axis=1)[:, 0])
            width = batch.shape[2] if batch.ndim == 4 else 1
            places.append(np.stack(np.divmod(where, width), axis=-1))
        return cls(np.concatenate(values), np.concatenate(places))

    def strongest_images(self, unit: int, count: int) -> np.ndarray:
        """The images on which a unit answers most, the strongest first; those without a positive answer are left out."""
        order = np.argsort(-self.values[:, unit], kind="stable")[:count]
        return order[self.values[order, unit] > 0]

    def strongest_units(self, count: int) -> list[int]:
        """The units with the largest contrast between their peak and their mean peak over the images, such first.

        A unit that answers to everything alike says less than one that picks images out.
        """
        peak, mean = self.values.max(axis=0), self.values.mean(axis=0)
        contrast = np.where(peak > 0, (peak - mean) / (self.values.std(axis=0) + 1e-12), -np.inf)
        order = np.argsort(-contrast, kind="stable")[:count]
        return [int(unit) for unit in order if peak[unit] > 0]


@dataclass(frozen=True)
class Saturation:
    """How flat a layer's nonlinearity is where it is used.

    Attributes:
        layer: The nonlinearity's layer.
        function: Its name.
        flat: The share of all activations with a slope below `FLAT` of the steepest; for ReLU, which are zero.
        dead: The share of units that are flat on every image, and everywhere in their map.
    """

    layer: str
    function: str
    flat: float
    dead: float


def nonlinearities(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers that only apply a nonlinearity, in their order."""
    return [
        layer
        for layer in model.layers
        if isinstance(layer, ACTIVATIONS) and len(parents(model, layer)) == 1 and children(model, layer)
    ]


def saturation(model: keras.Model, batches: Iterable[tf.Tensor]) -> list[Saturation]:
    """Measure every nonlinearity of a model over images.

    Args:
        model: With at least one of `nonlinearities`.
        batches: Images `[N, H, W, C]`, preprocessed.
    """
    layers = nonlinearities(model)
    inside = tap(model, [parents(model, layer)[0].output for layer in layers])
    steepest = [float(tf.reduce_max(tf.abs(_slope(layer, tf.linspace(-6.0, 6.0, 4001))))) for layer in layers]
    flat, total = np.zeros(len(layers)), np.zeros(len(layers))
    alive: list[np.ndarray] = [np.zeros(layer.output.shape[-1], bool) for layer in layers]
    for images in batches:
        for index, (layer, values) in enumerate(zip(layers, inside(images), strict=True)):
            slope = np.abs(_slope(layer, tf.cast(values, tf.float32)).numpy())
            is_flat = slope < FLAT * steepest[index]
            flat[index] += is_flat.sum()
            total[index] += is_flat.size
            alive[index] |= ~is_flat.all(axis=tuple(range(is_flat.ndim - 1)))
    return [
        Saturation(layer.name, activation_name(layer), float(flat[i] / total[i]), float(1 - alive[i].mean()))
        for i, layer in enumerate(layers)
    ]


def _slope(layer: keras.layers.Layer, values: tf.Tensor) -> tf.Tensor:
    """The derivative of a nonlinearity at each value; ReLU's at 0 is 0."""
    function = layer if isinstance(layer, keras.layers.ReLU) else layer.activation
    with tf.GradientTape() as tape:
        tape.watch(values)
        after = function(values)
    return tape.gradient(after, values)


def loudest_units(values: np.ndarray, count: int) -> Sequence[int]:
    """The units with the largest mean activation, the largest first: `[h, w, units]` or `[units]`."""
    means = values.reshape(-1, values.shape[-1]).mean(axis=0)
    return [int(unit) for unit in np.argsort(-means, kind="stable")[:count]]
