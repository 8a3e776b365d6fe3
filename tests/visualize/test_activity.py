"""Peaks, silent units and flat activations of rigged layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.visualize.activity import Peaks, loudest_units, saturation


def test_peaks_and_where_they_are():
    batch = np.zeros((2, 3, 4, 2), np.float32)
    batch[0, 2, 1, 0], batch[1, 0, 3, 0], batch[1, 1, 1, 1] = 5, 7, -1
    peaks = Peaks.of([batch[:1], batch[1:]])
    assert peaks.values.tolist() == [[5, 0], [7, 0]]
    assert peaks.places[0, 0].tolist() == [2, 1]
    assert peaks.places[1, 0].tolist() == [0, 3]
    assert peaks.strongest_images(0, 5).tolist() == [1, 0]
    assert peaks.strongest_images(1, 5).tolist() == []  # it never answers
    assert peaks.strongest_units(5) == [0]


def test_peaks_of_a_layer_without_maps():
    peaks = Peaks.of([np.array([[1.0, 3], [2, 0]], np.float32)])
    assert peaks.strongest_images(1, 2).tolist() == [0]
    assert peaks.places.tolist() == [[[0, 0], [0, 0]]] * 2


def test_the_loudest_units():
    assert loudest_units(np.array([[[1.0, 5, 2]], [[1, 0, 2]]]), 2) == [1, 2]


def rigged(activation, biases):
    """Four units that are their image's only pixel plus a bias."""
    images = keras.Input((1, 1, 1))
    before = keras.layers.Conv2D(4, 1, name="conv1")
    after = keras.layers.Activation(activation, name="bent")(before(images))
    model = keras.Model(images, keras.layers.Flatten()(after))
    before.set_weights([np.ones((1, 1, 1, 4), np.float32), np.array(biases, np.float32)])
    return model


def batches(*values):
    return [tf.constant(value, tf.float32, (1, 1, 1, 1)) for value in values]


def test_dead_relus_are_counted_over_all_images():
    """Unit 1 never answers, unit 2 to one image of two, the others always: 3 of 8 activations are zero."""
    (found,) = saturation(rigged("relu", [1, -9, -1, 5]), batches(0.5, 2))
    assert (found.layer, found.function) == ("bent", "relu")
    assert found.dead == 1 / 4
    assert found.flat == 3 / 8


def test_saturation_of_tanh_and_sigmoid_is_where_their_slope_is_gone():
    """1 - tanh(x)^2 is below 0.05 from x = 2.178 on, sigmoid's slope below 0.05 / 4 from 4.357 on."""
    (found,) = saturation(rigged("tanh", [2.17, 2.19, -2.19, 0]), batches(0))
    assert (found.flat, found.dead) == (0.5, 0.5)
    (found,) = saturation(rigged("sigmoid", [4.35, 4.37, -4.37, 0]), batches(0))
    assert (found.flat, found.dead) == (0.5, 0.5)
    (found,) = saturation(rigged("tanh", [0, 0, 0, 3]), batches(0, -3))
    assert found.flat == pytest.approx(4 / 8)  # 3 + 0, and 0 - 3 three times
    assert found.dead == 0
