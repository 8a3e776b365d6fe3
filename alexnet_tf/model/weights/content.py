"""What a file of weights holds, whatever its format."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alexnet_tf.model.weights.layouts import Layout


class WeightsError(Exception):
    """A file of weights is damaged or not what its name says; the message is one line."""

    exit_status = 1


@dataclass(frozen=True, eq=False)
class Weights:
    """The arrays of a network as a file has them.

    Attributes:
        source: The file, for messages.
        arrays: float32, by the names `<layer>.weight` and `<layer>.bias`.
        layout: The order of their axes, channels and rows.
    """

    source: str
    arrays: dict[str, np.ndarray]
    layout: Layout


def make_weights(source: str, arrays: Mapping[str, Any], layout: Layout) -> Weights:
    """Check what was read and bring it to float32: float64 is rounded, 16-bit floats are widened exactly.

    Raises:
        WeightsError: If there is no array, or one holds no floating-point or no finite numbers.
    """
    if not arrays:
        raise WeightsError(f"{source}: holds no weights. Expected arrays of convolutions and dense layers")
    checked = {}
    for name, value in arrays.items():
        array = np.asarray(value)
        if array.dtype.kind != "f":
            raise WeightsError(f"{source}: {name}: expected floating-point numbers, found {array.dtype}")
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite below
            checked[name] = array.astype(np.float32, copy=False)
        if not np.isfinite(checked[name]).all():
            raise WeightsError(f"{source}: {name}: expected finite numbers, found NaN or infinity")
    return Weights(source, checked, layout)
