"""Gradients by depth and distributions over the training."""

import numpy as np
import tensorflow as tf

from alexnet_tf.config import compose_model
from alexnet_tf.model import build
from alexnet_tf.visualize.gradients import BINS, Snapshots, depth_norms, histograms, kernel_gradients
from alexnet_tf.visualize.network import weighted_layers

SMALL = {"num_classes": 3, "stages": {"fc6": {"units": 16}, "fc7": {"units": 16}}}
IMAGES = tf.constant(np.random.default_rng(0).normal(size=(6, 32, 32, 3)), tf.float32)
LABELS = tf.constant([0, 1, 2, 0, 1, 2])


def test_the_gradient_is_that_of_the_mean_loss_whatever_the_parts():
    model = build(compose_model(["model=cifar_quick"], {"num_classes": 3, "init": "he_normal"}))
    whole, parts = kernel_gradients(model, IMAGES, LABELS), kernel_gradients(model, IMAGES, LABELS, rows=4)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)
    kernel = weighted_layers(model)[-1].kernel
    step = 1e-4 * np.sign(whole[-1])

    def loss() -> float:
        rows = tf.nn.log_softmax(tf.cast(model(IMAGES), tf.float64))
        return float(-tf.reduce_mean(tf.gather(rows, LABELS, batch_dims=1)))

    middle = kernel.numpy()
    kernel.assign(middle + step)
    high = loss()
    kernel.assign(middle - step)
    np.testing.assert_allclose((high - loss()) / 2, (whole[-1] * step).sum(), rtol=1e-2)


def test_sigmoid_loses_the_gradient_with_depth():
    config = compose_model(["model=alexnet_small"], SMALL)
    names, norms = depth_norms(config, IMAGES, LABELS, seed=3)
    assert names == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    assert list(norms) == ["sigmoid", "tanh", "relu"]
    falls = {name: values[0] / values[-1] for name, values in norms.items()}
    assert falls["sigmoid"] < 1e-2 * min(falls["tanh"], falls["relu"])
    again = kernel_gradients(build(config, seed=3), IMAGES, LABELS)  # ReLU is the network's own
    np.testing.assert_allclose(norms["relu"], [np.linalg.norm(each) for each in again], rtol=1e-4)


def test_histograms_share_their_edges():
    steps = [np.array([0.0, 0, 1, -1]), np.array([2.0, -2, 1, 0])]
    found = histograms("conv1", steps, [np.array([0.0, 1e-3, -1e-1, 1e-3]), np.array([0.0, 0, 0, 0])])
    assert found.weights.shape == (2, BINS)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)
    assert found.weight_edges[0] == -found.weight_edges[-1]
    assert 1.9 < found.weight_edges[-1] <= 2
    np.testing.assert_allclose(found.zeros, [0.25, 1])
    np.testing.assert_allclose(found.gradients.sum(axis=1), [1, 0])
    assert found.gradients[0, -1] == 1 / 3  # 0.1, the largest


def test_large_layers_are_thinned_evenly():
    snapshots = Snapshots(["conv1"], most=10)
    snapshots.add(0, [np.arange(100.0)], [np.ones(100)])
    assert len(snapshots.weights[0][0]) == 10
    assert snapshots.weights[0][0][-1] == 90
