"""Layers that follow on one another, columns, and receptive fields against the gradient."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config import ConfigError
from alexnet_tf.model import ColumnConv2D, LocalResponseNormalization, Pool2D, build_model
from alexnet_tf.visualize.drawing import in_lines
from alexnet_tf.visualize.network import (
    BATCH_BYTES,
    ROWS,
    Box,
    NotApplicableError,
    activated,
    batch_rows,
    chain,
    columns_of,
    find_layer,
    receptive_field,
)

SMALL = {name: {"units": 4} for name in ("fc6", "fc7")}


@pytest.fixture(scope="module")
def alexnet_model():
    return build_model("alexnet", 3, stages=SMALL)


@pytest.fixture(scope="module")
def resnet():
    return build_model("resnet20", 3)


def test_the_papers_fields(alexnet_model):
    """Windows of 11/4, 3/2, 5, 3/2, 3, 3, 3, 3/2: 11, 19, 51, 67, 99, 131, 163, 195 pixels by hand."""
    for name, side in {"conv1": 11, "conv1_pool": 19, "conv2": 51, "conv3": 99, "conv5_relu": 163}.items():
        box = receptive_field(alexnet_model, alexnet_model.get_layer(name), 6, 6)
        assert (box.bottom - box.top, box.right - box.left) == (side, side)
    # conv1 and its pool have no padding, conv2 has 2: the unit (6, 6) of conv5 is centred on row 16 * 6 + 17 + ...
    assert receptive_field(alexnet_model, alexnet_model.get_layer("conv1"), 3, 0) == Box(12, 0, 23, 11)
    assert receptive_field(alexnet_model, alexnet_model.get_layer("fc6")) == Box(0, 0, 224, 224)


@pytest.mark.parametrize("padding", ["same", 1])
def test_a_field_is_where_the_gradient_is(padding):
    images = keras.Input((31, 31, 2))
    ones = {"kernel_initializer": "ones"}
    x = ColumnConv2D(4, 3, strides=2, padding=padding, columns=2, **ones)(images)
    x = keras.layers.Activation("relu")(x)
    x = LocalResponseNormalization(size=3)(x)
    x = Pool2D("avg", 3, 2, "up")(x)
    x = keras.layers.Conv2D(3, 3, padding="same", **ones)(x)
    model = keras.Model(images, x)
    layer = model.layers[-1]
    inputs = tf.ones((1, 31, 31, 2))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = model(inputs)[0, 4, 3, 1]
    seen = np.abs(tape.gradient(value, inputs)[0].numpy()).sum(axis=-1) > 0
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    expected = Box(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
    assert receptive_field(model, layer, 4, 3) == expected


def test_a_field_may_reach_past_the_image(alexnet_model):
    box = receptive_field(alexnet_model, alexnet_model.get_layer("conv2"), 0, 26)
    assert box.top == -16  # two zero pixels around a map whose units are 8 pixels apart
    assert box.right > 224


def test_branches_join(resnet):
    box = receptive_field(resnet, resnet.get_layer("group1_block1_relu2"), 16, 16)
    assert box == Box(13, 13, 20, 20)  # three convolutions of 3x3
    with pytest.raises(NotApplicableError, match="group1_block1_add has 2 inputs"):
        chain(resnet, resnet.get_layer("group1_block1_relu2"))
    assert activated(resnet, resnet.get_layer("conv0")).name == "relu0"
    assert activated(resnet, resnet.get_layer("group1_block1_conv2")).name == "group1_block1_relu2"


def test_what_follows_a_layer(alexnet_model):
    assert activated(alexnet_model, alexnet_model.get_layer("conv2")).name == "conv2_relu"
    assert activated(alexnet_model, alexnet_model.get_layer("fc8")).name == "fc8"
    names = [layer.name for layer in chain(alexnet_model, alexnet_model.get_layer("conv2_relu"))]
    assert names == ["conv1", "conv1_relu", "conv1_norm", "conv1_pool", "conv2", "conv2_relu"]


def test_columns_by_what_sees_a_kernel(alexnet_model):
    found = {
        name: columns_of(alexnet_model, alexnet_model.get_layer(name)) for name in ("conv1", "conv3", "conv5")
    }
    assert found == {"conv1": 2, "conv3": 2, "conv5": 2}
    merged = build_model("alexnet_merged", 3, stages=SMALL)
    assert columns_of(merged, merged.get_layer("conv1")) == 1
    assert columns_of(alexnet_model, alexnet_model.get_layer("fc6")) == 1


def test_finding_a_layer(alexnet_model):
    assert find_layer(alexnet_model, None).name == "conv5"
    with pytest.raises(ConfigError, match=r"layer=conv9: expected one of conv1, conv2, .*, fc8"):
        find_layer(alexnet_model, "conv9")


def test_large_maps_go_through_in_small_batches(alexnet_model):
    """What the outputs of its layers take: 9 MB an image of 227 pixels for AlexNet."""
    image = 4 * sum(int(np.prod(layer.output.shape[1:])) for layer in alexnet_model.layers)
    assert image > 8e6
    assert 1 < batch_rows(alexnet_model) == BATCH_BYTES // image < ROWS
    assert batch_rows(build_model("cifar_quick", 3)) == ROWS
    huge = keras.Sequential([keras.Input([3000, 3000, 3]), keras.layers.Conv2D(8, 1)])
    assert batch_rows(huge) == 1


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("conv1", ["conv1"]),
        ("group1_block1_conv1", ["group1_", "block1_conv1"]),
        ("conv1_relu_and_a_very_long_one", ["conv1_relu_", "and_a_very_", "long_one"]),
        ("namewithoutanyplace", ["namewithoutanyplace"]),
    ],
)
def test_names_at_the_side_of_rows_are_broken_where_they_can_be(name, lines):
    assert in_lines(name).split("\n") == lines
