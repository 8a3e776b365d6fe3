"""Grad-CAM, saliency and deconvolution against closed forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.model import ColumnConv2D, LocalResponseNormalization, Pool2D
from alexnet_tf.visualize.attribution import grad_cam, saliency
from alexnet_tf.visualize.deconvolution import check_deconvolvable, project
from alexnet_tf.visualize.network import NotApplicableError, chain

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(6, 6, 2)).astype(np.float32)


def test_grad_cam_of_a_linear_head():
    """Logit = sum of W * maps: the weight of map k is the mean of W over its pixels."""
    images = keras.Input((6, 6, 2))
    convolution = ColumnConv2D(3, 3, padding="same", bias_initializer="ones")
    dense = keras.layers.Dense(4)
    model = keras.Model(images, dense(keras.layers.Flatten()(convolution(images))))
    maps = convolution(IMAGE[None])[0].numpy()
    weights = dense.kernel.numpy().reshape(6, 6, 3, 4)
    found = grad_cam(model, convolution, IMAGE, [2, 0])
    for row, index in enumerate((2, 0)):
        expected = np.maximum(0, maps @ weights[..., index].mean(axis=(0, 1)))
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-6)
    assert found.max() > 0


def test_saliency_of_a_linear_score():
    weights = RNG.normal(size=(6, 6, 2)).astype(np.float32)
    found = saliency(lambda images: tf.reduce_sum(images * weights), IMAGE)
    np.testing.assert_allclose(found, np.abs(weights).max(axis=-1), rtol=1e-6)


def layers_of(*layers):
    images = x = keras.Input((6, 6, 2))
    for layer in layers:
        x = layer(x)
    return chain(keras.Model(images, x), layers[-1])


def test_one_layer_is_a_transposed_convolution():
    """The activation times the flipped-back filter, placed where the unit looked."""
    convolution = ColumnConv2D(4, 3, strides=2, padding="valid", bias_initializer="ones")
    layers = layers_of(convolution)
    found = project(layers, IMAGE, unit=2, place=(1, 0))
    activation = convolution(IMAGE[None])[0, 1, 0, 2].numpy()
    expected = np.zeros_like(IMAGE)
    expected[2:5, 0:3] = activation * convolution.kernel.numpy()[..., 2]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_columns_lead_back_into_their_own_channels():
    layers = layers_of(ColumnConv2D(4, 3, columns=2, bias_initializer="ones"))
    found = project(layers, IMAGE, unit=3, place=(2, 2))
    assert not found[..., 0].any()
    assert found[..., 1].any()


def test_the_switches_of_max_pooling():
    layers = layers_of(Pool2D("max", 2, 2))
    found = project(layers, IMAGE, unit=1, place=(2, 1))
    window = IMAGE[4:6, 2:4, 1]
    expected = np.zeros_like(IMAGE)
    expected[4:6, 2:4, 1] = np.where(window == window.max(), window.max(), 0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_comes_down_is_rectified_and_not_gated():
    """ReLU lets the positive part of the signal through, also where the activation was zero on the way up."""
    first = keras.layers.Conv2D(2, 1, use_bias=False)
    second = keras.layers.Conv2D(1, 1, use_bias=False)
    layers = layers_of(first, keras.layers.Activation("relu"), LocalResponseNormalization(size=1), second)
    first.kernel.assign([[[[1.0, -1], [0, 0]]]])  # maps x and -x of the first channel
    second.kernel.assign([[[[2.0], [3]]]])
    image = np.zeros((6, 6, 2), np.float32)
    image[3, 4, 0] = 5
    norm = layers[2](tf.constant([5.0, 0], shape=(1, 1, 1, 2))).numpy()[0, 0, 0, 0]
    found = project(layers, image, unit=0, place=(3, 4))
    activation = 2 * norm
    expected = np.zeros_like(image)
    expected[3, 4, 0] = activation * 2 - activation * 3  # the second map was 0, and leads back all the same
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    second.kernel.assign([[[[2.0], [-3]]]])
    expected[3, 4, 0] = activation * 2  # its negative signal does not
    np.testing.assert_allclose(project(layers, image, unit=0, place=(3, 4)), expected, rtol=1e-5)


def test_a_nonlinearity_inside_a_layer_is_rectified_too():
    inside = layers_of(
        keras.layers.Conv2D(3, 3, activation="relu"), keras.layers.Conv2D(2, 3, activation="relu")
    )
    apart = layers_of(
        keras.layers.Conv2D(3, 3),
        keras.layers.Activation("relu"),
        keras.layers.Conv2D(2, 3),
        keras.layers.ReLU(),
    )
    for one, other in zip(inside, apart[::2], strict=True):
        other.set_weights(one.get_weights())
    for unit in range(2):
        np.testing.assert_allclose(
            project(inside, IMAGE, unit, (1, 1)), project(apart, IMAGE, unit, (1, 1)), rtol=1e-5, atol=1e-6
        )


def test_a_dense_unit_leads_back_through_all():
    layers = layers_of(ColumnConv2D(3, 3), keras.layers.Flatten(), keras.layers.Dense(5))
    assert project(layers, IMAGE, unit=4, place=None).shape == IMAGE.shape


def test_what_nothing_leads_back_through():
    check_deconvolvable(layers_of(ColumnConv2D(3, 3), keras.layers.Activation("relu")))
    with pytest.raises(NotApplicableError, match="it leads back through ReLU, and bent is tanh"):
        check_deconvolvable(layers_of(ColumnConv2D(3, 3), keras.layers.Activation("tanh", name="bent")))
    with pytest.raises(NotApplicableError, match="nothing leads back through up, of class UpSampling2D"):
        check_deconvolvable(layers_of(keras.layers.UpSampling2D(name="up")))
