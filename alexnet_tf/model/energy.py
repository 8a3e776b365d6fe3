"""Division by a power of the energy in a window: what both normalisations of 2012 have in common."""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

CONVENTIONS = ("sum", "mean")

WindowSum = Callable[[tf.Tensor], tf.Tensor]
"""Sums of a tensor over windows, one for each of its values, in its shape."""

LARGE = 2**17
"""Values of an image's maps from which on passes over them cost more, in inference, than XLA's compiling them to one."""

# MirroredStrategy traces each replica in a thread of its own.
_ACTIVE = threading.local()


@contextlib.contextmanager
def one_pass_scope() -> Iterator[None]:
    """Lets normalisations of large maps be one pass in inference too, for graphs that stay in this process.

    What is traced outside has plain operations only, which can be saved and converted for any runtime. Enter it inside
    the replica function: a scope holds for the thread that enters it.
    """
    outer = getattr(_ACTIVE, "scope", False)
    _ACTIVE.scope = True
    try:
        yield
    finally:
        _ACTIVE.scope = outer


class EnergyNormalization(keras.layers.Layer):
    """A layer without variables that divides by `(k + a * energy)**beta`; its subclasses say over which windows.

    Args:
        size: Side of the window.
        k: Constant term of the denominator, positive.
        alpha: Weight of the energy, not negative.
        beta: Exponent, not negative.
        convention: `"sum"` or `"mean"`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self, size: int, k: float, alpha: float, beta: float, convention: str, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if size < 1:
            raise ValueError(f"Invalid size. Expected a window of at least 1. Received: size={size}")
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
        self.size = size
        self.k = k
        self.alpha = alpha
        self.beta = beta
        self.convention = str(convention)

    def weight_over(self, values: int) -> float:
        """The factor of the sum of squares over a window of so many values."""
        return self.alpha / values if self.convention == "mean" else self.alpha

    def is_compiled(self, inputs: tf.Tensor, *, training: bool) -> bool:
        """Whether XLA makes one pass of it: in training, and of large maps inside a `one_pass_scope`."""
        if training and self.trainable:
            return True
        # Eagerly XLA would compile each time.
        wished = getattr(_ACTIVE, "scope", False) and not tf.executing_eagerly()
        return wished and math.prod(size or 0 for size in inputs.shape[1:]) >= LARGE

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
        }


def window_matrix(length: int, size: int) -> np.ndarray:
    """The matrix `[length, length]` with 1 at (j, i) where j lies in the window of i, which ends at both borders.

    The window reaches from `i - size//2` to `i + (size - 1)//2`.
    """
    j, i = np.indices((length, length))
    return ((j >= i - size // 2) & (j <= i + (size - 1) // 2)).astype(np.float64)


def divide_by_energy(
    x: tf.Tensor,
    window_sum: WindowSum,
    transposed_sum: WindowSum,
    k: float,
    weight: float,
    beta: float,
    *,
    compiled: bool,
) -> tf.Tensor:
    """`x / (k + weight * window_sum(x**2))**beta`, with a gradient that costs three more sums and keeps `x` alone.

        dx = g * d**-beta - 2 * weight * beta * x * transposed_sum(g * x * d**(-beta - 1))    with d the base

    Args:
        x: Floats of any dtype.
        window_sum: Linear; the sums over each value's window.
        transposed_sum: Its transpose: the sums over those whose windows hold the value. The same where windows are
            symmetric.
        k: Constant term, positive.
        weight: Factor of the sum of squares.
        beta: Exponent.
        compiled: Whether XLA makes one pass over memory of the way there and two of the way back, in float32 at
            least. What is exported and converted must have plain operations only.

    Returns:
        Floats of the shape and dtype of `x`.
    """
    # The factor goes in before the square, and is split in the gradient: float16 ends at 65,504 and loses
    # precision below 6e-5, which an input of 300 and the paper's alpha would pass otherwise.
    scale = math.sqrt(weight)
    dtype = tf.float32 if compiled and x.dtype.size < 4 else x.dtype

    def one_pass(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
        def exact(*tensors: tf.Tensor) -> tf.Tensor:
            return tf.cast(function(*(tf.cast(each, dtype) for each in tensors)), x.dtype)

        return tf.function(exact, autograph=False, jit_compile=True) if compiled else function

    def base_of(x: tf.Tensor) -> tf.Tensor:
        return k + window_sum(tf.square(scale * x))

    @one_pass
    def divided(x: tf.Tensor) -> tf.Tensor:
        return x * _power(base_of(x), beta)

    @one_pass
    def weighed(g: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        base = base_of(x)
        return g * (x * _power(base, beta) / base)

    @one_pass
    def derived(g: tf.Tensor, x: tf.Tensor, to_spread: tf.Tensor) -> tf.Tensor:
        spread = transposed_sum(to_spread)
        return g * _power(base_of(x), beta) - (2.0 * beta * scale) * (scale * x) * spread

    @tf.custom_gradient
    def normalize(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        return divided(x), lambda g: derived(g, x, weighed(g, x))

    return normalize(x)


def _power(base: tf.Tensor, beta: float) -> tf.Tensor:
    """`base ** -beta`; 0.75, which all sources use, from square roots, which are faster than a power."""
    if beta == 0.75:
        root = tf.math.rsqrt(base)
        return root * tf.sqrt(root)
    return tf.pow(base, tf.constant(-beta, base.dtype))
