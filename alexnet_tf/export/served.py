"""What a SavedModel computes, as functions that plain TensorFlow runs; `alexnet predict` runs the same ones on a run."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf.data import preprocess_images
from alexnet_tf.data.headers import BGR_MASKS
from alexnet_tf.data.stores import decode
from alexnet_tf.inference import Run, class_labels, over_views

TOP = 5
"""How many of the most probable classes are named, if there are so many."""
ADOBE = b"\xff\xee\x00\x0eAdobe"
"""The JPEG segment that says that CMYK is stored inverted."""
HEAD = 34
"""Bytes from the beginning of a file in which PNG, GIF, BMP and WebP say what is needed of their size and their kind."""
BMP_HEADER = 14
"""Bytes of a BMP before the header that says its own length."""


def classify(network: keras.Model, inputs: tf.Tensor) -> tf.Tensor:
    """Class probabilities of preprocessed images, averaged over the views of each where it has several.

    Args:
        network: Float images to logits.
        inputs: `[N, S, S, C]`, or `[N, views, S, S, C]`.

    Returns:
        float32 `[N, classes]`.
    """

    def one_view(images: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(tf.cast(network(images, training=False), tf.float32))

    return over_views(one_view, inputs, partial(tf.reduce_mean, axis=1))


def feature_model(network: keras.Model) -> keras.Model:
    """The network up to what its last layer with weights takes: the features of fc7, dropout being off."""
    last = [layer for layer in network.layers if layer.weights][-1]
    return keras.Model(network.inputs, last.input)


class ServedModel(tf.Module):
    """Constants, the network's variables, and functions of raw images.

    It holds variables, not the Keras model: a saved Keras model would want its classes back.

    Args:
        run: The run.
        network: Its model.
        views: Crops of each image to average over.
        assets: Files that are to be saved with it.

    Attributes:
        functions: The functions by their names in a SavedModel. `serving_default` takes uint8 images, `serve_float`
            the same as floats, as a signature has one dtype; `serve_bytes` takes encoded images, `embed` gives features.
    """

    def __init__(self, run: Run, network: keras.Model, views: int = 1, assets: tuple[Path, ...] = ()) -> None:
        super().__init__(name="alexnet")
        self.labels = tf.constant(class_labels(run, network.output_shape[-1]))
        self.weights = [variable.value for variable in network.weights]
        self.assets = [tf.saved_model.Asset(str(path)) for path in assets]
        channels, size = network.input_shape[-1], network.input_shape[1:]
        crop = [views, *size] if views > 1 else [*size]
        preprocess = partial(preprocess_images, augment=run.config.augment, statistics=run.statistics())
        look, features = partial(classify, network), feature_model(network)

        def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
            inputs = _unless_empty(partial(preprocess, views=views), images, crop)
            return self._answer(_on_some(look, inputs))

        def serve_bytes(images: tf.Tensor) -> dict[str, tf.Tensor]:
            def load(data: tf.Tensor) -> tf.Tensor:
                with tf.control_dependencies(_encoding_checks(data, run.config.data.max_pixels)):
                    image = decode(tf.identity(data), channels)
                return preprocess(image[tf.newaxis], views=views)[0]

            inputs = tf.map_fn(load, images, fn_output_signature=tf.TensorSpec(crop, tf.float32))
            return self._answer(_on_some(look, inputs))

        def embed(images: tf.Tensor) -> dict[str, tf.Tensor]:
            rows = _on_some(partial(features, training=False), _unless_empty(preprocess, images, [*size]))
            return {"features": tf.cast(tf.reshape(rows, [-1, math.prod(rows.shape[1:])]), tf.float32)}

        raw = [None, None, None, channels]
        self.functions: dict[str, Any] = {
            "serving_default": _traced(serve, raw, tf.uint8),
            "serve_float": _traced(serve, raw, tf.float32),
            "serve_bytes": _traced(serve_bytes, [None], tf.string),
            "embed": _traced(embed, raw, tf.uint8),
        }

    def _answer(self, probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        """The outputs of a signature from probabilities `[N, classes]`."""
        top, places = tf.math.top_k(probabilities, min(TOP, len(self.labels)))
        classes = tf.argmax(probabilities, axis=-1, output_type=tf.int64)
        return {
            "probabilities": probabilities,
            "classes": classes,
            "labels": tf.gather(self.labels, classes),
            "top_probabilities": top,
            "top_classes": tf.cast(places, tf.int64),
            "top_labels": tf.gather(self.labels, places),
        }


def _traced(
    function: Callable[[tf.Tensor], dict[str, tf.Tensor]], shape: list[int | None], dtype: tf.DType
) -> Any:
    specification = tf.TensorSpec(shape, dtype, name="images")
    return tf.function(function, input_signature=[specification], autograph=False)


def _unless_empty(
    preprocess: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor, crop: list[int]
) -> tf.Tensor:
    """Preprocessed images; none of none, however small these are said to be."""
    none = tf.zeros([0, *crop])
    return tf.ensure_shape(
        tf.cond(tf.shape(images)[0] == 0, lambda: none, lambda: preprocess(images)), [None, *crop]
    )


def _on_some(function: Callable[[tf.Tensor], tf.Tensor], inputs: tf.Tensor) -> tf.Tensor:
    """Apply a function to a batch that may be empty: oneDNN's convolutions fail on none, so it gets a black image."""
    count = tf.shape(inputs)[0]
    filler = tf.zeros(tf.stack([tf.cast(count == 0, tf.int32), *inputs.shape[1:]]), inputs.dtype)
    return function(tf.ensure_shape(tf.concat([inputs, filler], axis=0), inputs.shape))[:count]


