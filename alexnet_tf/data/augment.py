"""Augmentation and preprocessing: named operations on images, in the order that the config gives.

Each operation is a function of its config, the statistics of the training split and whether this is training; it checks
them and returns a `Transform`: what is drawn for an image, and the change of the image that follows from it. The image is
[height, width, channels], uint8 or float32 in units of 0-255. What an operation draws is a function of a stateless seed
(int64 [2]), unique to the example in this epoch, and of its name, so the operations are independent of each other.

In evaluation no operation is random, and all accept batches [N, height, width, channels] too; in training those that are
`batched` do, with a seed for each image. Crops and flips keep uint8; the others cast to float32 where they must. Nothing
clips: a subtraction may have come before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi
from typing import TYPE_CHECKING, Any

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
from alexnet_tf.data.draws import Draws
from alexnet_tf.data.geometry import (
    Size,
    centre,
    crop_at,
    crop_center,
    crop_each,
    height_width,
    mirror_each,
    require_fit,
    resize_shorter,
    resize_to,
    shorter_lengths,
)

if TYPE_CHECKING:
    from alexnet_tf.data.statistics import Statistics

Draw = Callable[[Draws, Size, Size], tf.Tensor]
"""From (draws, height, width) of an image, or of the images of a batch, to what is drawn for it, or for each of them."""
Place = Callable[[Draws, Size, Size], tuple[Size, Size]]
"""From the same to (top, left) of a crop."""
CROP_TRIES = 10
PUBLISHED_EIGENVALUES = 255**2 * np.array([0.2175, 0.0188, 0.0045])
"""Variances of ImageNet's RGB along its principal components, in (0-255)^2; fb.resnet.torch, datasets/imagenet.lua."""
PUBLISHED_EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)
"""Their directions p1, p2, p3 in the columns, R, G, B in the rows; the same source."""


@dataclass(frozen=True)
class Transform:
    """An operation as a config has it.

    Attributes:
        change: From (image, what was drawn for it) to image; in a batch [N, ...] both.
        draw: What is drawn; None if nothing is, and `change` gets None.
    """

    change: Callable[[tf.Tensor, Any], tf.Tensor]
    draw: Draw | None = None

    def __call__(self, image: tf.Tensor, seed: tf.Tensor | Draws) -> tf.Tensor:
        """Draw and change: an image with its seed [2], or a batch with theirs [N, 2]."""
        if self.draw is None:
            return self.change(image, None)
        draws = seed if isinstance(seed, Draws) else Draws(seed)
        return self.change(image, self.draw(draws, *height_width(image)))


@dataclass(frozen=True)
class Op:
    """A registered operation.

    Attributes:
        build: The function of (config, statistics, training).
        random: Whether it draws in training.
        batched: Whether it takes batches in training too, and gives on any device what it gives on an image by itself.
        elementwise: Whether it treats every pixel alike, whatever the image's size.
        needs_statistics: Whether it does with a given config.
        frame: For an operation that crops: from (its config, image) to the image whose centre it cuts in evaluation,
            and from which several views are cut.
        lengths: For an operation that changes the image's: from (its config, height, width) to those of what comes out.
        place: For an operation that does nothing but cut `config.size` pixels squared: from (its config, training) to
            where it does.
    """

    build: Callable[[Any, "Statistics | None", bool], Transform]
    random: bool
    batched: bool
    elementwise: bool
    needs_statistics: Callable[[Any], bool]
    frame: Callable[[Any, tf.Tensor], tf.Tensor] | None
    lengths: Callable[[Any, Size, Size], tuple[Size, Size]] | None
    place: Callable[[Any, bool], Place] | None


NORMALISING = ("subtract_mean", "scale")
"""Operations that change what all pixels are measured by: what they make is no picture any more."""
OPS: dict[str, Op] = {}
"""Every operation by the name that `augment.order` uses."""


def register(
    name: str,
    *,
    random: bool = False,
    batched: bool = False,
    elementwise: bool = False,
    needs_statistics: Callable[[Any], bool] = lambda config: False,  # noqa: ARG005
    frame: Callable[[Any, tf.Tensor], tf.Tensor] | None = None,
    lengths: Callable[[Any, Size, Size], tuple[Size, Size]] | None = None,
    place: Callable[[Any, bool], Place] | None = None,
) -> Callable[[Callable[..., Transform]], Callable[..., Transform]]:
    """Register an operation's function under `name`.

    The arguments are the fields of `Op`. Elementwise operations are batched, and those with a frame cut squares.
    """
    if frame is not None:
        lengths = _square

    def add(build: Callable[..., Transform]) -> Callable[..., Transform]:
        OPS[name] = Op(
            build, random, batched or elementwise, elementwise, needs_statistics, frame, lengths, place
        )
        return build

    return add


