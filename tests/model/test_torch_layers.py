"""Layers against PyTorch's: values and gradients, which `tests/training/test_torch_parity.py` does for whole nets."""

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.model import ColumnConv2D, Pool2D

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")


def both(layer, theirs, images):
    """Outputs and gradients by the images, `[N, H, W, C]`, of a layer and of a function on `[N, C, H, W]`."""
    ours = tf.constant(images)
    tensor = torch.tensor(images.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    with tf.GradientTape() as tape:
        tape.watch(ours)
        our_output = layer(ours)
    output = theirs(tensor)
    upstream = np.random.default_rng(1).normal(size=our_output.shape)
    output.backward(torch.tensor(upstream.transpose(0, 3, 1, 2).copy()))
    gradient = tape.gradient(our_output, ours, tf.constant(upstream))
    return (our_output.numpy(), gradient.numpy()), (
        output.detach().numpy().transpose(0, 2, 3, 1),
        tensor.grad.numpy().transpose(0, 2, 3, 1),
    )


def assert_equal(ours, theirs):
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("padding", "stride", "columns"), [(0, 4, 1), (2, 1, 2), (1, 2, 4)])
def test_convolution_in_groups(padding, stride, columns):
    images = np.random.default_rng(0).normal(size=(2, 11, 14, 8))
    layer = ColumnConv2D(12, 5, strides=stride, padding=padding, columns=columns, dtype="float64")
    layer(images)
    kernel = torch.from_numpy(layer.kernel.numpy().transpose(3, 2, 0, 1).copy())
    conv = torch.nn.functional.conv2d
    assert_equal(*both(layer, lambda x: conv(x, kernel, None, stride, padding, groups=columns), images))


@pytest.mark.parametrize("side", [13, 14, 55])
@pytest.mark.parametrize("rounding", ["down", "up"])
def test_max_pooling(side, rounding):
    images = (
        np.random.default_rng(0).normal(size=(2, side, side, 3)) - 5
    )  # all negative: a zero at the edge would show
    theirs = torch.nn.MaxPool2d(3, 2, ceil_mode=rounding == "up")
    assert_equal(*both(Pool2D("max", 3, 2, rounding, dtype="float64"), theirs, images))
