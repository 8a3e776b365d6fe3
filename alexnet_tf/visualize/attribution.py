"""Which pixels and places speak for a class or a unit: Grad-CAM and the gradient."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.visualize.network import tap


def grad_cam(
    model: keras.Model, layer: keras.layers.Layer, image: np.ndarray, classes: Sequence[int]
) -> np.ndarray:
    """Gradient-weighted class activation maps (Selvaraju et al., 2016, equations 1 and 2).

        L = max(0, sum over k of a[k] A[k]),    a[k] = mean over pixels of d logit / d A[k]

    Args:
        model: Images to logits.
        layer: One with maps A.
        image: Floats `[H, W, C]`, preprocessed.
        classes: Whose logits.

    Returns:
        float64 `[classes, h, w]` in the size of the maps, not negative.
    """
    inside = tap(model, [layer.output, model.outputs[0]])
    images = tf.convert_to_tensor(image[None])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        maps, logits = inside(images)
        scores = [logits[0, index] for index in classes]
    found = []
    for score in scores:
        weights = tf.reduce_mean(tape.gradient(score, maps)[0], axis=(0, 1))
        found.append(tf.nn.relu(tf.reduce_sum(weights * maps[0], axis=-1)))
    return np.stack([each.numpy() for each in found]).astype(np.float64)


def saliency(score: Callable[[tf.Tensor], tf.Tensor], image: np.ndarray) -> np.ndarray:
    """The largest absolute gradient of a score over the channels of each pixel (Simonyan et al., 2013, section 3.1).

    Args:
        score: From images `[1, H, W, C]` to a scalar.
        image: Floats `[H, W, C]`, preprocessed.

    Returns:
        float64 `[H, W]`.
    """
    images = tf.convert_to_tensor(image[None])
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = score(images)
    return np.abs(tape.gradient(value, images)[0].numpy().astype(np.float64)).max(axis=-1)
