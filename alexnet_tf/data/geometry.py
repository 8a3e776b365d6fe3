"""Sizes, crops and resizing of images [height, width, channels] and batches of them [N, height, width, channels]."""

from typing import Any

import tensorflow as tf

EXACT = ("bilinear", "bicubic", "lanczos3", "lanczos5", "area")
"""Methods of `tf.image.resize` that make floats and leave an image of the right size as it is; others smooth it."""
KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic", "lanczos3": "lanczos3"}
"""What the methods that `resize_window` knows are called in TensorFlow's operation."""
Size = Any
"""A length in pixels: an int where it is known when the graph is built, else an int32 scalar."""


def height_width(image: tf.Tensor) -> tuple[Size, Size]:
    """Return height and width, each as an int if it is static."""
    height, width = image.shape[-3:-1]
    if height is not None and width is not None:
        return height, width
    shape = tf.shape(image)
    return (shape[-3] if height is None else height), (shape[-2] if width is None else width)


def require_fit(key: str, size: int, image: tf.Tensor, padding: int = 0) -> tf.Tensor:
    """Return the image; fail if a crop of `size` does not fit into it with `padding` on each side.

    Args:
        key: The config key, for the message.
        size: Side of the crop.
        image: [..., height, width, channels].
        padding: Pixels that are added on each side before the crop.

    Raises:
        ValueError: If the shape is static; otherwise running it raises `tf.errors.InvalidArgumentError`.
    """
    height, width = height_width(image)
    message = f"augment.{key}.size={size} is larger than the image; resize it first or crop less"
    if isinstance(height, int) and isinstance(width, int):
        if min(height, width) + 2 * padding < size:
            raise ValueError(f"{message}. Received an image of {height}x{width}, padding {padding}.")
        return image
    fits = tf.minimum(height, width) + 2 * padding >= size
    with tf.control_dependencies([tf.debugging.Assert(fits, [message, "height, width:", height, width])]):
        return tf.identity(image)


def crop_at(image: tf.Tensor, top: Size, left: Size, height: Size, width: Size) -> tf.Tensor:
    """Cut out `height` x `width` pixels; int lengths become static shape."""
    cropped = image[..., top : top + height, left : left + width, :]
    static = [length if isinstance(length, int) else None for length in (height, width)]
    return tf.ensure_shape(cropped, [*image.shape[:-3], *static, image.shape[-1]])


def crop_each(images: tf.Tensor, corners: tf.Tensor, size: int) -> tf.Tensor:
    """Cut a square of `size` pixels out of an image at a (top, left), or one each out of or for the images of a batch.

    Args:
        images: [height, width, channels] or [N, height, width, channels].
        corners: int32 [2] for an image, [N, 2] for a batch or for N squares of one image.
        size: Side of the squares.

    Returns:
        [size, size, channels], or [N, size, size, channels] with `corners` of a batch.
    """
    if len(corners.shape) == 1:
        return crop_at(images, corners[0], corners[1], size, size)
    return _squares(images, corners, size)


@tf.function(autograph=False, jit_compile=True)
def _squares(images: tf.Tensor, corners: tf.Tensor, size: int) -> tf.Tensor:
    """`crop_each` by XLA: TensorFlow's own operation copies pixel by pixel, which takes more than ten times as long."""
    height, width = height_width(images)
    # Not `corners[:, 0, tf.newaxis]`: where functions run eagerly this is in the pipeline's own graph, and of a stack of
    # known shape TensorFlow's optimizer forgets the new axis.
    rows, columns = (
        tf.expand_dims(each, 1) + tf.range(size) for each in tf.unstack(corners, axis=1)
    )  # [N, size]
    places = rows[:, :, tf.newaxis] * width + columns[:, tf.newaxis]
    pixels = tf.reshape(images, [*([-1] if len(images.shape) == 4 else []), height * width, images.shape[-1]])
    return tf.gather(pixels, places, batch_dims=len(images.shape) - 3)


