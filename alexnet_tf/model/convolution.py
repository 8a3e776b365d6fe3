"""Convolution over one or more columns, with cuda-convnet's output sizes."""

from typing import Any

import keras
import tensorflow as tf

from alexnet_tf.model.geometry import ROUNDINGS, check_fits, output_size


@keras.saving.register_keras_serializable(package="alexnet_tf")
class ColumnConv2D(keras.layers.Layer):
    """A 2-D convolution whose kernels may be divided into columns that each see their share of the channels.

    Formula, for filter `f` in column `c`, whose channels start at `o = c * channels / columns`:

        y[n, i, j, f] = bias[f] + sum(kernel[u, v, m, f] * x[n, i*stride + u - p, j*stride + v - p, o + m])

    It is TensorFlow's grouped convolution with a gradient of its own, which goes through the columns one by one: on CPU
    TensorFlow's takes so long that a training step takes 3.7 times as long, where it has one at all. Output sizes for `p`
    pixels of padding:

        rounding="down": 1 + floor((2p + size - kernel_size) / strides)
        rounding="up":   1 + ceil((2p + size - kernel_size) / strides)

    Rounded up (cuda-convnet), the last windows read extra zero rows and columns past the lower right edge: an input
    of 224, a kernel of 11 and strides of 4 give 55. `padding="same"` is TensorFlow's and ignores `rounding`.

    Example:
    >>> layer = ColumnConv2D(96, 11, strides=4, padding="valid", rounding="up")
    >>> layer(np.zeros((1, 224, 224, 3), "float32")).shape
    TensorShape([1, 55, 55, 96])

    Args:
        filters: Channels of the output, a multiple of `columns`.
        kernel_size: Side of the square kernels in pixels.
        strides: Pixels between windows, on both axes.
        padding: `"same"`, `"valid"` (0) or the number of zero pixels on each side.
        rounding: `"down"` or `"up"`.
        columns: Columns of kernels.
        kernel_initializer: Initial kernel `[kernel_size, kernel_size, channels / columns, filters]`, from which
            Keras's initializers take a fan-in of `kernel_size**2 * channels / columns`.
        bias_initializer: Initial bias `[filters]`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Input: floats `[N, H, W, channels]`. Output: floats `[N, H', W', filters]`.

    Raises:
        ValueError: An argument is out of range, channels or filters are no multiple of `columns`, or the input is
            smaller than a kernel.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        padding: str | int = "same",
        rounding: str = "down",
        columns: int = 1,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value in {"kernel_size": kernel_size, "strides": strides, "columns": columns}.items():
            if value < 1:
                raise ValueError(f"Invalid {name}. Expected at least 1. Received: {name}={value}")
        if filters < 1 or filters % columns:
            raise ValueError(
                f"Invalid filters. Expected a positive multiple of columns ({columns}). Received: filters={filters}"
            )
        is_count = isinstance(padding, int) and padding >= 0
        if not is_count and padding not in ("same", "valid"):
            raise ValueError(
                f"Invalid padding. Expected 'same', 'valid' or a number of pixels. Received: padding={padding!r}"
            )
        if rounding not in ROUNDINGS:
            raise ValueError(
                f"Invalid rounding. Expected one of {ROUNDINGS}. Received: rounding={rounding!r}"
            )
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.rounding = str(rounding)
        self.columns = columns
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates `kernel` and `bias`."""
        check_fits(self.name, input_shape, 1 if self.padding == "same" else self.kernel_size, self._pixels)
        channels = input_shape[-1]
        if channels is None or channels % self.columns:
            raise ValueError(
                f"The channels do not fit layer '{self.name}'. Expected a multiple of its columns ({self.columns}). "
                f"Received: {channels} channels"
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, channels // self.columns, self.filters),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer=self.bias_initializer)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolves `[N, H, W, channels]` to `[N, H', W', filters]`."""
        kernel = keras.ops.convert_to_tensor(self.kernel)
        padding, edges = self._tf_padding()
        if any(edges):
            inputs = tf.pad(inputs, [[0, 0], edges, edges, [0, 0]])
        bias = keras.ops.convert_to_tensor(self.bias)
        if self.columns == 1:
            return tf.nn.bias_add(tf.nn.conv2d(inputs, kernel, self.strides, padding), bias)
        # Not `bias_add`: without oneDNN TensorFlow would fuse it too, and has no fused kernel for groups there.
        return _grouped_convolution(inputs, kernel, self.strides, padding, self.columns) + bias

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """`[N, H, W, channels]` to `[N, H', W', filters]`."""
        batch, *sides, _ = input_shape
        if self.padding == "same":
            sides = [None if side is None else -(-side // self.strides) for side in sides]
        else:
            geometry = (self.kernel_size, self.strides, self._pixels, self.rounding)
            sides = [output_size(side, *geometry) for side in sides]
        return (batch, *sides, self.filters)

    def get_config(self) -> dict[str, Any]:
        """The arguments, to be built again from."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "rounding": self.rounding,
            "columns": self.columns,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }

    @property
    def _pixels(self) -> int:
        """Zero pixels on each side, as far as a number says it."""
        return self.padding if isinstance(self.padding, int) else 0

    def _tf_padding(self) -> tuple[str, list[int]]:
        """What `tf.nn.conv2d` takes as its padding, and the zeros before and after each side that it is given already.

        It would take the zeros itself, but then, on CPU, computes its gradients without oneDNN: 1.5 times slower in
        float32, 30 times in bfloat16.
        """
        if self.padding == "same" or (self.strides == 1 and 2 * self._pixels + 1 == self.kernel_size):
            return "SAME", [0, 0]
        # stride - 1 more zeros turn TensorFlow's floor into the ceiling whatever the size; windows that
        # do not fit even so are dropped, and the zeros they would have read with them.
        extra = self.strides - 1 if self.rounding == "up" else 0
        return "VALID", [self._pixels, self._pixels + extra]


def _grouped_convolution(
    inputs: tf.Tensor, kernel: tf.Tensor, strides: int, padding: str, columns: int
) -> tf.Tensor:
    """`tf.nn.conv2d` of `[N, H, W, channels]` with `[K, K, channels / columns, filters]`, with a gradient by column."""

    @tf.custom_gradient
    def convolve(inputs: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            shares = [tf.split(each, columns, -1) for each in (inputs, kernel, upstream)]
            how = {"strides": [1, strides, strides, 1], "padding": padding}
            of_maps, of_kernels = [], []
            for x, k, g in zip(*shares, strict=True):
                of_maps.append(
                    tf.raw_ops.Conv2DBackpropInput(input_sizes=tf.shape(x), filter=k, out_backprop=g, **how)
                )
                of_kernels.append(
                    tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=tf.shape(k), out_backprop=g, **how)
                )
            return tf.concat(of_maps, -1), tf.concat(of_kernels, -1)

        return tf.nn.conv2d(inputs, kernel, strides, padding), gradient

    # A tensor, as for a variable TensorFlow would want another form of gradient.
    return convolve(inputs, tf.convert_to_tensor(kernel))
