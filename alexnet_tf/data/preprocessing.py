"""The chain of operations that a config asks for, split between examples and batches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from alexnet_tf.config.checks import check_augment_order
from alexnet_tf.config.schema import AugmentConfig
from alexnet_tf.data.augment import OPS, Apply

if TYPE_CHECKING:
    from alexnet_tf.data.statistics import Statistics


@dataclass(frozen=True)
class Preprocessing:
    """A chain of operations, divided where whole batches can take over.

    Attributes:
        per_example: From (image [height, width, channels], seed) to image; None if there is nothing to do.
        per_batch: From images [N, height, width, channels] to float32 of the network's size.
    """

    per_example: Apply | None
    per_batch: Callable[[tf.Tensor], tf.Tensor]


def active_ops(config: AugmentConfig) -> list[tuple[str, Any]]:
    """Return (name, its config) of the operations that are on, in order.

    Raises:
        ConfigError: The order is wrong, see `check_augment_order`.
    """
    check_augment_order(config)
    return [(name, getattr(config, name)) for name in config.order if getattr(config, name) is not None]


def make_preprocessing(
    config: AugmentConfig, statistics: "Statistics | None", *, training: bool, fixed_size: bool = False
) -> Preprocessing:
    """Build the chain of operations.

    The longest tail of the order that batches can take runs on batches: elementwise operations and, for images
    that all have one size from the start (`fixed_size`), whatever is not random.

    Args:
        config: The operations and their order.
        statistics: Of the training split; None if no operation needs them.
        training: Whether operations draw; otherwise each takes its value for evaluation.
        fixed_size: Whether images that enter the chain have one size.

    Raises:
        ValueError: The order or an operation's values are wrong, or statistics are missing.
    """
    active = active_ops(config)
    applies = [OPS[name].build(op, statistics, training) for name, op in active]
    cut = len(active)
    while cut > 0:
        op = OPS[active[cut - 1][0]]
        if not op.elementwise and (not fixed_size or (op.random and training)):
            break
        cut -= 1
    no_seed = np.zeros(2, np.int64)  # nothing on batches draws

    def per_example(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        for apply in applies[:cut]:
            image = apply(image, seed)
        return image

    def per_batch(images: tf.Tensor) -> tf.Tensor:
        for apply in applies[cut:]:
            images = apply(images, no_seed)
        return tf.cast(images, tf.float32)

    return Preprocessing(per_example if cut else None, per_batch)