@tf.function(autograph=False, jit_compile=True)
def mirror_each(images: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
    """Mirror left and right the images [N, height, width, channels] for which `mirrored` (bool [N]) says so."""
    return tf.where(mirrored[:, tf.newaxis, tf.newaxis, tf.newaxis], tf.reverse(images, [2]), images)


def centre(height: Size, width: Size, size: int) -> tuple[Size, Size]:
    """Return (top, left) of the central square of `size` pixels; an odd pixel stays at the lower right."""
    return (height - size) // 2, (width - size) // 2


def crop_center(image: tf.Tensor, size: int) -> tf.Tensor:
    """Cut a square of `size` pixels from the `centre`."""
    if image.shape[-3:-1] == [size, size]:
        return image
    return crop_at(image, *centre(*height_width(image), size), size, size)


def crop_views(image: tf.Tensor, size: int, views: int) -> tf.Tensor:
    """Cut the views that the paper averages over (section 4.1): four corners and centre, and their mirror images.

    Args:
        image: [..., height, width, channels], not smaller than the crop.
        size: Side of the crops.
        views: 5 or 10.

    Returns:
        [..., views, size, size, channels]: top left, top right, bottom left, bottom right, centre; with 10 views then
        the five mirrored left and right, in the same order.
    """
    height, width = height_width(image)
    bottom, right = height - size, width - size
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = tf.stack([crop_at(image, top, left, size, size) for top, left in corners], axis=-4)
    return crops if views == len(corners) else tf.concat([crops, tf.reverse(crops, [-2])], axis=-4)


def resize_to(image: tf.Tensor, height: Size, width: Size, method: str = "bilinear") -> tf.Tensor:
    """Resize with antialiasing to float32; an image of that static size is returned as it is."""
    if isinstance(height, int) and isinstance(width, int) and (height, width) == tuple(image.shape[-3:-1]):
        return image
    size, present = tf.stack([height, width]), tf.stack(height_width(image))

    def resize() -> tf.Tensor:
        return tf.image.resize(image, size, method=method, antialias=True)

    if method in EXACT:  # images that `alexnet prepare` has written have their size
        resized = tf.cond(tf.reduce_all(size == present), lambda: tf.cast(image, tf.float32), resize)
    else:
        resized = resize()
    static = [length if isinstance(length, int) else None for length in (height, width)]
    return tf.ensure_shape(resized, [*image.shape[:-3], *static, image.shape[-1]])


def resize_shorter(image: tf.Tensor, size: int, method: str = "bilinear") -> tf.Tensor:
    """Resize so that the shorter side is `size` pixels; the longer one is rounded to the nearest pixel."""
    return resize_to(image, *shorter_lengths(*height_width(image), size), method)


def shorter_lengths(height: Size, width: Size, size: int) -> tuple[Size, Size]:
    """Return height and width of an image of these after `resize_shorter`."""
    if isinstance(height, int) and isinstance(width, int):
        shorter = min(height, width)
        return round(height * size / shorter), round(width * size / shorter)
    scaled = tf.cast(tf.stack([height, width]) * size, tf.float64)  # float64 and this order, as in Python
    lengths = tf.cast(tf.round(scaled / tf.cast(tf.minimum(height, width), tf.float64)), tf.int32)
    return lengths[0], lengths[1]


def resize_window(
    image: tf.Tensor, lengths: tuple[Size, Size], corner: tf.Tensor, size: int, method: str
) -> tf.Tensor:
    """Return a square of a resized image without resizing the rest.

    Args:
        image: [height, width, channels].
        lengths: Height and width that the image is resized to.
        corner: (top, left) of the square in the resized image, int32 [2].
        size: Side of the square.
        method: One of `KERNELS`: as `resize_to` and `crop_at` would, up to rounding. `area`: the same with the square
            moved to the nearest pixels of the image, by at most half of one.

    Returns:
        float32 [size, size, channels].
    """
    present, target = tf.stack(height_width(image)), tf.stack(lengths)

    def cut() -> tf.Tensor:
        return tf.cast(crop_each(image, corner, size), tf.float32)

    def resize() -> tf.Tensor:
        scale = tf.cast(target, tf.float32) / tf.cast(present, tf.float32)
        if method != "area":
            return tf.raw_ops.ScaleAndTranslate(
                images=image[tf.newaxis],
                size=[size, size],
                scale=scale,
                translation=-tf.cast(corner, tf.float32),
                kernel_type=KERNELS[method],
                antialias=True,
            )[0]
        first = tf.round(tf.cast(corner, tf.float32) / scale)
        last = tf.maximum(tf.round(tf.cast(corner + size, tf.float32) / scale), first + 1)
        top, left, bottom, right = tf.unstack(tf.cast(tf.concat([first, last], 0), tf.int32))
        return tf.image.resize(image[top:bottom, left:right], [size, size], method="area")

    window = tf.cond(tf.reduce_all(target == present), cut, resize)
    return tf.ensure_shape(window, [size, size, image.shape[-1]])
