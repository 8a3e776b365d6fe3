"""What a SavedModel computes, as functions that plain TensorFlow runs; `alexnet predict` runs the same ones on a run."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf.data import preprocess_images
from alexnet_tf.data.stores import decode
from alexnet_tf.inference import Run, class_labels, over_views

TOP = 5
"""How many of the most probable classes are named, if there are so many."""
ADOBE = b"\xff\xee\x00\x0eAdobe"
"""The JPEG segment that says that CMYK is stored inverted."""


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
                with tf.control_dependencies(_encoding_checks(data)):
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


def _encoding_checks(data: tf.Tensor) -> list[tf.Operation]:
    """Assertions on an encoded image, for what TensorFlow would decode to other colours or refuse obscurely."""
    head = tf.strings.join([tf.strings.substr(data, 0, 30), b"\0" * 30])
    flags = tf.io.decode_raw(tf.strings.substr(head, 20, 1), tf.uint8)
    extended = tf.strings.substr(head, 8, 8) == b"WEBPVP8X"
    layered = extended & (tf.bitwise.bitwise_and(flags[0], 0x12) != 0)
    inverted = tf.cond(
        tf.io.is_jpeg(data),
        lambda: (
            (tf.io.extract_jpeg_shape(data)[2] == 4)
            & (tf.size(tf.strings.split(data[tf.newaxis], ADOBE).values) == 1)
        ),
        lambda: False,
    )
    return [
        tf.debugging.Assert(
            tf.logical_not(layered), ["a WebP with alpha or animation cannot be decoded as RGB"]
        ),
        tf.debugging.Assert(
            tf.logical_not(inverted),
            ["a CMYK JPEG without the marker of Adobe does not say if its colours are inverted"],
        ),
    ]
