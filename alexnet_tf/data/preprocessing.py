"""The chain of operations that a config asks for, split between examples and batches."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from alexnet_tf.config.checks import ConfigError, check_augment_order, view_crop
from alexnet_tf.config.schema import AugmentConfig
from alexnet_tf.data.augment import OPS, Apply, Op
from alexnet_tf.data.geometry import KERNELS, crop_at, crop_views, resize_window, shorter_lengths

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
    elif not fixed_size and (fused := _fused(active, statistics, training)) is not None:
        apply, count = fused
        active, applies = active[count - 1 :], [apply, *applies[count:]]
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


def _fusible(
    active: list[tuple[str, Any]], statistics: "Statistics | None", training: bool
) -> list[tuple[Op, Any]]:
    """What follows a resize at the start up to the last crop, where nothing else stands between; else nothing."""
    methods = (*KERNELS, "area") if training else KERNELS
    if not active or active[0][0] != "resize" or active[0][1].method not in methods:
        return []
    resize = active[0][1]
    run, size = [], resize.size
    frame = None if resize.keep_aspect else (size, size)  # of all images at this place, where they have one
    mean = None if statistics is None else statistics.mean_image
    for name, config in active[1:]:
        op = OPS[name]
        if op.elementwise:
            if mean is not None and op.needs_statistics(config) and mean.shape[:2] != frame:
                break
        elif op.place is None or config.size > size:
            break
        else:
            size, frame = config.size, (config.size, config.size)
        run.append((op, config))
    while run and run[-1][0].place is None:
        run.pop()
    return run


def _fused(
    active: list[tuple[str, Any]], statistics: "Statistics | None", training: bool
) -> tuple[Apply, int] | None:
    """An operation that does what the first ones do, resizing first and cutting then, and how many they are.

    It resizes only what is cut out. What treats every pixel alike, before the last cut, comes after it then, and sees of
    the mean image what is cut out of the image. None if the first operations are others.
    """
    run = _fusible(active, statistics, training)
    if not run:
        return None
    resize, size = active[0][1], run[-1][1].size

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        lengths = shorter_lengths(image, resize.size) if resize.keep_aspect else (resize.size, resize.size)
        (height, width), top, left = lengths, 0, 0
        elementwise = []
        for op, config in run:
            if op.place is None:
                elementwise.append((op, config, top, left))
                continue
            down, right = op.place(config, training)(height, width, seed)
            top, left, height, width = top + down, left + right, config.size, config.size
        image = resize_window(image, lengths, (top, left), size, resize.method)
        for op, config, its_top, its_left in elementwise:
            window = statistics and _window(statistics, top - its_top, left - its_left, size)
            image = op.build(config, window, training)(image, seed)
        return image

    return apply, 1 + len(run)


def _window(statistics: "Statistics", top: tf.Tensor, left: tf.Tensor, size: int) -> "Statistics":
    """The statistics of what a crop leaves."""
    if statistics.mean_image is None:
        return statistics
    mean = crop_at(tf.constant(statistics.mean_image), top, left, size, size)
    return replace(statistics, mean_image=mean)


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
        leading = [-1 if length is None else length for length in images.shape[:-3]]  # a batch's at most
        return tf.reshape(
            done, [*leading, *done.shape[-3:]]
        )  # LiteRT cannot `ensure_shape` what it cannot prove

    return apply_flat
