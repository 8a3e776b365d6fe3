"""The chain of operations that a config asks for, split between examples and batches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from alexnet_tf.config.checks import ConfigError, check_augment_order, view_crop
from alexnet_tf.config.schema import AugmentConfig
from alexnet_tf.data.augment import OPS, Apply
from alexnet_tf.data.geometry import crop_views

if TYPE_CHECKING:
    from alexnet_tf.data.statistics import Statistics


@dataclass(frozen=True)
class Preprocessing:
    """A chain of operations, divided where whole batches can take over.

    Attributes:
        per_example: From (image [height, width, channels], seed) to image; None if there is nothing to do.
        per_batch: From images [N, height, width, channels] to float32 of the network's size; with several views
            [N, views, ...] comes out, and in too where the crop is per example.
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
    config: AugmentConfig,
    statistics: "Statistics | None",
    *,
    training: bool,
    fixed_size: bool = False,
    views: int = 1,
) -> Preprocessing:
    """Build the chain of operations.

    The longest tail of the order that batches can take runs on batches: elementwise operations and, for images
    that all have one size from the start (`fixed_size`), whatever is not random.

    Args:
        config: The operations and their order.
        statistics: Of the training split; None if no operation needs them.
        training: Whether operations draw; otherwise each takes its value for evaluation.
        fixed_size: Whether images that enter the chain have one size.
        views: 5 or 10: the operation that `view_crop` names cuts so many views (see `crop_views`) instead of the
            centre, and what follows it treats each as an image. Only for evaluation.

    Raises:
        ConfigError: No operation crops, or images of one size have no room for several views.
        ValueError: The order or an operation's values are wrong, or statistics are missing.
    """
    active = active_ops(config)
    applies = [OPS[name].build(op, statistics, training) for name, op in active]
    if (crop := view_crop(config, views)) is not None:
        place = [name for name, _ in active].index(crop)
        applies[place] = _views(crop, active[place][1], views)
        applies[place + 1 :] = [_on_each_view(apply) for apply in applies[place + 1 :]]
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


def _views(name: str, config: Any, views: int) -> Apply:
    """The form of a cropping operation that cuts several views."""
    frame = OPS[name].frame
    assert frame is not None

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:  # noqa: ARG001
        image = frame(config, image)
        if image.shape[-3:-1] == [config.size, config.size]:
            raise ConfigError(
                f"views={views}: expected images larger than augment.{name}.size={config.size} at its place in "
                f"augment.order, received {config.size}x{config.size}: all crops would be the same. Use views=1"
            )
        return crop_views(image, config.size, views)

    return apply


def _on_each_view(apply: Apply) -> Apply:
    """Let an operation treat each view of [..., views, height, width, channels] as an image of a batch."""

    def apply_flat(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        done = apply(tf.reshape(images, [-1, *images.shape[-3:]]), seed)
        shape = tf.concat([tf.shape(images)[:-3], done.shape[-3:]], axis=0)
        return tf.ensure_shape(tf.reshape(done, shape), [*images.shape[:-3], *done.shape[-3:]])

    return apply_flat
