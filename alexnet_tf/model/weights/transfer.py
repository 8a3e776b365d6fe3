"""Which array of a file is which variable of a network, and the copy from one to the other."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import keras
import numpy as np

from alexnet_tf.config import ConfigError
from alexnet_tf.model.convolution import ColumnConv2D
from alexnet_tf.model.weights import layouts
from alexnet_tf.model.weights.content import Weights, WeightsError
from alexnet_tf.model.weights.layouts import Layout

TORCHVISION = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}
"""The layers of `torchvision.models.alexnet` by the stages of `alexnet_owt`."""
BATCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
"""PyTorch's names for what a normalised layer holds, by Keras's."""
LISTED = 4


class Kind(Enum):
    """What an array is, which decides how its axes are ordered."""

    conv = "conv"
    dense = "dense"
    vector = "vector"


@dataclass(frozen=True, eq=False)
class Slot:
    """A variable of the network as a place for an array.

    Attributes:
        variable: The Keras variable.
        kind: What it is.
        first: Whether it sees the image.
        maps: (height, width, channels) of the maps that are flattened before it, or None.
    """

    variable: Any
    kind: Kind
    first: bool = False
    maps: tuple[int, int, int] | None = None

    def their_shape(self, layout: Layout) -> tuple[int, ...]:
        """The shape that the array has in a file."""
        shape = tuple(self.variable.shape)
        if not layout.channels_first:
            return shape
        return {
            Kind.conv: lambda: (shape[3], shape[2], *shape[:2]),
            Kind.dense: lambda: shape[::-1],
            Kind.vector: lambda: shape,
        }[self.kind]()

    def to_ours(self, array: np.ndarray, layout: Layout) -> np.ndarray:
        """A file's array as a value of the variable."""
        if layout.channels_first and self.kind is Kind.conv:
            array = layouts.oihw_to_hwio(array)
        elif layout.channels_first and self.kind is Kind.dense:
            array = layouts.chw_rows_to_hwc(array.T, self.maps) if self.maps else array.T
        if layout.bgr and self.kind is Kind.conv and self.first:
            array = layouts.swap_red_and_blue(array)
        return array

    def to_torch(self) -> np.ndarray:
        """The variable's value as PyTorch orders it."""
        array = self.variable.numpy()
        if self.kind is Kind.conv:
            array = layouts.hwio_to_oihw(array)
        elif self.kind is Kind.dense:
            array = layouts.hwc_rows_to_chw(array, self.maps).T if self.maps else array.T
        return np.ascontiguousarray(array)


def class_count(weights: Weights, last: str) -> int:
    """The number of classes: the length of the biases of the stage `last`.

    Raises:
        ConfigError: If the file has no such array.
    """
    name = f"{_names(weights.arrays, [last])[last]}.bias"
    if name not in weights.arrays:
        raise ConfigError(
            f"{weights.source}: expected {name}, the biases of the last stage. Found {_some(weights.arrays)}"
        )
    return int(weights.arrays[name].size)


def assign(network: keras.Model, weights: Weights) -> None:
    """Give a network the weights of a file; nothing is assigned unless all of them fit.

    Raises:
        ConfigError: If arrays are missing, left over, or of another shape than the network's.
    """
    slots = _slots(network)
    names = _names(weights.arrays, {name.rpartition(".")[0] for name in slots})
    places = {_renamed(name, names): slot for name, slot in slots.items()}
    missing, extra = places.keys() - weights.arrays.keys(), weights.arrays.keys() - places.keys()
    if missing or extra:
        raise ConfigError(
            f"{weights.source}: does not fit model={network.name}: missing {_some(missing)}; "
            f"unexpected {_some(extra)}"
        )
    for name, slot in places.items():
        expected, found = slot.their_shape(weights.layout), weights.arrays[name].shape
        if found != expected:
            raise ConfigError(
                f"{weights.source}: does not fit model={network.name}: {name}: expected the shape "
                f"{list(expected)}, found {list(found)}"
            )
    for name, slot in places.items():
        slot.variable.assign(slot.to_ours(weights.arrays[name], weights.layout))


def state_dict(network: keras.Model) -> dict[str, np.ndarray]:
    """The weights of a network as PyTorch's `state_dict` would have them.

    Returns:
        Contiguous arrays in the dtype of the variables, by torchvision's names for `alexnet_owt` with all its
        stages, else by the layers' own: `conv1.weight`, `conv1.bias`, `conv1_norm.running_mean`.

    Raises:
        WeightsError: If a layer has no counterpart in PyTorch that we know of.
    """
    slots = _slots(network)
    stages = {name.rpartition(".")[0] for name in slots}
    is_torchvision = network.name == "alexnet_owt" and stages == TORCHVISION.keys()
    names = TORCHVISION if is_torchvision else {stage: stage for stage in stages}
    return {_renamed(name, names): slot.to_torch() for name, slot in slots.items()}


def _slots(network: keras.Model) -> dict[str, Slot]:
    """The variables of a staged network by `<layer>.<PyTorch's name>`, in the order of the layers."""
    slots: dict[str, Slot] = {}
    maps = None
    for layer in network.layers:
        if isinstance(layer, keras.layers.Flatten) and len(layer.input.shape) == 4:
            maps = tuple(layer.input.shape[1:])
        elif isinstance(layer, ColumnConv2D | keras.layers.Conv2D):
            slots[f"{layer.name}.weight"] = Slot(layer.kernel, Kind.conv, first=not slots)
        elif isinstance(layer, keras.layers.Dense):
            slots[f"{layer.name}.weight"] = Slot(layer.kernel, Kind.dense, maps=maps)
            maps = None  # only the first dense layer sees maps
        elif isinstance(layer, keras.layers.BatchNormalization):
            for ours, theirs in BATCH_NORM.items():
                slots[f"{layer.name}.{theirs}"] = Slot(getattr(layer, ours), Kind.vector)
            continue
        elif layer.weights:
            raise WeightsError(
                f"{network.name}: the layer {layer.name} ({type(layer).__name__}) has weights that no known format "
                f"has. Expected convolutions, dense layers and batch normalisation"
            )
        if f"{layer.name}.weight" in slots and layer.bias is not None:
            slots[f"{layer.name}.bias"] = Slot(layer.bias, Kind.vector)
    return slots


def _names(arrays: Iterable[str], layers: Iterable[str]) -> dict[str, str]:
    """What a file calls our layers: torchvision's names where it has such, else the same."""
    is_torchvision = any(name.startswith(("features.", "classifier.")) for name in arrays)
    return {layer: TORCHVISION.get(layer, layer) if is_torchvision else layer for layer in layers}


def _renamed(name: str, names: dict[str, str]) -> str:
    layer, _, part = name.rpartition(".")
    return f"{names[layer]}.{part}"


def _some(names: Iterable[str]) -> str:
    """The first few names and how many more there are."""
    listed = sorted(names)
    more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    return ", ".join(listed[:LISTED]) + more if listed else "nothing"
