"""AlexNet and its relatives: a config's stages, one after the other, as a functional Keras model."""

import functools
import math
import zlib
from collections.abc import Callable
from typing import Any

import keras

from alexnet_tf.config import ConfigError, compose_model
from alexnet_tf.config.checks import check_model
from alexnet_tf.config.schema import (
    BiasInit,
    Init,
    LRNScope,
    MapNormConfig,
    ModelConfig,
    Norm,
    PoolConfig,
    PoolKind,
    StageConfig,
    StageKind,
)
from alexnet_tf.model.convolution import ColumnConv2D
from alexnet_tf.model.dropout import Dropout
from alexnet_tf.model.lrn import LocalResponseNormalization
from alexnet_tf.model.map_norm import WithinMapNormalization
from alexnet_tf.model.pooling import Pool2D


@keras.saving.register_keras_serializable(package="alexnet_tf")
def leaky_relu(x: Any) -> Any:
    """max(x, 0.01 x), the slope of Maas et al. (2013), "Rectifier Nonlinearities Improve Neural Network Acoustic Models"."""
    return keras.ops.leaky_relu(x, negative_slope=0.01)


ACTIVATIONS: dict[str, Callable[[Any], Any] | None] = {
    "relu": keras.activations.relu,
    "tanh": keras.activations.tanh,
    "sigmoid": keras.activations.sigmoid,
    "leaky_relu": leaky_relu,
    "elu": keras.activations.elu,  # alpha 1, Clevert et al. (2015)
    "gelu": keras.activations.gelu,  # by the error function, Hendrycks and Gimpel (2016)
    "linear": None,  # no layer
}
"""A stage's nonlinearity by name."""

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

DTYPES = ("float32", "float64", "mixed_bfloat16", "mixed_float16")
"""Keras's dtype policies that a model can be built in."""


def build(config: ModelConfig, *, dtype: str = "float32", seed: int = 0) -> keras.Model:
    """Builds the network that `config` describes.

    A stage's weighted layer has the stage's name, so variables are called `conv1/kernel`; what follows it is called
    `conv1_relu` (or another activation), `conv1_norm`, `conv1_map_norm`, `conv1_pool`, `conv1_adaptive_pool`,
    `conv1_dropout`. Map sizes stand in `conf/model/`.

    Example:
    >>> model = build(config, seed=1)
    >>> model(np.zeros((1, 224, 224, 3), "float32")).shape
    TensorShape([1, 1000])

    Args:
        config: The stages; `num_classes` and `input_channels` must be set.
        dtype: The dtype policy of every layer: `float32`, `float64`, `mixed_bfloat16` or `mixed_float16`. No global
            policy is read or set. In the mixed policies the last stage computes in float32.
        seed: Seed of the initial weights, each stage's own by its name, and of dropout outside a `mask_scope`.

    Returns:
        A functional model from images `[N, input_size, input_size, input_channels]` to logits `[N, num_classes]`,
        without softmax; float64 if `dtype` is, else float32.

    Raises:
        ConfigError: A value is missing or unknown, stages do not follow on one another, or a map becomes too small.
    """
    _check(config, dtype)
    size, channels = config.input_size, config.input_channels
    outer_dtype = "float64" if dtype == "float64" else "float32"
    images = x = keras.Input((size, size, channels), dtype=outer_dtype, name="images")
    *_, last = config.stages
    for name, stage in config.stages.items():
        stage_dtype = outer_dtype if name == last else dtype
        if stage.kind == StageKind.dense and len(x.shape) == 4:
            x = keras.layers.Flatten(dtype=stage_dtype, name="flatten")(x)
        try:
            for layer in _stage_layers(name, stage, config, stage_dtype, seed, x.shape[-1]):
                x = layer(x)
        except ValueError as error:  # a value or a size that does not fit, which the layer explains
            raise ConfigError(f"model.stages.{name}: {' '.join(str(error).split())}") from error
    return keras.Model(images, x, name=config.name)


def build_model(
    name: str = "alexnet",
    num_classes: int = 1000,
    activation: str | None = None,
    *,
    dtype: str = "float32",
    seed: int = 0,
    **overrides: Any,
) -> keras.Model:
    """Builds a named network of `conf/model/`.

    Example:
    >>> model = build_model("alexnet", num_classes=10, activation="tanh", stages={"fc6": {"dropout": 0.0}})

    Args:
        name: Such as `alexnet`, `alexnet_small` or `cifar_quick`.
        num_classes: Units of the last stage.
        activation: The nonlinearity of every stage without one of its own; None: the network's.
        dtype: The dtype policy of every layer, as for `build`.
        seed: Seed of the initial weights.
        **overrides: Other keys of the network's config, nested ones as dicts; `lrn=None` switches LRN off.

    Returns:
        An untrained functional model from preprocessed images `[N, S, S, C]` to logits `[N, num_classes]`.

    Raises:
        ConfigError: With one line that names the key, what was expected and what came.
    """
    changes = {"num_classes": num_classes, **({"activation": activation} if activation else {}), **overrides}
    return build(compose_model([f"model={name}"], changes), dtype=dtype, seed=seed)