def _encoding_checks(data: tf.Tensor, max_pixels: int) -> list[tf.Operation]:
    """Assertions on an encoded image, for what is too large, or would be decoded to other colours or refused obscurely."""
    padded = tf.strings.substr(tf.strings.join([data, b"\0" * HEAD]), 0, HEAD)
    head = tf.cast(tf.reshape(tf.io.decode_raw(padded, tf.uint8), [HEAD]), tf.int64)
    is_jpeg, no_shape = tf.io.is_jpeg(data), tf.zeros([3], tf.int32)
    shape = tf.cast(tf.cond(is_jpeg, lambda: tf.io.extract_jpeg_shape(data), lambda: no_shape), tf.int64)
    sides = tf.where(is_jpeg, shape[1::-1], _sides(head))
    layered = _has(head, b"WEBPVP8X", 8) & (head[20] & 0x12 != 0)
    layered |= _has(head, b"WEBPVP8L", 8) & (head[24] & 0x10 != 0)
    unmarked = tf.size(tf.strings.split(data[tf.newaxis], ADOBE).values) == 1
    said = tf.strings.reduce_join(tf.strings.as_string(sides), separator="x")
    large = tf.strings.join(["a picture of ", said, f" pixels, expected at most {max_pixels} in all"])
    return [
        tf.debugging.Assert(tf.reduce_prod(sides) <= max_pixels, [large]),
        tf.debugging.Assert(
            tf.logical_not(layered), ["a WebP with alpha or animation cannot be decoded as RGB"]
        ),
        tf.debugging.Assert(
            tf.cond(_has(head, b"BM", 0), lambda: _is_plain_bmp(data, head), lambda: True),
            ["a BMP with a palette, compressed or of OS/2 cannot be decoded to its colours"],
        ),
        tf.debugging.Assert(
            tf.logical_not((shape[2] == 4) & unmarked),
            ["a CMYK JPEG without the marker of Adobe does not say if its colours are inverted"],
        ),
    ]


def _is_plain_bmp(data: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    """Whether a BMP is what TensorFlow takes every BMP for: pixels as they are, those of a byte being greys.

    The same as `data.headers` finds; of other files it says nothing.

    Args:
        data: The whole file.
        head: Its first bytes, int64 `[HEAD]`.
    """

    def number(at: int, count: int) -> tf.Tensor:
        return tf.reduce_sum(head[at : at + count] * [256**place for place in range(count)])

    def part(at: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        at = tf.clip_by_value(at, 0, tf.cast(tf.strings.length(data), tf.int64))
        return tf.io.decode_raw(tf.strings.substr(data, at, tf.maximum(length, 0)), tf.uint8)

    start, header, bits, compression = number(10, 4), number(14, 4), number(28, 2), number(30, 4)
    palette = part(BMP_HEADER + header, start - BMP_HEADER - header)
    colours = tf.reshape(palette[: 4 * (tf.size(palette) // 4)], [-1, 4])[:, :3]
    greys = tf.cast(tf.range(tf.shape(colours)[0])[:, tf.newaxis], tf.uint8)
    masks = tf.strings.substr(tf.strings.join([data, b"\0" * (HEAD + 32)]), 54, 12) == BGR_MASKS
    return (
        (header >= 40)
        & ((compression == 0) | ((compression == 3) & masks))
        & ((bits != 8) | tf.reduce_all(colours == greys))
    )


def _sides(head: tf.Tensor) -> tf.Tensor:
    """Width and height, int64 `[2]`, that the first bytes of a PNG, GIF, BMP or WebP say; zeros of other files.

    Of a GIF they are the screen's: unlike `data.headers`, this cannot count its frames.

    Args:
        head: The bytes, int64 `[HEAD]`.
    """

    def sides(at: int, count: int) -> tf.Tensor:  # two numbers of so many bytes each, the smallest byte first
        weights = [256**place for place in range(count)]
        return tf.reduce_sum(tf.reshape(head[at : at + 2 * count], [2, count]) * weights, axis=1)

    bits = sides(21, 2)
    lossless = tf.stack([bits[0] & 0x3FFF, bits[0] // 2**14 + 4 * bits[1] & 0x3FFF]) + 1
    bmp = sides(18, 4)
    found = {
        b"\x89PNG": tf.reduce_sum(
            tf.reshape(head[16:24], [2, 4]) * [256**place for place in (3, 2, 1, 0)], 1
        ),
        b"GIF8": sides(6, 2),
        b"BM": tf.minimum(bmp, 2**32 - bmp),  # a height below 0 counts rows from the top
    }
    webp = {b"WEBPVP8 ": sides(26, 2) & 0x3FFF, b"WEBPVP8L": lossless, b"WEBPVP8X": sides(24, 3) + 1}
    nothing = tf.zeros([2], tf.int64)
    known = [tf.where(_has(head, start, 0), pair, nothing) for start, pair in found.items()]
    return tf.add_n(
        [*known, *(tf.where(_has(head, start, 8), pair, nothing) for start, pair in webp.items())]
    )


def _has(head: tf.Tensor, text: bytes, at: int) -> tf.Tensor:
    """Whether bytes have a text at a place."""
    return tf.reduce_all(head[at : at + len(text)] == list(text))
