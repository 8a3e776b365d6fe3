"""From an original picture to its record in a shard, and back to the square that the statistics are of."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from alexnet_tf.data.geometry import crop_center, resize_shorter
from alexnet_tf.data.headers import stream_problem
from alexnet_tf.data.originals import Original
from alexnet_tf.data.statistics import Sums
from alexnet_tf.data.stores import decode, error_reason


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How pictures are stored.

    Attributes:
        size: Pixels of the shorter side; the aspect ratio stays (section 2 of the paper: 256).
        quality: Of the JPEGs, 1 to 100; None: raw pixels, as BMP.
        records_per_shard: Pictures in a file.
    """

    size: int = 256
    quality: int | None = 95
    records_per_shard: int = 2048

    def sums(self) -> Sums:
        """Sums of no picture yet."""
        return Sums((self.size, self.size, 3))


@dataclass(frozen=True)
class Converted:
    """What became of a picture: its record, or the reason why there is none."""

    name: str
    record: bytes = b""
    problem: str | None = None


def converter(recipe: Recipe, max_pixels: int) -> Callable[[list[Original]], tuple[list[Converted], Sums]]:
    """From pictures to their records, decoded and resized as `augment.resize` would, and their sums.

    Args:
        recipe: How they are stored.
        max_pixels: More pixels than these are neither decoded nor made.
    """
    quality = recipe.quality

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)], autograph=False)
    def resized(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = resize_shorter(image, recipe.size)
        image = tf.cast(tf.clip_by_value(tf.round(tf.cast(image, tf.float32)), 0, 255), tf.uint8)
        if quality is None:
            return image, crop_center(image, recipe.size)
        stored = tf.io.encode_jpeg(image, quality=quality)
        return stored, crop_center(decode(stored, 3), recipe.size)

    def convert(original: Original, sums: Sums) -> Converted:
        problem = original.problem or stream_problem(io.BytesIO(original.data), max_pixels)
        if problem is not None:
            return Converted(original.name, problem=problem)
        try:
            with tf.device("/CPU:0"):
                image = decode(tf.constant(original.data), 3)
                height, width = image.shape[:2]
                if problem := _size_problem(height, width, recipe.size, max_pixels):
                    return Converted(original.name, problem=problem)
                stored, square = resized(image)
        except tf.errors.OpError as error:
            return Converted(original.name, problem=error_reason(error))
        sums.add(square.numpy()[np.newaxis])
        data = bitmap(stored.numpy()) if quality is None else stored.numpy()
        return Converted(original.name, _record(original, data))

    def convert_all(originals: list[Original]) -> tuple[list[Converted], Sums]:
        sums = recipe.sums()
        return [convert(original, sums) for original in originals], sums

    return convert_all


def _size_problem(height: int, width: int, size: int, max_pixels: int) -> str | None:
    """Why a picture cannot be resized: a line of 1 x 60,000 pixels becomes one of 256 x 15,360,000."""
    pixels = size * round(max(height, width) * size / min(height, width))
    if pixels <= max_pixels:
        return None
    return (
        f"{width}x{height} pixels are {pixels} when the shorter side is {size}, "
        f"more than data.max_pixels={max_pixels}"
    )


def bitmap(image: np.ndarray) -> bytes:
    """Write uint8 [height, width, 3] as a BMP of 24 bits: raw pixels that every reader of pictures knows."""
    height, width, _ = image.shape
    rows = np.zeros((height, -(-3 * width // 4) * 4), np.uint8)  # a row fills whole words
    rows[:, : 3 * width] = image[::-1, :, ::-1].reshape(height, -1)  # from below, blue first
    header = np.array([54 + rows.size, 0, 54, 40, width, height], "<u4").tobytes()
    header += np.array([1, 24], "<u2").tobytes() + np.array([0, rows.size, 0, 0, 0, 0], "<u4").tobytes()
    return b"BM" + header + rows.tobytes()


# ------------------------------------------------------------------------------------------------- records


def _record(original: Original, data: bytes) -> bytes:
    """A `tf.train.Example` with the features of TFDS's imagenet2012."""

    def text(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {
        "image": text(data),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[original.label])),
        "file_name": text(original.name.encode()),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(
        deterministic=True
    )


def read_record(record: bytes) -> tuple[str, int, bytes]:
    """Return (name, label, the image's bytes)."""
    features = tf.train.Example.FromString(record).features.feature
    name = features["file_name"].bytes_list.value[0].decode()
    return name, features["label"].int64_list.value[0], features["image"].bytes_list.value[0]


def read_square(record: bytes, size: int) -> np.ndarray:
    """Return the centre of a record's picture, which its sums are of: uint8 [size, size, 3]."""
    _, _, data = read_record(record)
    with tf.device("/CPU:0"):
        return crop_center(decode(tf.constant(data), 3), size).numpy()
