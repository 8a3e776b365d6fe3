"""Augmentation and preprocessing: named operations on images, in the order that the config gives.

Each operation is a two-level function. The outer takes the operation's config, the statistics of the training
split and whether this is training; it checks them. The inner takes an image [height, width, channels], uint8 or
float32 in units of 0-255, and a stateless seed (integer [2]) that is unique to the example in this epoch. What
an operation draws is a function of that seed and its name, so the operations are independent of each other.

In evaluation no operation is random, and all accept batches [N, height, width, channels] too. Crops and flips
keep uint8; the others cast to float32 where they must. Nothing clips: a subtraction may have come before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import tensorflow as tf

from alexnet_tf.config.schema import (
    BrightnessConfig,
    CropConfig,
    FactorConfig,
    FlipConfig,
    MeanKind,
    PadCropConfig,
    PCAConfig,
    PCAScale,
    PCASource,
    RandomCropConfig,
    RandomResizedCropConfig,
    ResizeConfig,
    RotateConfig,
    ScaleConfig,
    SubtractMeanConfig,
)
from alexnet_tf.data.geometry import (
    Size,
    centre,
    crop_at,
    crop_center,
    height_width,
    require_fit,
    resize_shorter,
    resize_to,
)

if TYPE_CHECKING:
    from alexnet_tf.data.statistics import Statistics

Apply = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""From (image, seed) to image."""
Place = Callable[[Size, Size, tf.Tensor], tuple[Size, Size]]
"""From (height, width, seed) to (top, left) of a crop."""
CROP_TRIES = 10
PUBLISHED_EIGENVALUES = 255**2 * np.array([0.2175, 0.0188, 0.0045])
"""Variances of ImageNet's RGB along its principal components, in (0-255)^2; fb.resnet.torch, datasets/imagenet.lua."""
PUBLISHED_EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)
"""Their directions p1, p2, p3 in the columns, R, G, B in the rows; the same source."""


@dataclass(frozen=True)
class Op:
    """A registered operation.

    Attributes:
        build: The two-level function.
        random: Whether it draws in training.
        elementwise: Whether it treats every pixel alike, whatever the image's size.
        needs_statistics: Whether it does with a given config.
        frame: For an operation that crops: from (its config, image) to the image whose centre it cuts in evaluation,
            and from which several views are cut.
        place: For an operation that does nothing but cut `config.size` pixels squared: from (its config, training) to
            where it does.
    """

    build: Callable[[Any, "Statistics | None", bool], Apply]
    random: bool
    elementwise: bool
    needs_statistics: Callable[[Any], bool]
    frame: Callable[[Any, tf.Tensor], tf.Tensor] | None
    place: Callable[[Any, bool], Place] | None


OPS: dict[str, Op] = {}
"""Every operation by the name that `augment.order` uses."""


def register(
    name: str,
    *,
    random: bool = False,
    elementwise: bool = False,
    needs_statistics: Callable[[Any], bool] = lambda config: False,  # noqa: ARG005
    frame: Callable[[Any, tf.Tensor], tf.Tensor] | None = None,
    place: Callable[[Any, bool], Place] | None = None,
) -> Callable[[Callable[..., Apply]], Callable[..., Apply]]:
    """Register a two-level function under `name`; the arguments are the fields of `Op`."""

    def add(build: Callable[..., Apply]) -> Callable[..., Apply]:
        OPS[name] = Op(build, random, elementwise, needs_statistics, frame, place)
        return build

    return add


def _seed(seed: tf.Tensor, name: str) -> tf.Tensor:
    """Derive an operation's seed from the example's."""
    seed = tf.convert_to_tensor(seed)
    return tf.bitwise.bitwise_xor(seed, tf.constant([crc32(name.encode()) & 0x7FFFFFFF, 0], seed.dtype))


