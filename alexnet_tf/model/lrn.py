"""Local response normalisation over channels (paper, section 3.3), in both conventions, across columns or within."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

CONVENTIONS = ("sum", "mean")


@keras.saving.register_keras_serializable(package="alexnet_tf")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each value by a power of the energy in a window of neighbouring channels.

    Formula, for channel `i` of one pixel:

        y[i] = x[i] / (k + a * sum(x[j]**2))**beta    with j from i - size//2 to i + (size - 1)//2

    where `a` is `alpha` in the convention `"sum"` (the paper, and `tf.nn.local_response_normalization`) and
    `alpha / size` in the convention `"mean"` (the authors' 2012 code, Caffe). The window ends at the first and the
    last channel and, with `columns > 1`, at the edges of a column; the divisor stays `size` there.

    TensorFlow's own op has no bfloat16 kernel and a slow gradient; this one is a product with a banded matrix, and
    its gradient one product with the transposed band:

        dx = g * d**-beta - 2 * a * beta * x * (band.T @ (g * y / d))    with d = k + a * (band @ x**2)

    Example:
    >>> LocalResponseNormalization(size=5, k=2.0, alpha=1e-4)(np.ones((1, 1, 1, 3), "float32"))
    <tf.Tensor: ... array([[[[0.5945368, 0.5945368, 0.5945368]]]], dtype=float32)>

    Args:
        size: Channels in the window (the paper's n), not the half-width that TensorFlow calls `depth_radius`.
        k: Constant term of the denominator, positive.
        alpha: Weight of the energy, not negative.
        beta: Exponent, not negative.
        convention: `"sum"` or `"mean"`.
        columns: Columns that the channels are divided into and windows do not leave; 1: windows reach across.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Input and output: floats of any dtype, `[..., channels]`.

    Raises:
        ValueError: An argument is out of range, or the channels are no multiple of `columns`.
    """

    def __init__(
        self,
        size: int = 5,
        k: float = 2.0,
        alpha: float = 1e-4,
        beta: float = 0.75,
        convention: str = "sum",
        columns: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if size < 1:
            raise ValueError(f"Invalid size. Expected a window of at least 1 channel. Received: size={size}")
        if k <= 0:
            raise ValueError(f"Invalid k. Expected a positive number. Received: k={k}")
        if alpha < 0 or beta < 0:
            raise ValueError(
                f"Invalid alpha or beta. Expected numbers that are not negative. Received: alpha={alpha}, beta={beta}"
            )
        if convention not in CONVENTIONS:
            raise ValueError(
                f"Invalid convention. Expected one of {CONVENTIONS}. Received: convention={convention!r}"
            )
        if columns < 1:
            raise ValueError(f"Invalid columns. Expected at least 1. Received: columns={columns}")
        self.size = size
        self.k = k
        self.alpha = alpha
        self.beta = beta
        self.convention = str(convention)
        self.columns = columns

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Lays out the band for the input's channels (there are no variables)."""
        channels = input_shape[-1]
        if channels is None or channels % self.columns:
            raise ValueError(
                f"The channels do not fit layer '{self.name}'. Expected a multiple of its columns ({self.columns}). "
                f"Received: {channels} channels"
            )
        self.band = _band(channels, self.size, self.columns)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Normalises `[..., channels]`."""
        channels = inputs.shape[-1]
        energy_weight = self.alpha / self.size if self.convention == "mean" else self.alpha
        band = tf.constant(self.band, dtype=inputs.dtype)
        flat = tf.reshape(inputs, [-1, channels])
        return tf.reshape(_normalize(flat, band, self.k, energy_weight, self.beta), tf.shape(inputs))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments, to be built again from."""
        return {
            **super().get_config(),
            "size": self.size,
            "k": self.k,
            "alpha": self.alpha,
            "beta": self.beta,
            "convention": self.convention,
            "columns": self.columns,
        }


def _band(channels: int, size: int, columns: int) -> np.ndarray:
    """The matrix `[channels, channels]` with 1 at (j, i) where channel j lies in the window of channel i."""
    j, i = np.indices((channels, channels))
    in_window = (j >= i - size // 2) & (j <= i + (size - 1) // 2)
    per_column = channels // columns
    return (in_window & (j // per_column == i // per_column)).astype(np.float64)


def _power(denominator: tf.Tensor, beta: float) -> tf.Tensor:
    """`denominator ** -beta`; 0.75, which all sources use, from square roots, which are faster than a power."""
    if beta == 0.75:
        root = tf.math.rsqrt(denominator)
        return root * tf.sqrt(root)
    return tf.pow(denominator, tf.constant(-beta, denominator.dtype))


def _normalize(x: tf.Tensor, band: tf.Tensor, k: float, energy_weight: float, beta: float) -> tf.Tensor:
    """Normalises `[rows, channels]`; see the class for the formula and its gradient."""
    # The factor goes in before the square, and is split in the gradient: float16 ends at 65,504 and loses
    # precision below 6e-5, which an input of 300 and the paper's alpha would pass otherwise.
    scale = math.sqrt(energy_weight)

    @tf.custom_gradient
    def normalize(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        denominator = k + tf.matmul(tf.square(scale * x), band)
        y = x * _power(denominator, beta)

        def gradient(g: tf.Tensor) -> tf.Tensor:
            spread = tf.matmul(g * (y / denominator), band, transpose_b=True)
            return g * _power(denominator, beta) - (2.0 * beta * scale) * (scale * x) * spread

        return y, gradient

    return normalize(x)
