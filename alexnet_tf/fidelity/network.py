"""What a built network is, from its layers: by their weights' and outputs' shapes and by how they answer to probes.

Attributes that a config has set are not read where a layer's behaviour tells the same: a convention that is
misunderstood, or a switch that does nothing, shows in the numbers.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from alexnet_tf.fidelity.sampled import Sampled
from alexnet_tf.model import layer_table, total

NORMS = {
    "LocalResponseNormalization": "lrn",
    "WithinMapNormalization": "map norm",
    "BatchNormalization": "batch norm",
}
SILENT = ("Flatten", "Dropout", "InputLayer")
"""Layers without a place in a stage's order: dropout has lines of its own."""
ROWS = 64
"""Of the maps that windows are tried on; the widest kernel and stride, 11/4, has 14 whole ones in them."""
ADAPTIVE = "AdaptiveAveragePooling2D"


@dataclass(frozen=True)
class Network:
    """A built model and its layers by kind, from the input on."""

    model: keras.Model

    @property
    def weighted(self) -> list[keras.layers.Layer]:
        """Convolutions and dense layers."""
        return [layer for layer in self.model.layers if hasattr(layer, "kernel")]

    @property
    def convolutions(self) -> list[keras.layers.Layer]:
        """Layers with kernels `[k, k, channels of a column, filters]`."""
        return [layer for layer in self.weighted if len(layer.kernel.shape) == 4]

    @property
    def dense(self) -> list[keras.layers.Layer]:
        """Layers with a matrix `[inputs, units]`."""
        return [layer for layer in self.weighted if len(layer.kernel.shape) == 2]

    def of_class(self, name: str) -> list[keras.layers.Layer]:
        """Layers of a class."""
        return [layer for layer in self.model.layers if type(layer).__name__ == name]

    def after(self, layer: keras.layers.Layer) -> list[keras.layers.Layer]:
        """The layers between a weighted one and the next."""
        place = self.model.layers.index(layer)
        rest = self.model.layers[place + 1 :]
        ends = [index for index, other in enumerate(rest) if hasattr(other, "kernel")]
        return rest[: ends[0]] if ends else rest


def measure_network(model: keras.Model, names: Iterable[str]) -> dict[str, Any]:
    """The facts of these names that are the network's, as `Facts` has them."""
    network = Network(model)
    wanted = set(names)
    return {name: measure(network) for name, measure in MEASURES.items() if name in wanted}


# ------------------------------------------------------------------------------------------ shapes and sizes


def _parameters_of(network: Network) -> dict[str, int]:
    return {layer.name: layer.count_params() for layer in network.weighted}


def _mega_macs(network: Network) -> int:
    return round(total(layer_table(network.model)).macs / 1e6)


def _conv_mega_macs(network: Network) -> int:
    names = {layer.name for layer in network.convolutions}
    return round(sum(row.macs for row in layer_table(network.model) if row.name in names) / 1e6)


def _maps(network: Network) -> list[int]:
    sizing = [*network.convolutions, *network.of_class("Pool2D")]
    return [layer.output.shape[1] for layer in network.model.layers if layer in sizing]