def _uniform(seed: tf.Tensor, name: str, shape: list[int], low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    return tf.random.stateless_uniform(shape, _seed(seed, name), low, high)


def _anywhere(name: str, size: int, *, last_offset: bool = True) -> Place:
    """Each of 0..height - size and 0..width - size with equal probability.

    Without `last_offset` the last place of an axis is left out, unless it is the only one.
    """

    def place(height: Size, width: Size, seed: tf.Tensor) -> tuple[Size, Size]:
        count = tf.cast(tf.stack([height - size, width - size]), tf.int64)
        count = count + 1 if last_offset else tf.maximum(count, 1)
        bits = tf.random.stateless_uniform([2], _seed(seed, name), minval=None, maxval=None, dtype=tf.int64)
        top, left = tf.unstack(tf.cast(tf.math.floormod(bits, count), tf.int32))
        return top, left

    return place


def _centre_place(config: CropConfig, training: bool) -> Place:  # noqa: ARG001
    return lambda height, width, seed: centre(height, width, config.size)  # noqa: ARG005


def _random_place(config: RandomCropConfig, training: bool) -> Place:
    if not training:
        return _centre_place(config, training)
    return _anywhere("random_crop", config.size, last_offset=config.last_offset)


def _float(image: tf.Tensor) -> tf.Tensor:
    return tf.cast(image, tf.float32)


def _row(colour: Any, image: tf.Tensor) -> tf.Tensor:
    """A colour [channels] for each pixel of a row: that broadcasts in a third of the time of one colour."""
    return tf.broadcast_to(colour, [height_width(image)[1], image.shape[-1]])


def _identity(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:  # noqa: ARG001
    return image


# ------------------------------------------------------------------------------------------- size and place


@register("resize")
def resize(config: ResizeConfig, statistics: "Statistics | None", training: bool) -> Apply:  # noqa: ARG001
    """Resize the shorter side to `size` keeping the aspect ratio, or both sides; with antialiasing."""
    methods = [value for key, value in vars(tf.image.ResizeMethod).items() if key.isupper()]
    if config.method not in methods:
        raise ValueError(
            f"augment.resize.method must be one of {', '.join(sorted(methods))}. Received {config.method!r}."
        )
    size, method = config.size, config.method
    if not config.keep_aspect:
        return lambda image, seed: resize_to(image, size, size, method)  # noqa: ARG005
    return lambda image, seed: resize_shorter(image, size, method)  # noqa: ARG005


@register(
    "center_crop",
    frame=lambda config, image: require_fit("center_crop", config.size, image),
    place=_centre_place,
)
def center_crop(config: CropConfig, statistics: "Statistics | None", training: bool) -> Apply:  # noqa: ARG001
    """Cut the central square (paper, section 2)."""
    return lambda image, seed: crop_center(require_fit("center_crop", config.size, image), config.size)  # noqa: ARG005


@register(
    "random_crop",
    random=True,
    frame=lambda config, image: require_fit("random_crop", config.size, image),
    place=_random_place,
)
def random_crop(config: RandomCropConfig, statistics: "Statistics | None", training: bool) -> Apply:  # noqa: ARG001
    """Cut a square at a random place.

    224 of 256 have 33 x 33 places, all of which the authors' code takes; the paper's factor of 2048 (section 4.1)
    counts 32 x 32, which is what `last_offset: false` leaves.
    """
    size, place = config.size, _random_place(config, training)

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        image = require_fit("random_crop", size, image)
        if not training:
            return crop_center(image, size)
        return crop_at(image, *place(*height_width(image), seed), size, size)

    return apply


def _eval_resize(config: RandomResizedCropConfig) -> int:
    """Return the shorter side in evaluation, by default 8/7 of the crop (256 for 224)."""
    size = round(config.size * 8 / 7) if config.eval_resize is None else config.eval_resize
    if size < config.size:
        raise ValueError(
            f"augment.random_resized_crop.eval_resize must be at least size={config.size}. Received {size}."
        )
    return size


@register(
    "random_resized_crop",
    random=True,
    frame=lambda config, image: resize_shorter(image, _eval_resize(config)),
)
def random_resized_crop(
    config: RandomResizedCropConfig,
    statistics: "Statistics | None",  # noqa: ARG001
    training: bool,
) -> Apply:
    """Cut a random area with a random aspect ratio (log-uniform) and resize it, as torchvision does.

    The first of ten draws that fits is taken; if none does, the largest central part of an allowed ratio.
    In evaluation the shorter side becomes `eval_resize` and the centre is cut.
    """
    size, eval_resize = config.size, _eval_resize(config)

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if not training:
            return crop_center(resize_shorter(image, eval_resize), size)
        draws = _uniform(seed, "random_resized_crop", [CROP_TRIES, 4])
        return resize_to(crop_at(image, *_random_box(config, image, draws)), size, size)

    return apply


def _random_box(config: RandomResizedCropConfig, image: tf.Tensor, draws: tf.Tensor) -> list[tf.Tensor]:
    """Return [top, left, height, width] (int32) from uniform draws [tries, 4]: area, ratio, top, left."""
    full = tf.cast(tf.stack(height_width(image)), tf.float32)
    area = full[0] * full[1] * (config.min_area + draws[:, 0] * (config.max_area - config.min_area))
    low, high = log(config.min_ratio), log(config.max_ratio)
    ratio = tf.exp(low + draws[:, 1] * (high - low))
    boxes = tf.round(tf.stack([tf.sqrt(area / ratio), tf.sqrt(area * ratio)], axis=1))  # [tries, 2]
    fits = tf.reduce_all((boxes >= 1) & (boxes <= full), axis=1)
    fallback = tf.minimum(full, tf.round(tf.stack([full[1] / config.min_ratio, full[0] * config.max_ratio])))
    found, first = tf.reduce_any(fits), tf.argmax(fits)
    box = tf.where(found, boxes[first], fallback)
    corner = tf.where(found, tf.floor(draws[first, 2:] * (full - box + 1)), tf.floor((full - box) / 2))
    return tf.unstack(tf.cast(tf.concat([corner, box], axis=0), tf.int32))


def _padded(config: PadCropConfig, image: tf.Tensor) -> tf.Tensor:
    """Put `padding` rows and columns of zeros on each side."""
    image = require_fit("pad_crop", config.size, image, config.padding)
    leading = [[0, 0]] * (len(image.shape) - 3)
    return tf.pad(image, [*leading, *[[config.padding, config.padding]] * 2, [0, 0]])


@register("pad_crop", random=True, frame=_padded)
def pad_crop(config: PadCropConfig, statistics: "Statistics | None", training: bool) -> Apply:  # noqa: ARG001
    """Pad with zeros and cut a square at a random place; in evaluation, cut the centre."""
    size, place = config.size, _anywhere("pad_crop", config.size)

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if not training and image.shape[-3:-1] == [size, size]:
            return image
        image = _padded(config, image)
        if not training:
            return crop_center(image, size)
        return crop_at(image, *place(*height_width(image), seed), size, size)

    return apply


@register("flip", random=True)
def flip(config: FlipConfig, statistics: "Statistics | None", training: bool) -> Apply:  # noqa: ARG001
    """Mirror left and right with `probability`."""
    if not training:
        return _identity

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        mirrored = _uniform(seed, "flip", []) < config.probability
        return tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)

    return apply


@register("rotate", random=True)
def rotate(config: RotateConfig, statistics: "Statistics | None", training: bool) -> Apply:  # noqa: ARG001
    """Rotate about the centre by up to `degrees` either way; bilinear, zeros outside."""
    if not training:
        return _identity
    limit = config.degrees * pi / 180

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        angle = _uniform(seed, "rotate", [], -limit, limit)
        height, width = height_width(image)
        y, x = tf.cast(height - 1, tf.float32) / 2, tf.cast(width - 1, tf.float32) / 2
        cos, sin = tf.cos(angle), tf.sin(angle)
        # From output to input coordinates: columns first, as the kernel wants them.
        matrix = [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y, 0.0, 0.0]
        rotated = tf.raw_ops.ImageProjectiveTransformV3(
            images=_float(image)[tf.newaxis],
            transforms=tf.stack(matrix)[tf.newaxis],
            output_shape=tf.stack([height, width]),
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )
        return tf.ensure_shape(rotated[0], image.shape)

    return apply


# --------------------------------------------------------------------------------------------------- colour


@register("pca", random=True, needs_statistics=lambda config: config.source == PCASource.training)
def pca(config: PCAConfig, statistics: "Statistics | None", training: bool) -> Apply:
    """Add one random colour to all pixels: [p1 p2 p3] [a1 l1, a2 l2, a3 l3], a ~ N(0, std) (paper, section 4.1).

    The p and l are eigenvectors and -values of the training pixels' covariance, or the published ones. The
    paper's product has the unit of a squared intensity, so it only makes sense for the unit that it is taken in:
    `eigenvalue` takes it with intensities in [0, 1], as those who published eigenvalues do, and puts the result
    back into units of 0-255. `deviation` is the authors' code: the eigenvalues' square roots, about 122, 37 and 20.
    That code also divides the noisy image by `divisor`, 1.1; images without noise stay as they are.
    """
    if not training:
        return _identity
    if config.source == PCASource.published:
        values, vectors = PUBLISHED_EIGENVALUES, PUBLISHED_EIGENVECTORS
    else:
        known = _require("pca", statistics)
        values, vectors = known.eigenvalues, known.eigenvectors
    lengths = values / 255 if config.scale == PCAScale.eigenvalue else np.sqrt(values)
    components = (vectors * lengths * config.std).astype(np.float32)  # columns p_i l_i std
    divisor = config.divisor

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        coefficients = tf.random.stateless_normal([components.shape[1]], _seed(seed, "pca"))
        noisy = _float(image) + _row(tf.linalg.matvec(components, coefficients), image)
        return noisy if divisor == 1 else noisy / divisor

    return apply


@register("brightness", random=True)
def brightness(config: BrightnessConfig, statistics: "Statistics | None", training: bool) -> Apply:  # noqa: ARG001
    """Add one number from +-`max_delta` to all pixels and channels."""
    if not training:
        return _identity
    limit = config.max_delta
    return lambda image, seed: _float(image) + _uniform(seed, "brightness", [], -limit, limit)


@register("contrast", random=True)
def contrast(config: FactorConfig, statistics: "Statistics | None", training: bool) -> Apply:  # noqa: ARG001
    """Multiply each channel's distance from its mean over the image."""
    if not training:
        return _identity

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        image = _float(image)
        mean = tf.reduce_mean(image, axis=[0, 1], keepdims=True)
        return mean + (image - mean) * _uniform(seed, "contrast", [], config.lower, config.upper)

    return apply


@register("saturation", random=True)
def saturation(config: FactorConfig, statistics: "Statistics | None", training: bool) -> Apply:  # noqa: ARG001
    """Multiply each pixel's distance from its own grey (luminance by ITU-R BT.601)."""

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if image.shape[-1] != 3:
            raise ValueError(f"augment.saturation needs 3 colour channels. Received {image.shape[-1]}.")
        if not training:
            return image
        image = _float(image)
        grey = tf.reduce_sum(image * [0.299, 0.587, 0.114], axis=-1, keepdims=True)
        return grey + (image - grey) * _uniform(seed, "saturation", [], config.lower, config.upper)

    return apply


# -------------------------------------------------------------------------------------------- normalisation


def _require(name: str, statistics: "Statistics | None") -> "Statistics":
    if statistics is None:
        raise ValueError(f"augment.{name} needs the statistics of the training split. Received None.")
    return statistics


@register("subtract_mean", elementwise=True, needs_statistics=lambda config: config.values is None)
def subtract_mean(
    config: SubtractMeanConfig,
    statistics: "Statistics | None",
    training: bool,  # noqa: ARG001
) -> Apply:
    """Subtract `values` if given, else the training split's mean image or mean colour (units of 0-255)."""
    if config.values is not None:
        mean = np.array(config.values, np.float32)
    elif config.kind is MeanKind.channel:
        mean = _require("subtract_mean", statistics).mean_channel
    else:
        image_mean = _require("subtract_mean", statistics).mean_image
        if image_mean is None:
            raise ValueError(
                "augment.subtract_mean.kind=image needs images of one size; put a crop before it in "
                "augment.order, or set kind=channel."
            )
        mean = image_mean

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:  # noqa: ARG001
        image = _float(_require_shape("subtract_mean", image, mean))
        return image - (_row(mean, image) if mean.ndim == 1 else mean)

    return apply


@register("scale", elementwise=True)
def scale(config: ScaleConfig, statistics: "Statistics | None", training: bool) -> Apply:  # noqa: ARG001
    """Divide by `channel_divisors` if given, else by `divisor`."""
    divisor = np.array(config.channel_divisors or config.divisor, np.float32)
    if not np.all(divisor):
        raise ValueError(f"augment.scale: a divisor must not be 0. Received {divisor}.")

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:  # noqa: ARG001
        image = _float(_require_shape("scale", image, divisor))
        return image / (_row(divisor, image) if divisor.ndim == 1 else divisor)

    return apply


def _require_shape(name: str, image: tf.Tensor, constant: np.ndarray) -> tf.Tensor:
    """Return the image with the constant's dimensions asserted: what broadcasts by accident is an error."""
    rank = constant.ndim
    if rank == 0:
        return image
    if not image.shape[-rank:].is_compatible_with(constant.shape):
        raise ValueError(
            f"augment.{name} has values of shape {constant.shape}, the image at its place in augment.order "
            f"{tuple(image.shape)}. Move it where the shapes agree, or use one value per channel."
        )
    return tf.ensure_shape(image, [*image.shape[:-rank], *constant.shape])
