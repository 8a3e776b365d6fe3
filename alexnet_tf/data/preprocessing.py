"""The chain of operations that a config asks for, split between examples and batches."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from alexnet_tf.config.checks import ConfigError, check_augment_order, view_crop
from alexnet_tf.config.schema import AugmentConfig
from alexnet_tf.data.augment import OPS, Op, Transform
from alexnet_tf.data.draws import Draws
from alexnet_tf.data.geometry import (
    KERNELS,
    Size,
    crop_each,
    crop_views,
    height_width,
    require_fit,
    resize_window,
)

if TYPE_CHECKING:
    from alexnet_tf.data.statistics import Statistics


@dataclass(frozen=True)
class Link:
    """An operation at its place in the chain.

    Attributes:
        transform: What it does.
        draws: The names it draws by.
        lengths: From height and width to those of what comes out, where they change.
        cuts: Whether what comes out has one size, whatever comes in.
        any_size: Whether it takes batches, whatever the images' size.
        one_size: Whether it takes batches of images of one size.
        portable: Whether it does so on any device, to the same effect.
    """

    transform: Transform
    draws: tuple[str, ...]
    lengths: Callable[[Size, Size], tuple[Size, Size]] | None
    cuts: bool
    any_size: bool
    one_size: bool
    portable: bool


@dataclass(frozen=True)
class Preprocessing:
    """A chain of operations, divided where whole batches can take over.

    Attributes:
        head: On one example after the other.
        tail: On batches.
    """

    head: tuple[Link, ...]
    tail: tuple[Link, ...]

    @property
    def per_example(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None:
        """From (image [height, width, channels], seed int64 [2]) to image; None if there is nothing to do."""
        return self._per_example if self.head else None

    def _per_example(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        draws = Draws(seed)
        for link in self.head:
            image = link.transform(image, draws)
        return image

    def draw(self, images: tf.Tensor, seeds: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """What the batch draws: for `per_batch`, from its images [N, height, width, channels] and seeds int64 [N, 2]."""
        height, width = images.shape[-3:-1]
        names = tuple(dict.fromkeys(name for link in self.tail for name in link.draws))
        draws, drawn = Draws(seeds, names), []
        for link in self.tail:
            if link.transform.draw is not None:
                drawn.append(link.transform.draw(draws, height, width))
            if link.lengths is not None:
                height, width = link.lengths(height, width)
        return tuple(drawn)

    def per_batch(self, images: tf.Tensor, drawn: tuple[tf.Tensor, ...] = ()) -> tf.Tensor:
        """From images [N, height, width, channels], and what they drew, to float32 of the network's size.

        With several views [N, views, ...] comes out, and in too where the crop is per example.
        """
        left = iter(drawn)
        for link in self.tail:
            images = link.transform.change(images, next(left) if link.transform.draw else None)
        return tf.cast(images, tf.float32)


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
    shorter_side: int | None = None,
    views: int = 1,
    portable: bool = False,
) -> Preprocessing:
    """Build the chain of operations.

    The longest tail of the order that batches can take runs on batches: elementwise operations and, for images
    that all have one size from the start (`fixed_size`), whatever takes batches. Larger images, of many sizes, fit a
    processor's cache one by one and not by the batch.

    Args:
        config: The operations and their order.
        statistics: Of the training split; None if no operation needs them.
        training: Whether operations draw; otherwise each takes its value for evaluation.
        fixed_size: Whether images that enter the chain have one size.
        shorter_side: Pixels of the shorter side of all of them, where it is known: resizing to it is left out.
        views: 5 or 10: the operation that `view_crop` names cuts so many views (see `crop_views`) instead of the
            centre, and what follows it treats each as an image. Only for evaluation.
        portable: Whether the tail has all that is to run on another device: what follows on the last crop.

    Raises:
        ConfigError: No operation crops, or images of one size have no room for several views.
        ValueError: The order or an operation's values are wrong, or statistics are missing.
    """
    active = active_ops(config)
    if active and active[0][0] == "resize" and active[0][1].keep_aspect and active[0][1].size == shorter_side:
        active = active[1:]
    if (crop := view_crop(config, views)) is not None:
        links = [_link(name, op, statistics, training) for name, op in active]
        place = [name for name, _ in active].index(crop)
        after = [replace(link, transform=_on_each_view(link.transform)) for link in links[place + 1 :]]
        cut = replace(links[place], transform=_views(crop, active[place][1], views))
        links = [*links[:place], cut, *after]
    else:
        links, rest = ([], active) if fixed_size else _fused(active, statistics, training)
        links += [_link(name, op, statistics, training) for name, op in rest]
    one_size = [fixed_size]
    for link in links:
        one_size.append(one_size[-1] or link.cuts)

    def takes_batches(link: Link, one_size: bool) -> bool:
        return one_size and link.portable if portable else link.any_size or (fixed_size and link.one_size)

    begin = len(links)
    while begin > 0 and takes_batches(links[begin - 1], one_size[begin - 1]):
        begin -= 1
    return Preprocessing(tuple(links[:begin]), tuple(links[begin:]))


def _link(name: str, config: Any, statistics: "Statistics | None", training: bool) -> Link:
    op = OPS[name]
    random = op.random and training
    return Link(
        op.build(config, statistics, training),
        (name,) if random else (),
        op.lengths and partial(op.lengths, config),
        op.frame is not None,
        op.elementwise,
        op.batched or not random,
        op.batched,
    )


def _fusible(
    active: list[tuple[str, Any]], statistics: "Statistics | None", training: bool
) -> list[tuple[str, Any]]:
    """What stands at the start up to the last crop, after a resize if there is one and with nothing else between.

    Nothing if the resize is of another kind, or no operation crops.
    """
    methods = (*KERNELS, "area") if training else KERNELS
    resize = active[0][1] if active and active[0][0] == "resize" else None
    if resize is not None and resize.method not in methods:
        return []
    run: list[tuple[str, Any]] = []
    size = None if resize is None else resize.size
    frame = (
        None if resize is None or resize.keep_aspect else (size, size)
    )  # of all images here, where they have one
    mean = None if statistics is None else statistics.mean_image
    for name, config in active[resize is not None :]:
        op = OPS[name]
        if op.elementwise:
            if mean is not None and op.needs_statistics(config) and mean.shape[:2] != frame:
                break
        elif op.place is None or (size is not None and config.size > size):
            break
        else:
            size, frame = config.size, (config.size, config.size)
        run.append((name, config))
    while run and OPS[run[-1][0]].place is None:
        run.pop()
    return run


def _fused(
    active: list[tuple[str, Any]], statistics: "Statistics | None", training: bool
) -> tuple[list[Link], list[tuple[str, Any]]]:
    """Links that do what the first operations do, cutting first, and the operations that are left.

    It resizes only what is cut out. What treats every pixel alike, before the last cut, comes after it then, and sees of
    the mean image what is cut out of the image. Without links, if the first operations are others.
    """
    run = _fusible(active, statistics, training)
    crops = [(name, config) for name, config in run if OPS[name].place is not None]
    if not crops:
        return [], active
    resize = active[0][1] if active[0][0] == "resize" else None
    size = crops[-1][1].size
    draws = tuple(name for name, _ in crops if OPS[name].random and training)
    corner = partial(_corner, crops, training)

    def lengths(height: Size, width: Size) -> tuple[Size, Size]:
        resized = OPS["resize"].lengths
        return resized(resize, height, width) if resize and resized else (height, width)

    def cut(image: tf.Tensor, corner: tf.Tensor) -> tf.Tensor:
        if resize is None:
            return crop_each(require_fit(crops[0][0], crops[0][1].size, image), corner, size)
        return resize_window(image, lengths(*height_width(image)), corner, size, resize.method)

    first = Transform(cut, lambda draws, height, width: corner(draws, *lengths(height, width)))
    links = [Link(first, draws, None, cuts=True, any_size=False, one_size=False, portable=False)]
    for place, (name, config) in enumerate(run):
        if not OPS[name].elementwise:
            continue
        link = _link(name, config, statistics, training)
        if statistics and statistics.mean_image is not None and OPS[name].needs_statistics(config):
            later = [crop for crop in run[place + 1 :] if crop in crops]
            moved = _windowed(OPS[name], config, statistics, training, later)
            link = replace(link, transform=moved, draws=draws, any_size=False)
        links.append(link)
    return links, active[len(run) + (resize is not None) :]


def _corner(
    crops: list[tuple[str, Any]], training: bool, draws: Draws, height: Size, width: Size
) -> tf.Tensor:
    """Top and left (int32 [..., 2]) of what several crops, one after the other, leave of an image."""
    top, left = 0, 0
    for name, config in crops:
        place = OPS[name].place
        assert place is not None
        down, right = place(config, training)(draws, height, width)
        top, left, height, width = top + down, left + right, config.size, config.size
    return tf.stack([top, left], axis=-1)


def _windowed(
    op: Op, config: Any, statistics: "Statistics", training: bool, crops: list[tuple[str, Any]]
) -> Transform:
    """An elementwise operation after the crops that stand after it: with what they leave of the mean image."""
    mean, size = statistics.mean_image, crops[-1][1].size
    assert mean is not None

    def change(image: tf.Tensor, corner: tf.Tensor) -> tf.Tensor:
        window = replace(statistics, mean_image=crop_each(tf.constant(mean), corner, size))
        return op.build(config, window, training).change(image, None)

    return Transform(change, lambda draws, *_: _corner(crops, training, draws, *mean.shape[:2]))


def _views(name: str, config: Any, views: int) -> Transform:
    """The form of a cropping operation that cuts several views."""
    frame = OPS[name].frame
    assert frame is not None

    def change(image: tf.Tensor, drawn: None) -> tf.Tensor:  # noqa: ARG001
        image = frame(config, image)
        if image.shape[-3:-1] == [config.size, config.size]:
            raise ConfigError(
                f"views={views}: expected images larger than augment.{name}.size={config.size} at its place in "
                f"augment.order, received {config.size}x{config.size}: all crops would be the same. Use views=1"
            )
        return crop_views(image, config.size, views)

    return Transform(change)


def _on_each_view(transform: Transform) -> Transform:
    """Let an operation treat each view of [..., views, height, width, channels] as an image of a batch."""

    def change(images: tf.Tensor, drawn: None) -> tf.Tensor:
        done = transform.change(tf.reshape(images, [-1, *images.shape[-3:]]), drawn)
        leading = [-1 if length is None else length for length in images.shape[:-3]]  # a batch's at most
        # Not `ensure_shape`, which LiteRT has not.
        return tf.reshape(done, [*leading, *done.shape[-3:]])

    return Transform(change)