def _columns(network: Network) -> list[int]:
    return [layer.input.shape[-1] // layer.kernel.shape[2] for layer in network.convolutions]


def _strides(network: Network) -> list[int]:
    return [
        _windows(layer, layer.kernel.shape[0], layer.input.shape[-1])[1] for layer in network.convolutions
    ]


def _windows(layer: keras.layers.Layer, width: int, channels: int) -> tuple[int, int]:
    """Size and stride of a layer's windows, by which outputs a bump at each row of an empty map reaches.

    The maps have `width` columns and so many channels; zeros if no bump reaches anything.
    """
    bumps = np.zeros((ROWS, ROWS, width, channels), np.float32)
    bumps[np.arange(ROWS), np.arange(ROWS), width // 2] = 1
    empty = np.asarray(layer(np.zeros((1, ROWS, width, channels), np.float32)))
    reached = (np.asarray(layer(bumps)) != empty).any(axis=(2, 3))  # [row of the bump, row of the output]
    middle = reached.shape[1] // 2
    inside, following = (np.flatnonzero(reached[:, output]) for output in (middle, middle + 1))
    if not len(inside) * len(following):
        return 0, 0
    return len(inside), int(following[0] - inside[0])


# ----------------------------------------------------------------------------------------- order and pooling


def _order_after(network: Network) -> dict[str, list[str]]:
    return {
        layer.name: [_part(other) for other in network.after(layer) if type(other).__name__ not in SILENT]
        for layer in network.weighted
    }


def _part(layer: keras.layers.Layer) -> str:
    """What the sources call a layer."""
    kind = type(layer).__name__
    if kind == "Activation":
        return _activation(layer)
    if kind == "Pool2D":
        return f"{_pool_kind(layer)} pool"
    return {**NORMS, ADAPTIVE: "adaptive pool"}.get(kind, kind)


def _activation(layer: keras.layers.Layer) -> str:
    """The name of a nonlinearity, by its values."""
    points = np.array([-2.0, -0.5, 0.0, 0.5, 3.0], np.float32)
    values = np.asarray(layer(points))
    known = {"relu": np.maximum(points, 0), "tanh": np.tanh(points), "logistic": 1 / (1 + np.exp(-points))}
    return next((name for name, others in known.items() if np.allclose(values, others, atol=1e-6)), "another")


def _pool_kind(layer: keras.layers.Layer) -> str:
    """By what one value among zeros becomes: itself, or its share of the window."""
    height, width, channels = layer.input.shape[1:]
    bump = np.zeros((1, height, width, channels), np.float32)
    bump[0, 1, 1] = 1
    return "max" if np.asarray(layer(bump)).max() == 1 else "avg"


def _pool_windows(network: Network) -> list[str]:
    return ["{}/{}".format(*_pool_window(layer)) for layer in network.of_class("Pool2D")]


def _pool_window(layer: keras.layers.Layer) -> tuple[int, int]:
    return _windows(layer, ROWS, channels=1)


def _pool_rounding(network: Network) -> list[str]:
    """By the size of a map that the windows do not fill: three whole ones and one pixel more."""

    def rounding(layer: keras.layers.Layer) -> str:
        size, stride = _pool_window(layer)
        rows = size + 2 * stride + 1
        outputs = layer(np.zeros((1, rows, rows, layer.input.shape[-1]), np.float32)).shape[1]
        return {3: "down", 4: "up"}.get(outputs, str(outputs))

    return [rounding(layer) for layer in network.of_class("Pool2D")]


def _adaptive_pool(network: Network) -> int | None:
    """The side that maps of 9 are brought to; None if there is no such layer."""
    for layer in network.of_class(ADAPTIVE):
        return layer(np.zeros((1, 9, 9, layer.input.shape[-1]), np.float32)).shape[1]
    return None


# --------------------------------------------------------------------------------------------- normalisation


def _energy(part: str) -> Callable[["Network", str], list[float]]:
    """Measures of the layers of one class by one of their constants."""
    return lambda network, constant: [_constants(layer)[constant] for layer in network.of_class(part)]


def _constants(layer: keras.layers.Layer) -> dict[str, float]:
    """k, alpha on the sum and beta of y = x / (k + alpha x^2)^beta, from one value x at a time in an empty map.

    With r = x / y: r = k^beta for a small x, and r = (alpha x^2)^beta for large ones, whose slope gives beta.
    """
    small, large, larger = 1e-6, 1e7, 1e8
    ratio = {x: x / _answer(layer, x) for x in (small, large, larger)}
    beta = math.log(ratio[larger] / ratio[large]) / (2 * math.log(larger / large))
    if beta < 1e-3:
        return {"k": math.nan, "alpha": 0.0, "beta": 0.0}
    return {"k": ratio[small] ** (1 / beta), "alpha": ratio[large] ** (1 / beta) / large**2, "beta": beta}


def _answer(layer: keras.layers.Layer, value: float) -> float:
    """What a layer makes of one value in the middle of an empty map."""
    maps = np.zeros((1, *layer.input.shape[1:]), np.float32)
    place = tuple(size // 2 for size in maps.shape)
    maps[place] = value
    return float(np.asarray(layer(maps))[place])


def _reached(layer: keras.layers.Layer, place: tuple[int, ...]) -> np.ndarray:
    """Which values of a map of ones change when the one at `place` `(row, column, channel)` becomes huge."""
    ones = np.ones((1, *layer.input.shape[1:]), np.float32)
    bumped = ones.copy()
    bumped[(0, *place)] = 1e4
    return np.asarray(layer(bumped) != layer(ones))[0]


def _middle(layer: keras.layers.Layer) -> tuple[int, ...]:
    """The middle of a map, in a channel a quarter of the way up: in the middle of the first of two columns."""
    height, width, channels = layer.input.shape[1:]
    return height // 2, width // 2, channels // 4


def _lrn_size(network: Network) -> list[int]:
    def size(layer: keras.layers.Layer) -> int:
        row, column, _ = place = _middle(layer)
        return int(_reached(layer, place)[row, column].sum())

    return [size(layer) for layer in network.of_class("LocalResponseNormalization")]


def _lrn_across(network: Network) -> list[bool]:
    """Whether the last channel of the first of two columns reaches the first of the second."""

    def across(layer: keras.layers.Layer) -> bool:
        row, column, _ = _middle(layer)
        half = layer.input.shape[-1] // 2
        return bool(_reached(layer, (row, column, half - 1))[row, column, half])

    return [across(layer) for layer in network.of_class("LocalResponseNormalization")]


def _map_norm_size(network: Network) -> list[int]:
    """Rows of the window in the map; channels that it reaches into would count as well."""

    def size(layer: keras.layers.Layer) -> int:
        _, column, _ = place = _middle(layer)
        return int(_reached(layer, place)[:, column].sum())

    return [size(layer) for layer in network.of_class("WithinMapNormalization")]


# ---------------------------------------------------------------------------------------- dropout and weights


def _dropout_into(network: Network) -> list[str]:
    """The weighted layers that see what dropout leaves, whichever stage it belongs to."""
    return [
        following.name
        for layer, following in zip(network.weighted, network.weighted[1:], strict=False)
        if any(type(other).__name__ == "Dropout" for other in network.after(layer))
    ]


def _in_training(layer: keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    """What dropout makes of ones, in training and at test."""
    shape = layer.input.shape[1:]
    ones = np.ones((max(1, 2**16 // math.prod(shape)), *shape), np.float32)
    return np.asarray(layer(ones, training=True)), np.asarray(layer(ones, training=False))


def _dropout_rate(network: Network) -> list[Sampled]:
    def rate(layer: keras.layers.Layer) -> Sampled:
        dropped = _in_training(layer)[0] == 0
        return Sampled(dropped.mean(), error=dropped.std() / math.sqrt(dropped.size))

    return [rate(layer) for layer in network.of_class("Dropout")]


def _dropout_balance(network: Network) -> list[Sampled]:
    """Mean in training over mean at test: 1 wherever the scaling is, if it is there once."""

    def balance(layer: keras.layers.Layer) -> Sampled:
        training, test = _in_training(layer)
        values = training / test.mean()
        return Sampled(values.mean(), error=values.std() / math.sqrt(values.size))

    return [balance(layer) for layer in network.of_class("Dropout")]


def _dropout_at_test(network: Network) -> list[float]:
    return [float(_in_training(layer)[1].mean()) for layer in network.of_class("Dropout")]


def _weight_std(network: Network) -> dict[str, Sampled]:
    """Standard deviations about 0, with the error of that of as many numbers with their own kurtosis."""

    def std(layer: keras.layers.Layer) -> Sampled:
        squares = np.asarray(layer.kernel, np.float64).ravel() ** 2
        value = math.sqrt(squares.mean())
        return Sampled(value, error=squares.std() / (2 * value * math.sqrt(squares.size)) if value else 0.0)

    return {layer.name: std(layer) for layer in network.weighted}


def _biases(network: Network) -> list[float]:
    """The one value of each layer's biases; nan where they differ."""

    def value(layer: keras.layers.Layer) -> float:
        biases = np.asarray(layer.bias)
        return float(biases[0]) if (biases == biases[0]).all() else math.nan

    return [value(layer) for layer in network.weighted]


_lrn, _map_norm = _energy("LocalResponseNormalization"), _energy("WithinMapNormalization")

MEASURES: dict[str, Callable[[Network], Any]] = {
    "input_size": lambda network: network.model.input.shape[1],
    "parameters": lambda network: network.model.count_params(),
    "parameters_of": _parameters_of,
    "mega_macs": _mega_macs,
    "conv_mega_macs": _conv_mega_macs,
    "maps": _maps,
    "filters": lambda network: [layer.kernel.shape[-1] for layer in network.convolutions],
    "kernels": lambda network: [layer.kernel.shape[0] for layer in network.convolutions],
    "strides": _strides,
    "columns": _columns,
    "dense": lambda network: [layer.kernel.shape[-1] for layer in network.dense],
    "order_after": _order_after,
    "pool_windows": _pool_windows,
    "pool_rounding": _pool_rounding,
    "adaptive_pool": _adaptive_pool,
    "lrn_size": _lrn_size,
    "lrn_k": lambda network: _lrn(network, "k"),
    "lrn_alpha": lambda network: _lrn(network, "alpha"),
    "lrn_beta": lambda network: _lrn(network, "beta"),
    "lrn_across": _lrn_across,
    "map_norm_size": _map_norm_size,
    "map_norm_k": lambda network: _map_norm(network, "k"),
    "map_norm_alpha": lambda network: _map_norm(network, "alpha"),
    "map_norm_beta": lambda network: _map_norm(network, "beta"),
    "dropout_into": _dropout_into,
    "dropout_rate": _dropout_rate,
    "dropout_balance": _dropout_balance,
    "dropout_at_test": _dropout_at_test,
    "weight_std": _weight_std,
    "biases": _biases,
}
"""How each fact of a network is measured, by its field of `Facts`."""
