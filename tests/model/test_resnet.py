"""Residual networks for small images against the paper's arithmetic, and their shortcut against NumPy."""

import keras
import numpy as np
import pytest

from alexnet_tf.config import ConfigError, compose_model
from alexnet_tf.model import ZeroPaddedShortcut, build, build_model, layer_table, total


def weighted(blocks, filters=(16, 32, 64), classes=10):
    """He et al. (2015), section 4.2: side, maps in and out of each convolution; then the average and a dense layer."""
    layers, maps, side = [(32, 3, filters[0])], filters[0], 32
    for group, width in enumerate(filters):
        side = 32 // 2**group
        for _ in range(blocks):
            layers += [(side, maps, width), (side, width, width)]
            maps = width
    return layers, maps * classes, classes


@pytest.mark.parametrize(("blocks", "millions"), [(3, 0.27), (5, 0.46), (7, 0.66), (9, 0.85)])
def test_parameters_are_those_of_table_6(blocks, millions):
    layers, matrix, biases = weighted(blocks)
    trainable = sum(9 * maps * width + 2 * width for _, maps, width in layers) + matrix + biases
    assert round(trainable / 1e6, 2) == millions
    if blocks > 3:  # the larger ones by arithmetic alone
        return
    model = build(compose_model(["model=resnet20"], {"num_classes": 10}))
    moving = sum(2 * width for *_, width in layers)
    assert sum(np.prod(variable.shape) for variable in model.trainable_variables) == trainable == 269_722
    assert model.count_params() == trainable + moving == 271_098
    macs = sum(side * side * 9 * maps * width for side, maps, width in layers) + matrix
    assert total(layer_table(model)).macs == macs == 40_551_040
    rows = [row for row in layer_table(model) if row.kind == "Conv2D"]
    assert [row.output_shape for row in rows] == [(side, side, width) for side, _, width in layers]
    assert len(rows) + 1 == 6 * blocks + 2


def test_other_sizes():
    model = build_model("resnet20", num_classes=7, blocks=1, filters=[8, 16])
    assert model.output_shape == (None, 7)
    assert sum(row.kind == "Conv2D" for row in layer_table(model)) == 5
    assert [layer.name for layer in model.layers if "shortcut" in layer.name] == ["group2_block1_shortcut"]


def test_a_block_adds_to_its_input_what_its_convolutions_yield():
    model = build_model("resnet20", num_classes=10, blocks=1, filters=[4, 4])
    last = model.get_layer("group2_block1_norm2")
    last.gamma.assign(np.zeros(4))  # then nothing is added, and only the shortcut is left
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    parts = keras.Model(model.input, [model.get_layer(f"group{n}_block1_relu2").output for n in (1, 2)])
    before, after = (part.numpy() for part in parts(images, training=False))
    np.testing.assert_allclose(after, before[:, ::2, ::2], atol=1e-6)


def test_weights_follow_he_and_the_seed():
    first, again, other = (build_model("resnet20", num_classes=10, seed=seed) for seed in (1, 1, 2))
    kernel = "group3_block2_conv1"
    values = [model.get_layer(kernel).kernel.numpy() for model in (first, again, other)]
    np.testing.assert_array_equal(values[0], values[1])
    assert not np.array_equal(values[0], values[2])
    assert values[0].std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.03)


def test_dtypes_and_another_number_of_channels():
    model = build(
        compose_model(["model=resnet20", "model.blocks=1"], {"num_classes": 10, "input_channels": 1}),
        dtype="mixed_bfloat16",
    )
    assert {layer.compute_dtype for layer in model.layers[1:-1]} == {"bfloat16"}
    assert model(np.ones((1, 32, 32, 1), np.float32)).numpy().dtype == np.float32


def test_the_shortcut_is_the_formula_and_survives_saving(tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3))
    expected = np.zeros((2, 3, 3, 7))
    expected[..., :3] = x[:, ::2, ::2]
    layer = ZeroPaddedShortcut(7, strides=2, dtype="float64")
    np.testing.assert_array_equal(layer(x), expected)
    assert layer.compute_output_shape((None, 5, 6, 3)) == (None, 3, 3, 7)
    images = keras.Input((5, 6, 3), dtype="float64")
    keras.Model(images, layer(images)).save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(x), expected)


@pytest.mark.parametrize(
    ("arguments", "message"), [((2,), "Expected at most its filters"), ((4, 0), "Invalid strides")]
)
def test_wrong_shortcuts(arguments, message):
    with pytest.raises(ValueError, match=message):
        ZeroPaddedShortcut(*arguments)(np.zeros((1, 4, 4, 3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": 0}, r"^model\.blocks=0: expected at least 1$"),
        ({"filters": []}, r"^model\.filters=\[\]: expected positive numbers"),
        ({"filters": [32, 16]}, r"^model\.filters=\[32, 16\]: .*none below the one before$"),
    ],
)
def test_wrong_configs_of_residual_networks(changes, message):
    with pytest.raises(ConfigError, match=message):
        build_model("resnet20", num_classes=10, **changes)


@pytest.mark.parametrize("name", ["hog_svm", "sift_bow_svm"])
def test_what_is_no_network_is_not_built(name):
    with pytest.raises(ConfigError, match=f"^model={name}: expected a network"):
        build_model(name, num_classes=10)