def _stage_layers(
    name: str, stage: StageConfig, config: ModelConfig, dtype: str, seed: int, channels: int
) -> list[keras.layers.Layer]:
    """The layers of one stage, above so many channels: weights, what its order says, adaptive pooling, dropout."""
    layers = [_weighted(name, stage, config, dtype, seed, channels)]
    for part in stage.order:
        if part == "activation":
            layers += _activation(name, _activation_name(stage, config), dtype)
        elif part == "norm" and stage.norm != Norm.none:
            layers += _normalization(name, stage, config, dtype)
        elif part == "map_norm" and stage.map_norm:
            layers.append(_map_normalization(name, config.map_norm, dtype))
        elif part == "pool":
            layers += _pool(name, stage.pool, dtype)
    if stage.adaptive_pool:  # bins from floor(i H / out) to ceil((i + 1) H / out), as PyTorch's
        layers.append(
            keras.layers.AdaptiveAveragePooling2D(
                stage.adaptive_pool, name=f"{name}_adaptive_pool", dtype=dtype
            )
        )
    if stage.dropout:
        scaling, dropout_seed = str(config.dropout_scaling), _seed(seed, name, "dropout")
        layers.append(Dropout(stage.dropout, scaling, dropout_seed, name=f"{name}_dropout", dtype=dtype))
    return layers


def _weighted(
    name: str, stage: StageConfig, config: ModelConfig, dtype: str, seed: int, channels: int
) -> keras.layers.Layer:
    """The convolution or dense layer of a stage."""
    units = _units(stage, config)
    fan_in = channels if stage.kind == StageKind.dense else stage.kernel**2 * channels // stage.columns
    init = stage.init or config.init
    common: dict[str, Any] = {
        "kernel_initializer": _kernel_initializer(init, stage.weight_std, _seed(seed, name, "kernel")),
        "bias_initializer": _bias_initializer(config, stage.bias, fan_in, _seed(seed, name, "bias")),
        "dtype": dtype,
        "name": name,
    }
    if stage.kind == StageKind.dense:
        return keras.layers.Dense(units, **common)
    return ColumnConv2D(
        units,
        stage.kernel,
        strides=stage.stride,
        padding=_padding(stage.padding),
        rounding=str(stage.rounding),
        columns=stage.columns,
        **common,
    )


def _activation(name: str, activation: str, dtype: str) -> list[keras.layers.Layer]:
    function = ACTIVATIONS[activation]
    if function is None:
        return []
    return [keras.layers.Activation(function, name=f"{name}_{activation}", dtype=dtype)]


def _normalization(
    name: str, stage: StageConfig, config: ModelConfig, dtype: str
) -> list[keras.layers.Layer]:
    if stage.norm == Norm.batch:  # Keras's own defaults: momentum 0.99, epsilon 0.001
        return [keras.layers.BatchNormalization(name=f"{name}_norm", dtype=dtype)]
    lrn = config.lrn
    if lrn is None:
        return []
    layer = LocalResponseNormalization(
        size=lrn.size,
        k=lrn.k,
        alpha=lrn.alpha,
        beta=lrn.beta,
        convention=str(lrn.convention),
        columns=max(each.columns for each in config.stages.values()) if lrn.scope == LRNScope.column else 1,
        name=f"{name}_norm",
        dtype=dtype,
    )
    return [layer]


def _map_normalization(name: str, norm: MapNormConfig, dtype: str) -> keras.layers.Layer:
    return WithinMapNormalization(
        norm.size,
        norm.k,
        norm.alpha,
        norm.beta,
        str(norm.convention),
        name=f"{name}_map_norm",
        dtype=dtype,
    )


def _pool(name: str, pool: PoolConfig | None, dtype: str) -> list[keras.layers.Layer]:
    if pool is None or pool.kind == PoolKind.none:
        return []
    return [
        Pool2D(str(pool.kind), pool.size, pool.stride, str(pool.rounding), name=f"{name}_pool", dtype=dtype)
    ]


def _kernel_initializer(init: str, std: float, seed: int) -> keras.initializers.Initializer:
    if init == Init.normal:
        return keras.initializers.RandomNormal(stddev=std, seed=seed)
    return INITIALIZERS[init](seed=seed)


def _bias_initializer(
    config: ModelConfig, bias: float, fan_in: int, seed: int
) -> keras.initializers.Initializer:
    if config.bias_init == BiasInit.fan_in_uniform:
        bound = 1 / math.sqrt(fan_in)
        return keras.initializers.RandomUniform(-bound, bound, seed=seed)
    return keras.initializers.Constant(bias)


def _seed(seed: int, *path: str) -> int:
    """A seed of its own for each part of the network, the same in every process and unmoved by other stages."""
    return zlib.crc32("/".join([str(seed), *path]).encode())


def _padding(padding: str) -> str | int:
    return int(padding) if padding.isdigit() else padding


def _units(stage: StageConfig, config: ModelConfig) -> int:
    units = config.num_classes if stage.units is None else stage.units
    assert units is not None  # see _check
    return units


def _activation_name(stage: StageConfig, config: ModelConfig) -> str:
    return str(stage.activation or config.activation)


def _check(config: ModelConfig, dtype: str) -> None:
    """Raise a ConfigError for what does not make a network."""
    for key in ("num_classes", "input_channels"):
        if getattr(config, key) is None:
            raise ConfigError(f"model.{key}=None: expected a positive number to build {config.name} with")
    if dtype not in DTYPES:
        raise ConfigError(f"dtype={dtype}: expected one of {', '.join(DTYPES)}")
    check_model(config)
