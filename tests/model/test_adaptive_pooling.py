"""The bins of `adaptive_pool` are PyTorch's, in the layer that the builder takes for it."""

import math

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.model import build

CASES = [(side, bins) for bins in (1, 2, 5, 6) for side in range(1, 15)]


@pytest.fixture(scope="module")
def layer(tiny_config):
    """The layer for 6 x 6 bins, on its own; its class and dtype are those of a built network."""
    stage = {"conv2": {"adaptive_pool": 6}}
    built = build(tiny_config({"stages": stage}), dtype="float64").get_layer("conv2_adaptive_pool")
    assert built.output.shape == (None, 6, 6, 4)  # from 4 x 4: bins repeat
    assert built.compute_dtype == "float64"
    return lambda bins: type(built)(bins, dtype="float64")


def loops(x, bins):
    """The rule, and the gradient of sum(upstream * y) as a second loop would have it."""
    height, width = x.shape[1:3]
    y = np.empty((x.shape[0], bins, bins, x.shape[3]))
    places = {}
    for i in range(bins):
        for j in range(bins):
            rows = slice(math.floor(i * height / bins), math.ceil((i + 1) * height / bins))
            columns = slice(math.floor(j * width / bins), math.ceil((j + 1) * width / bins))
            y[:, i, j] = x[:, rows, columns].mean((1, 2))
            places[i, j] = rows, columns
    return y, places


@pytest.mark.parametrize(("side", "bins"), CASES)
def test_values_and_gradients_equal_the_rule(layer, side, bins):
    rng = np.random.default_rng(side)
    x = rng.normal(size=(2, side, side + 1, 3))
    upstream = rng.normal(size=(2, bins, bins, 3))
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = layer(bins)(inputs)
    expected, places = loops(x, bins)
    np.testing.assert_allclose(y, expected, atol=1e-14)
    gradient = np.zeros_like(x)
    for (i, j), (rows, columns) in places.items():
        share = gradient[:, rows, columns]  # a view
        share += upstream[:, i : i + 1, j : j + 1] / (share.shape[1] * share.shape[2])
    np.testing.assert_allclose(tape.gradient(y, inputs, tf.constant(upstream)), gradient, atol=1e-13)


def test_leaves_maps_of_that_size_as_they_are(layer):
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3))
    np.testing.assert_array_equal(layer(6)(x), x)


def test_equals_pytorch(layer):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for side, bins in CASES:
        x = np.random.default_rng(side).normal(size=(2, side, side, 3))
        theirs = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(x.transpose(0, 3, 1, 2)), bins)
        np.testing.assert_allclose(layer(bins)(x), theirs.numpy().transpose(0, 2, 3, 1), atol=1e-14)
