"""How weights and biases start, each of a seed of its own."""

import functools
import math
import zlib
from collections.abc import Callable

import keras

from alexnet_tf.config.schema import BiasInit, Init

INITIALIZERS: dict[str, Callable[..., keras.initializers.Initializer]] = {
    "glorot_uniform": keras.initializers.GlorotUniform,
    "glorot_normal": keras.initializers.GlorotNormal,
    "he_uniform": keras.initializers.HeUniform,
    "he_normal": keras.initializers.HeNormal,
    "lecun_normal": keras.initializers.LecunNormal,
    # A uniform distribution within +-b has the variance b^2 / 3.
    "fan_in_uniform": functools.partial(
        keras.initializers.VarianceScaling, scale=1 / 3, mode="fan_in", distribution="uniform"
    ),
}
"""Initial weights by name, beside `normal`, whose standard deviation a stage has of its own."""


def kernel_initializer(init: str, std: float, seed: int) -> keras.initializers.Initializer:
    """The initial weights by name; `std` is that of `normal`."""
    if init == Init.normal:
        return keras.initializers.RandomNormal(stddev=std, seed=seed)
    return INITIALIZERS[init](seed=seed)


def bias_initializer(init: str, value: float, fan_in: int, seed: int) -> keras.initializers.Initializer:
    """The initial biases by name: `value`, or uniform within +-1 / sqrt(`fan_in`), the weights' own bound."""
    if init == BiasInit.fan_in_uniform:
        bound = 1 / math.sqrt(fan_in)
        return keras.initializers.RandomUniform(-bound, bound, seed=seed)
    return keras.initializers.Constant(value)


def part_seed(seed: int, *path: str) -> int:
    """A seed of its own for each part of the network, the same in every process and unmoved by other stages."""
    return zlib.crc32("/".join([str(seed), *path]).encode())