def _square(config: Any, height: Size, width: Size) -> tuple[Size, Size]:  # noqa: ARG001
    return config.size, config.size


def _resized(config: ResizeConfig, height: Size, width: Size) -> tuple[Size, Size]:
    if config.keep_aspect:
        return shorter_lengths(height, width, config.size)
    return config.size, config.size


def _anywhere(name: str, size: int, *, last_offset: bool = True) -> Place:
    """Each of 0..height - size and 0..width - size with equal probability.

    Without `last_offset` the last place of an axis is left out, unless it is the only one.
    """

    def place(draws: Draws, height: Size, width: Size) -> tuple[Size, Size]:
        count = tf.cast(tf.stack([height - size, width - size]), tf.int64) + (1 if last_offset else 0)
        corner = draws.integers(name, tf.maximum(count, 1))
        return corner[..., 0], corner[..., 1]

    return place


def _centre_place(config: CropConfig, training: bool) -> Place:  # noqa: ARG001
    return lambda draws, height, width: centre(height, width, config.size)  # noqa: ARG005


def _random_place(config: RandomCropConfig, training: bool) -> Place:
    if not training:
        return _centre_place(config, training)
    return _anywhere("random_crop", config.size, last_offset=config.last_offset)


def _float(image: tf.Tensor) -> tf.Tensor:
    return tf.cast(image, tf.float32)


def _row(colour: Any, image: tf.Tensor) -> tf.Tensor:
    """A colour [channels], or one for each image [N, channels], for each pixel of a row.

    That broadcasts in a third of the time of a colour alone.
    """
    width = height_width(image)[1]
    if len(colour.shape) == 2:
        return tf.repeat(colour[:, tf.newaxis, tf.newaxis], width, axis=2)
    return tf.broadcast_to(colour, [width, image.shape[-1]])


