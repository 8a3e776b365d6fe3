"""What a network's layers are called by: a stage, or the beginning of names."""

import keras

from alexnet_tf.config import ConfigError


def is_in(layer: str, part: str) -> bool:
    """Whether a layer is the one called `part`, or its name begins with that and an underscore.

    So the part `conv1` is a stage with its activation `conv1_relu`, its `conv1_norm` and so on; in the networks of
    `keras.applications` and residual ones `block3` or `group1_block2` are parts too.
    """
    return layer == part or layer.startswith(f"{part}_")


def part_names(network: keras.Model) -> list[str]:
    """The first words of the names of layers with weights, in their order: stages, blocks, groups."""
    return list(dict.fromkeys(layer.name.partition("_")[0] for layer in network.layers if layer.weights))


def head(network: keras.Model) -> keras.layers.Layer:
    """The last layer with weights, which tells the classes apart."""
    return [layer for layer in network.layers if layer.weights][-1]


def end_of(network: keras.Model, part: str, key: str) -> int:
    """The place in `network.layers` of the last layer of a part.

    Args:
        network: Of `build`, or a run's.
        part: See `is_in`.
        key: What named it, for the error.

    Raises:
        ConfigError: If there is no such part.
    """
    places = [place for place, layer in enumerate(network.layers) if is_in(layer.name, part)]
    if not places:
        names = ", ".join(part_names(network))
        raise ConfigError(f"{key}={part}: no such layer of {network.name}. Expected one of {names}")
    return places[-1]
