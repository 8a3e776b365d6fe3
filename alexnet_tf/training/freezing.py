"""Layers that stand still: which they are at a step is a function of the config and the epoch."""

import keras

from alexnet_tf.config import Config, ConfigError
from alexnet_tf.model import end_of


def freeze(network: keras.Model, until: str | None) -> None:
    """Let the layers up to and including a part stand still, and release all others.

    A frozen layer computes as in inference: its weights stay, BatchNorm takes its stored statistics and leaves them
    alone, dropout drops nothing. So what is frozen is one function of the image, and the layers above learn on its
    features.

    Args:
        network: Of `model.build`; a step that was traced before must be traced anew.
        until: A part's name (see `model.is_in`); None releases everything.
    """
    end = -1 if until is None else end_of(network, until, "model.freeze_until")
    for place, layer in enumerate(network.layers):
        layer.trainable = place > end


def check_freezing(network: keras.Model, config: Config) -> None:
    """Find what is wrong with `model.freeze_until` and `schedule.unfreeze` before anything is trained.

    Raises:
        ConfigError: If a layer is not there, nothing would be left to train, or a later epoch freezes more.
    """
    if (first := config.model.freeze_until) is None:
        return
    before, place = f"model.freeze_until={first}", end_of(network, first, "model.freeze_until")
    if not any(layer.weights for layer in network.layers[place + 1 :]):
        raise ConfigError(
            f"{before}: expected a layer before the last one with weights, or nothing is trained"
        )
    for epoch, until in sorted(config.schedule.unfreeze.items()):
        key = f"schedule.unfreeze.{epoch}"
        now = -1 if until is None else end_of(network, until, key)
        if now >= place:
            raise ConfigError(f"{key}={until}: expected a layer before that of {before}, or null for none")
        before, place = f"{key}={until}", now
