"""Division by a power of the energy in a window: what both normalisations of 2012 have in common."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

CONVENTIONS = ("sum", "mean")

WindowSum = Callable[[tf.Tensor], tf.Tensor]
"""Sums of a tensor over windows, one for each of its values, in its shape."""


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
    training: bool,
) -> tf.Tensor:
    """`x / (k + weight * window_sum(x**2))**beta`, with a gradient that costs one more sum.

        dx = g * d**-beta - 2 * weight * beta * x * transposed_sum(g * y / d)    with d the denominator's base

    In training in float32 XLA makes one pass over memory of what stands between two sums; in bfloat16 it is slower
    than TensorFlow's operations. What is exported and converted is not training and has plain operations only.

    Args:
        x: Floats of any dtype.
        window_sum: Linear; the sums over each value's window.
        transposed_sum: Its transpose: the sums over those whose windows hold the value. The same where windows are
            symmetric.
        k: Constant term, positive.
        weight: Factor of the sum of squares.
        beta: Exponent.
        training: Whether this is training.

    Returns:
        Floats of the shape and dtype of `x`.
    """
    # The factor goes in before the square, and is split in the gradient: float16 ends at 65,504 and loses
    # precision below 6e-5, which an input of 300 and the paper's alpha would pass otherwise.
    scale = math.sqrt(weight)
    compiled = training and x.dtype == tf.float32
    together = partial(tf.function, autograph=False, jit_compile=True) if compiled else _as_it_is

    def base_of(energy: tf.Tensor) -> tf.Tensor:
        return k + energy if compiled else energy  # a pass of its own otherwise, made once

    @together
    def squares(x: tf.Tensor) -> tf.Tensor:
        return tf.square(scale * x)

    @together
    def divided(x: tf.Tensor, energy: tf.Tensor) -> tf.Tensor:
        return x * _power(base_of(energy), beta)

    @together
    def weighed(g: tf.Tensor, y: tf.Tensor, energy: tf.Tensor) -> tf.Tensor:
        return g * (y / base_of(energy))

    @together
    def derived(g: tf.Tensor, x: tf.Tensor, energy: tf.Tensor, spread: tf.Tensor) -> tf.Tensor:
        return g * _power(base_of(energy), beta) - (2.0 * beta * scale) * (scale * x) * spread

    @tf.custom_gradient
    def normalize(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        energy = window_sum(squares(x))
        energy = energy if compiled else k + energy
        y = divided(x, energy)
        return y, lambda g: derived(g, x, energy, transposed_sum(weighed(g, y, energy)))

    return normalize(x)


def _as_it_is(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    return function


def _power(base: tf.Tensor, beta: float) -> tf.Tensor:
    """`base ** -beta`; 0.75, which all sources use, from square roots, which are faster than a power."""
    if beta == 0.75:
        root = tf.math.rsqrt(base)
        return root * tf.sqrt(root)
    return tf.pow(base, tf.constant(-beta, base.dtype))
