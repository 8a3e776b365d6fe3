"""AlexNet and its relatives: a config's stages, one after the other, applied to images."""

from collections.abc import Callable
from typing import Any

import keras

from alexnet_tf.config import ConfigError
from alexnet_tf.config.schema import (
    LRNScope,
    MapNormConfig,
    Norm,
    PoolConfig,
    PoolKind,
    StageConfig,
    StagedModelConfig,
    StageKind,
)
from alexnet_tf.model.convolution import ColumnConv2D
from alexnet_tf.model.dense import Dense
from alexnet_tf.model.dropout import Dropout
from alexnet_tf.model.initializers import bias_initializer, kernel_initializer, part_seed
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


def apply_stages(
    images: keras.KerasTensor, config: StagedModelConfig, dtype: str, seed: int
) -> keras.KerasTensor:
    """The logits of the network that `config` describes.

    A stage's weighted layer has the stage's name, so variables are called `conv1/kernel`; what follows it is called
    `conv1_relu` (or another activation), `conv1_norm`, `conv1_map_norm`, `conv1_pool`, `conv1_adaptive_pool`,
    `conv1_dropout`. Map sizes stand in `conf/model/`.

    Args:
        images: `[N, input_size, input_size, input_channels]`.
        config: Checked, with its number of classes.
        dtype: The policy of every layer but the last, which computes in the dtype of the images.
        seed: Seed of the initial weights and of dropout.

    Raises:
        ConfigError: Stages do not follow on one another, or a map becomes too small.
    """
    x = images
    *_, last = config.stages
    for name, stage in config.stages.items():
        stage_dtype = images.dtype if name == last else dtype
        if stage.kind == StageKind.dense and len(x.shape) == 4:
            x = keras.layers.Flatten(dtype=stage_dtype, name="flatten")(x)
        try:
            for layer in _stage_layers(name, stage, config, stage_dtype, seed, x.shape[-1]):
                x = layer(x)
        except ValueError as error:  # a value or a size that does not fit, which the layer explains
            raise ConfigError(f"model.stages.{name}: {' '.join(str(error).split())}") from error
    return x


def _stage_layers(
    name: str, stage: StageConfig, config: StagedModelConfig, dtype: str, seed: int, channels: int
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
        scaling, dropout_seed = str(config.dropout_scaling), part_seed(seed, name, "dropout")
        layers.append(Dropout(stage.dropout, scaling, dropout_seed, name=f"{name}_dropout", dtype=dtype))
    return layers


def _weighted(
    name: str, stage: StageConfig, config: StagedModelConfig, dtype: str, seed: int, channels: int
) -> keras.layers.Layer:
    """The convolution or dense layer of a stage."""
    units = _units(stage, config)
    fan_in = channels if stage.kind == StageKind.dense else stage.kernel**2 * channels // stage.columns
    init = stage.init or config.init
    common: dict[str, Any] = {
        "kernel_initializer": kernel_initializer(init, stage.weight_std, part_seed(seed, name, "kernel")),
        "bias_initializer": bias_initializer(
            config.bias_init, stage.bias, fan_in, part_seed(seed, name, "bias")
        ),
        "dtype": dtype,
        "name": name,
    }
    if stage.kind == StageKind.dense:
        return Dense(units, **common)
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
    name: str, stage: StageConfig, config: StagedModelConfig, dtype: str
) -> list[keras.layers.Layer]:
    if stage.norm == Norm.batch:  # Keras's own defaults: momentum 0.99, epsilon 0.001
        sync = config.sync_batch_norm
        return [keras.layers.BatchNormalization(name=f"{name}_norm", synchronized=sync, dtype=dtype)]
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


def _padding(padding: str) -> str | int:
    return int(padding) if padding.isdigit() else padding


def _units(stage: StageConfig, config: StagedModelConfig) -> int:
    units = config.num_classes if stage.units is None else stage.units
    assert units is not None  # see builder._check
    return units


def _activation_name(stage: StageConfig, config: StagedModelConfig) -> str:
    return str(stage.activation or config.activation)
