"""Max and average pooling whose output size may be rounded up."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.model.geometry import ROUNDINGS, check_fits, output_size

KINDS = ("max", "avg")


@keras.saving.register_keras_serializable(package="alexnet_tf")
class Pool2D(keras.layers.Layer):
    """The maximum or the average of square windows; a window of 3 with a stride of 2 is the paper's.

    Formula, for output sizes of `[H, W]`:

        y[n, i, j, c] = max or mean of x[n, i*stride : i*stride + size, j*stride : j*stride + size, c]

        rounding="down": 1 + floor((H - size) / stride)    pixels that fill no window are left out
        rounding="up":   1 + ceil((H - size) / stride)     the last windows end at the lower right edge

    What lies past the edge does not count: neither in a maximum of negative numbers, nor in the number of pixels
    that an average divides by (cuda-convnet). TensorFlow's `"SAME"` pads on both sides, which is another geometry.

    Example:
    >>> Pool2D("max", size=3, stride=2, rounding="up")(np.zeros((1, 32, 32, 8), "float32")).shape
    TensorShape([1, 16, 16, 8])

    Args:
        kind: `"max"` or `"avg"`.
        size: Side of the window in pixels.
        stride: Pixels between windows; at most `size` if rounded up, or a window could lie past the edge altogether.
        rounding: `"down"` or `"up"`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Input: floats `[N, H, W, C]`, H and W known if rounded up. Output: floats `[N, H', W', C]`.

    Raises:
        ValueError: An argument is out of range, or the input is smaller than a window.
    """

    def __init__(
        self, kind: str = "max", size: int = 3, stride: int = 2, rounding: str = "down", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise ValueError(f"Invalid kind. Expected one of {KINDS}. Received: kind={kind!r}")
        if rounding not in ROUNDINGS:
            raise ValueError(
                f"Invalid rounding. Expected one of {ROUNDINGS}. Received: rounding={rounding!r}"
            )
        if size < 1 or stride < 1:
            raise ValueError(
                f"Invalid size or stride. Expected at least 1. Received: size={size}, stride={stride}"
            )
        if rounding == "up" and stride > size:
            raise ValueError(
                f"Invalid stride. Expected at most size ({size}) with rounding 'up'. Received: stride={stride}"
            )
        self.kind = str(kind)
        self.size = size
        self.stride = stride
        self.rounding = str(rounding)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Checks the map's size (there are no variables)."""
        check_fits(self.name, input_shape, self.size, padding=0)
        if self.rounding == "up" and None in input_shape[1:3]:
            raise ValueError(
                f"The map's size is not known to layer '{self.name}'. Expected a fixed size with rounding 'up'. "
                f"Received: shape {tuple(input_shape)}"
            )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Pools `[N, H, W, C]` to `[N, H', W', C]`."""
        pool = tf.nn.max_pool2d if self.kind == "max" else tf.nn.avg_pool2d
        if self.rounding == "down":
            return pool(inputs, self.size, self.stride, "VALID")
        sides = [int(side) for side in inputs.shape[1:3]]
        missing = [self._missing(side) for side in sides]
        if missing == [0, 0]:
            return pool(inputs, self.size, self.stride, "VALID")
        if all(self._same_reads_alike(side) for side in sides):
            return pool(inputs, self.size, self.stride, "SAME")
        edges = [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]]
        if self.kind == "max":
            padded = tf.pad(inputs, edges, constant_values=inputs.dtype.min)
            return pool(padded, self.size, self.stride, "VALID")
        means = pool(tf.pad(inputs, edges), self.size, self.stride, "VALID")
        filled = np.outer(*(self._real_pixels(side) for side in sides))[:, :, None] / self.size**2
        return means / tf.constant(filled, means.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """`[N, H, W, C]` to `[N, H', W', C]`."""
        batch, *sides, channels = input_shape
        return (
            batch,
            *(output_size(side, self.size, self.stride, 0, self.rounding) for side in sides),
            channels,
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, to be built again from."""
        return {
            **super().get_config(),
            "kind": self.kind,
            "size": self.size,
            "stride": self.stride,
            "rounding": self.rounding,
        }

    def _missing(self, side: int) -> int:
        """Pixels by which the last window reaches past the edge."""
        return -(side - self.size) % self.stride

    def _same_reads_alike(self, side: int) -> bool:
        """Whether TensorFlow's `"SAME"` has this geometry: as many windows, and all of its padding at the end.

        It has for 3/2 windows on even sides, the usual case, and saves the copy that padding costs.
        """
        windows = -(-side // self.stride)
        padding = max((windows - 1) * self.stride + self.size - side, 0)
        return windows == output_size(side, self.size, self.stride, 0, "up") and padding // 2 == 0

    def _real_pixels(self, side: int) -> np.ndarray:
        """The number of pixels before the edge in each window along a side."""
        starts = np.arange(0, side - self.size + self._missing(side) + 1, self.stride)
        return np.minimum(starts + self.size, side) - starts