def _for_each(numbers: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Numbers [...] for all pixels and channels of their images [..., height, width, channels]."""
    return tf.reshape(numbers, [*_leading(image), 1, 1, 1])


def _leading(image: tf.Tensor) -> list[int]:
    """What stands before height, width, channels in the shape for `tf.reshape`."""
    return [-1] if len(image.shape) == 4 else []


def _identity(image: tf.Tensor, drawn: None) -> tf.Tensor:  # noqa: ARG001
    return image


# ------------------------------------------------------------------------------------------- size and place


@register("resize", lengths=_resized)
def resize(config: ResizeConfig, statistics: "Statistics | None", training: bool) -> Transform:  # noqa: ARG001
    """Resize the shorter side to `size` keeping the aspect ratio, or both sides; with antialiasing."""
    methods = [value for key, value in vars(tf.image.ResizeMethod).items() if key.isupper()]
    if config.method not in methods:
        raise ValueError(
            f"augment.resize.method must be one of {', '.join(sorted(methods))}. Received {config.method!r}."
        )

    def change(image: tf.Tensor, drawn: None) -> tf.Tensor:  # noqa: ARG001
        return resize_to(image, *_resized(config, *height_width(image)), config.method)

    return Transform(change)


@register(
    "center_crop",
    batched=True,
    frame=lambda config, image: require_fit("center_crop", config.size, image),
    place=_centre_place,
)
def center_crop(config: CropConfig, statistics: "Statistics | None", training: bool) -> Transform:  # noqa: ARG001
    """Cut the central square (paper, section 2)."""
    size = config.size
    return Transform(lambda image, drawn: crop_center(require_fit("center_crop", size, image), size))  # noqa: ARG005


@register(
    "random_crop",
    random=True,
    batched=True,
    frame=lambda config, image: require_fit("random_crop", config.size, image),
    place=_random_place,
)
def random_crop(config: RandomCropConfig, statistics: "Statistics | None", training: bool) -> Transform:  # noqa: ARG001
    """Cut a square at a random place.

    224 of 256 have 33 x 33 places, all of which the authors' code takes; the paper's factor of 2048 (section 4.1)
    counts 32 x 32, which is what `last_offset: false` leaves.
    """
    size = config.size

    def fitting(image: tf.Tensor) -> tf.Tensor:
        return require_fit("random_crop", size, image)

    if not training:
        return Transform(lambda image, drawn: crop_center(fitting(image), size))  # noqa: ARG005
    place = _random_place(config, training)
    return Transform(
        lambda image, corner: crop_each(fitting(image), corner, size),
        lambda draws, height, width: tf.stack(place(draws, height, width), axis=-1),
    )


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
) -> Transform:
    """Cut a random area with a random aspect ratio (log-uniform) and resize it, as torchvision does.

    The first of ten draws that fits is taken; if none does, the largest central part of an allowed ratio.
    In evaluation the shorter side becomes `eval_resize` and the centre is cut.
    """
    size, eval_resize = config.size, _eval_resize(config)
    if not training:
        return Transform(lambda image, drawn: crop_center(resize_shorter(image, eval_resize), size))  # noqa: ARG005

    def draw(draws: Draws, height: Size, width: Size) -> tf.Tensor:
        numbers = draws.uniform("random_resized_crop", CROP_TRIES * 4)
        return _random_box(config, tf.stack([height, width]), tf.reshape(numbers, [CROP_TRIES, 4]))

    return Transform(lambda image, box: resize_to(crop_at(image, *tf.unstack(box)), size, size), draw)


def _random_box(config: RandomResizedCropConfig, lengths: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Return top, left, height, width (int32 [4]) from an image's (height, width) and uniform draws [tries, 4]."""
    full = tf.cast(lengths, tf.float32)
    area = full[0] * full[1] * (config.min_area + draws[:, 0] * (config.max_area - config.min_area))
    low, high = log(config.min_ratio), log(config.max_ratio)
    ratio = tf.exp(low + draws[:, 1] * (high - low))
    boxes = tf.round(tf.stack([tf.sqrt(area / ratio), tf.sqrt(area * ratio)], axis=1))  # [tries, 2]
    fits = tf.reduce_all((boxes >= 1) & (boxes <= full), axis=1)
    fallback = tf.minimum(full, tf.round(tf.stack([full[1] / config.min_ratio, full[0] * config.max_ratio])))
    found, first = tf.reduce_any(fits), tf.argmax(fits)
    box = tf.where(found, boxes[first], fallback)
    corner = tf.where(found, tf.floor(draws[first, 2:] * (full - box + 1)), tf.floor((full - box) / 2))
    return tf.cast(tf.concat([corner, box], axis=0), tf.int32)


def _padded(config: PadCropConfig, image: tf.Tensor) -> tf.Tensor:
    """Put `padding` rows and columns of zeros on each side."""
    image = require_fit("pad_crop", config.size, image, config.padding)
    (height, width), channels, padding = height_width(image), image.shape[-1], config.padding
    leading = [[0, 0]] * (len(image.shape) - 3)
    # By the row and not by the pixel, which takes half the time.
    rows = tf.reshape(image, [*_leading(image), height, width * channels])
    padded = tf.pad(rows, [*leading, [padding, padding], [padding * channels, padding * channels]])
    return tf.reshape(padded, [*_leading(image), height + 2 * padding, width + 2 * padding, channels])


@register("pad_crop", random=True, batched=True, frame=_padded)
def pad_crop(config: PadCropConfig, statistics: "Statistics | None", training: bool) -> Transform:  # noqa: ARG001
    """Pad with zeros and cut a square at a random place; in evaluation, cut the centre."""
    size, padding = config.size, config.padding

    def cut_centre(image: tf.Tensor, drawn: None) -> tf.Tensor:  # noqa: ARG001
        return image if image.shape[-3:-1] == [size, size] else crop_center(_padded(config, image), size)

    if not training:
        return Transform(cut_centre)
    place = _anywhere("pad_crop", size)
    return Transform(
        lambda image, corner: crop_each(_padded(config, image), corner, size),
        lambda draws, height, width: tf.stack(
            place(draws, height + 2 * padding, width + 2 * padding), axis=-1
        ),
    )


@register("flip", random=True, batched=True)
def flip(config: FlipConfig, statistics: "Statistics | None", training: bool) -> Transform:  # noqa: ARG001
    """Mirror left and right with `probability`."""
    if not training:
        return Transform(_identity)

    def change(image: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
        if len(image.shape) == 4:
            return mirror_each(image, mirrored)
        return tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)

    return Transform(
        change,
        lambda draws, height, width: draws.uniform("flip", 1)[..., 0] < config.probability,  # noqa: ARG005
    )


@register("rotate", random=True)
def rotate(config: RotateConfig, statistics: "Statistics | None", training: bool) -> Transform:  # noqa: ARG001
    """Rotate about the centre by up to `degrees` either way; bilinear, zeros outside."""
    if not training:
        return Transform(_identity)
    limit = config.degrees * pi / 180

    def change(image: tf.Tensor, angle: tf.Tensor) -> tf.Tensor:
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

    return Transform(change, _one("rotate", -limit, limit))


# --------------------------------------------------------------------------------------------------- colour


@register(
    "pca", random=True, batched=True, needs_statistics=lambda config: config.source == PCASource.training
)
def pca(config: PCAConfig, statistics: "Statistics | None", training: bool) -> Transform:
    """Add one random colour to all pixels: [p1 p2 p3] [a1 l1, a2 l2, a3 l3], a ~ N(0, std) (paper, section 4.1).

    The p and l are eigenvectors and -values of the training pixels' covariance, or the published ones. The
    paper's product has the unit of a squared intensity, so it only makes sense for the unit that it is taken in:
    `eigenvalue` takes it with intensities in [0, 1], as those who published eigenvalues do, and puts the result
    back into units of 0-255. `deviation` is the authors' code: the eigenvalues' square roots, about 122, 37 and 20.
    That code also divides the noisy image by `divisor`, 1.1; images without noise stay as they are.
    """
    if not training:
        return Transform(_identity)
    if config.source == PCASource.published:
        values, vectors = PUBLISHED_EIGENVALUES, PUBLISHED_EIGENVECTORS
    else:
        known = _require("pca", statistics)
        values, vectors = known.eigenvalues, known.eigenvectors
    lengths = values / 255 if config.scale == PCAScale.eigenvalue else np.sqrt(values)
    components = (vectors * lengths * config.std).astype(np.float32)  # columns p_i l_i std
    divisor = config.divisor

    def draw(draws: Draws, height: Size, width: Size) -> tf.Tensor:  # noqa: ARG001
        coefficients = draws.normal("pca", components.shape[1])
        return tf.reduce_sum(components * coefficients[..., tf.newaxis, :], axis=-1)

    def change(image: tf.Tensor, colour: tf.Tensor) -> tf.Tensor:
        noisy = _float(image) + _row(colour, image)
        return noisy if divisor == 1 else noisy / divisor

    return Transform(change, draw)


def _one(name: str, low: float, high: float) -> Draw:
    """A number from [low, high) for each image."""
    return lambda draws, height, width: draws.uniform(name, 1, low, high)[..., 0]  # noqa: ARG005


@register("brightness", random=True, batched=True)
def brightness(config: BrightnessConfig, statistics: "Statistics | None", training: bool) -> Transform:  # noqa: ARG001
    """Add one number from +-`max_delta` to all pixels and channels."""
    if not training:
        return Transform(_identity)
    limit = config.max_delta
    return Transform(
        lambda image, delta: _float(image) + _for_each(delta, image), _one("brightness", -limit, limit)
    )


@register("contrast", random=True, batched=True)
def contrast(config: FactorConfig, statistics: "Statistics | None", training: bool) -> Transform:  # noqa: ARG001
    """Multiply each channel's distance from its mean over the image."""
    if not training:
        return Transform(_identity)

    def change(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
        image = _float(image)
        mean = tf.reduce_mean(image, axis=[-3, -2], keepdims=True)
        return mean + (image - mean) * _for_each(factor, image)

    return Transform(change, _one("contrast", config.lower, config.upper))


@register("saturation", random=True, batched=True)
def saturation(config: FactorConfig, statistics: "Statistics | None", training: bool) -> Transform:  # noqa: ARG001
    """Multiply each pixel's distance from its own grey (luminance by ITU-R BT.601)."""

    def change(image: tf.Tensor, factor: tf.Tensor | None) -> tf.Tensor:
        if image.shape[-1] != 3:
            raise ValueError(f"augment.saturation needs 3 colour channels. Received {image.shape[-1]}.")
        if factor is None:
            return image
        image = _float(image)
        grey = tf.reduce_sum(image * [0.299, 0.587, 0.114], axis=-1, keepdims=True)
        return grey + (image - grey) * _for_each(factor, image)

    return Transform(change, _one("saturation", config.lower, config.upper) if training else None)


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
) -> Transform:
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

    def change(image: tf.Tensor, drawn: None) -> tf.Tensor:  # noqa: ARG001
        image = _float(_require_shape("subtract_mean", image, mean))
        return image - (_row(mean, image) if mean.ndim == 1 else mean)

    return Transform(change)


@register("scale", elementwise=True)
def scale(config: ScaleConfig, statistics: "Statistics | None", training: bool) -> Transform:  # noqa: ARG001
    """Divide by `channel_divisors` if given, else by `divisor`."""
    divisor = np.array(config.channel_divisors or config.divisor, np.float32)
    if not np.all(divisor):
        raise ValueError(f"augment.scale: a divisor must not be 0. Received {divisor}.")

    def change(image: tf.Tensor, drawn: None) -> tf.Tensor:  # noqa: ARG001
        image = _float(_require_shape("scale", image, divisor))
        return image / (_row(divisor, image) if divisor.ndim == 1 else divisor)

    return Transform(change)


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
    if image.shape[-rank:].is_fully_defined():
        # An operation all the same: across it TensorFlow does not gather the constants of neighbours, which rounds otherwise.
        return tf.ensure_shape(image, image.shape)
    shape, expected = tf.shape(image)[-rank:], "x".join(map(str, constant.shape))
    message = (
        f"augment.{name} takes images of {expected} at its place in augment.order; crop them to that first"
    )
    fits = tf.reduce_all(tf.equal(shape, constant.shape))
    with tf.control_dependencies([tf.debugging.Assert(fits, [message, "shape:", shape])]):
        checked = tf.identity(image)
    checked.set_shape([*image.shape[:-rank], *constant.shape])
    return checked
