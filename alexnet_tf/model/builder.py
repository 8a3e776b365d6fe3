"""From a network's config to a functional Keras model, whatever kind of network it is."""

from typing import Any

import keras

from alexnet_tf.config import ConfigError, compose_model
from alexnet_tf.config.checks import check_model
from alexnet_tf.config.schema import (
    ApplicationConfig,
    ClassicalConfig,
    ModelConfig,
    ResidualConfig,
    StagedModelConfig,
)
from alexnet_tf.model.alexnet import apply_stages
from alexnet_tf.model.applications import apply_application
from alexnet_tf.model.resnet import apply_residual

DTYPES = ("float32", "float64", "mixed_bfloat16", "mixed_float16")
"""Keras's dtype policies that a model can be built in."""


def build(config: ModelConfig, *, dtype: str = "float32", seed: int = 0) -> keras.Model:
    """Builds the network that `config` describes: stage by stage, of residual blocks, or as `keras.applications` has it.

    Example:
    >>> model = build(config, seed=1)
    >>> model(np.zeros((1, 224, 224, 3), "float32")).shape
    TensorShape([1, 1000])

    Args:
        config: The network; `num_classes` and `input_channels` must be set.
        dtype: The dtype policy of every layer: `float32`, `float64`, `mixed_bfloat16` or `mixed_float16`. No global
            policy is read or set. In the mixed policies the last layer computes in float32.
        seed: Seed of the initial weights, each layer's own by its name, and of dropout outside a `mask_scope`.

    Returns:
        A functional model from images `[N, input_size, input_size, input_channels]` to logits `[N, num_classes]`,
        without softmax; float64 if `dtype` is, else float32.

    Raises:
        ConfigError: A value is missing or unknown, stages do not follow on one another, or a map becomes too small.
    """
    _check(config, dtype)
    size, channels = config.input_size, config.input_channels
    outer_dtype = "float64" if dtype == "float64" else "float32"
    images = keras.Input((size, size, channels), dtype=outer_dtype, name="images")
    if isinstance(config, ApplicationConfig):
        logits = apply_application(images, config, dtype, seed)
    elif isinstance(config, ResidualConfig):
        logits = apply_residual(images, config, dtype, seed)
    else:
        assert isinstance(config, StagedModelConfig)  # see _check
        logits = apply_stages(images, config, dtype, seed)
    return keras.Model(images, logits, name=config.name)


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
        >>> import alexnet_tf as at
        >>> model = at.build_model("cifar_quick", num_classes=10, activation="tanh", stages={"conv1": {"units": 16}})
        >>> model.input_shape, model.output_shape
        ((None, 32, 32, 3), (None, 10))
        >>> tuple(model.get_layer("conv1").kernel.shape)
        (5, 5, 3, 16)

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


def _check(config: ModelConfig, dtype: str) -> None:
    """Raise a ConfigError for what does not make a network."""
    if isinstance(config, ClassicalConfig):
        raise ConfigError(f"model={config.name}: expected a network, came features with a linear SVM on them")
    for key in ("num_classes", "input_channels"):
        if getattr(config, key) is None:
            raise ConfigError(f"model.{key}=None: expected a positive number to build {config.name} with")
    if dtype not in DTYPES:
        raise ConfigError(f"dtype={dtype}: expected one of {', '.join(DTYPES)}")
    check_model(config)
