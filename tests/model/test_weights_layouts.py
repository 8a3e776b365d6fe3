"""Axes, groups, rows and colours of others' arrays, each against a case small enough to do by hand."""

import keras
import numpy as np
import pytest

from alexnet_tf.config import ConfigError
from alexnet_tf.model import ColumnConv2D, build
from alexnet_tf.model.weights import CAFFE, CAFFE_TENSORFLOW, TORCH, Weights, WeightsError, assign, state_dict


def digits(*shape: int) -> np.ndarray:
    """Each entry is its own index, written as digits: 1203 at [1, 2, 0, 3]."""
    indices = np.indices(shape)
    return sum(index * 10 ** (len(shape) - 1 - axis) for axis, index in enumerate(indices)).astype(np.float32)


def network(*layers: keras.layers.Layer, shape: tuple[int, ...], name: str = "net") -> keras.Model:
    images = x = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(images, x, name=name)


def load(model: keras.Model, layout, **arrays: np.ndarray) -> keras.Model:
    named = {name.replace("__", "."): np.asarray(array, np.float32) for name, array in arrays.items()}
    assign(model, Weights("file", named, layout))
    return model


def test_a_convolutions_axes():
    model = network(ColumnConv2D(2, 3, name="a"), shape=(5, 5, 4))
    load(model, TORCH, a__weight=digits(2, 4, 3, 3), a__bias=[0, 0])
    kernel = model.get_layer("a").kernel.numpy()
    # [height 2, width 0, in 3, out 1] is theirs [out 1, in 3, height 2, width 0]
    assert kernel[2, 0, 3, 1] == 1320
    assert kernel[0, 1, 2, 0] == 201
    assert kernel.shape == (3, 3, 4, 2)


def test_groups_see_their_share():
    """Filters 0 and 1 are the first group, which sees channels 0 and 1; by Caffe's and PyTorch's definition."""
    model = network(ColumnConv2D(4, 1, columns=2, name="a"), shape=(1, 1, 4))
    kernel = [[1, 10], [2, 20], [3, 30], [4, 40]]  # of each filter, over the two channels of its group
    load(model, TORCH, a__weight=np.reshape(kernel, [4, 2, 1, 1]), a__bias=[0, 0, 0, 0.5])
    result = model(np.reshape([1, 2, 3, 4], [1, 1, 1, 4]).astype(np.float32)).numpy().ravel()
    assert result.tolist() == [1 + 20, 2 + 40, 9 + 120, 12 + 160 + 0.5]


def test_a_dense_layers_axes():
    model = network(keras.layers.Dense(2, name="a"), shape=(3,))
    load(model, TORCH, a__weight=[[1, 2, 3], [4, 5, 6]], a__bias=[10, 20])
    assert model(np.array([[1.0, 1, 2]], np.float32)).numpy().tolist() == [[19, 41]]


@pytest.mark.parametrize(
    ("layout", "rows"),
    [
        (TORCH, [["r0", "r1", "g0", "g1"]]),  # channel by channel
        (CAFFE_TENSORFLOW, [["r0"], ["g0"], ["r1"], ["g1"]]),  # pixel by pixel
    ],
)
def test_the_order_of_flattened_maps(layout, rows):
    values = {"r0": 1, "g0": 10, "r1": 100, "g1": 1000}
    model = network(keras.layers.Flatten(), keras.layers.Dense(1, name="a"), shape=(1, 2, 2))
    load(model, layout, a__weight=np.vectorize(values.get)(rows), a__bias=[0])
    maps = np.reshape([1, 2, 3, 4], [1, 1, 2, 2]).astype(np.float32)  # r0, g0, r1, g1
    assert model(maps).numpy().item() == 1 + 20 + 300 + 4000


def test_only_the_first_dense_layer_sees_maps():
    layers = [keras.layers.Flatten(), keras.layers.Dense(4, name="a"), keras.layers.Dense(1, name="b")]
    model = network(*layers, shape=(1, 2, 2))
    load(model, TORCH, a__weight=np.eye(4), a__bias=np.zeros(4), b__weight=[[1, 2, 3, 4]], b__bias=[0])
    assert model.get_layer("b").kernel.numpy().ravel().tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("layout", [CAFFE, CAFFE_TENSORFLOW])
def test_blue_comes_first_in_caffe(layout):
    model = network(ColumnConv2D(1, 1, name="a"), ColumnConv2D(3, 1, name="b"), shape=(1, 1, 3))
    shape = [1, 3, 1, 1] if layout is CAFFE else [1, 1, 3, 1]
    second = [3, 1, 1, 1] if layout is CAFFE else [1, 1, 1, 3]
    first = np.reshape([1, 10, 100], shape)  # of blue, green, red
    later = np.reshape([1, 2, 3], second)
    load(model, layout, a__weight=first, a__bias=[0], b__weight=later, b__bias=[0, 0, 0])
    rgb = np.reshape([1, 2, 3], [1, 1, 1, 3]).astype(np.float32)
    assert model(rgb).numpy().ravel().tolist() == [
        123,
        246,
        369,
    ]  # 3 + 20 + 100; only the first layer is turned


def test_batch_normalisation_has_pytorchs_names():
    model = network(keras.layers.BatchNormalization(epsilon=0.0, name="n"), shape=(1, 1, 2))
    load(model, TORCH, n__weight=[2, 3], n__bias=[1, 1], n__running_mean=[1, 2], n__running_var=[4, 9])
    values = np.reshape([5, 5], [1, 1, 1, 2]).astype(np.float32)
    np.testing.assert_allclose(model(values).numpy().ravel(), [2 * 4 / 2 + 1, 3 * 3 / 3 + 1])
    assert {name: array.tolist() for name, array in state_dict(model).items()} == {
        "n.weight": [2, 3],
        "n.bias": [1, 1],
        "n.running_mean": [1, 2],
        "n.running_var": [4, 9],
    }


def test_a_state_dict_has_pytorchs_axes():
    layers = [
        ColumnConv2D(2, 1, columns=2, name="a"),
        keras.layers.Flatten(),
        keras.layers.Dense(3, name="b"),
    ]
    model = network(*layers, shape=(2, 2, 4))
    theirs = {
        "a.weight": digits(2, 2, 1, 1),
        "a.bias": digits(2),
        "b.weight": digits(3, 8),
        "b.bias": digits(3),
    }
    load(model, TORCH, **{name.replace(".", "__"): array for name, array in theirs.items()})
    written = state_dict(model)
    assert list(written) == list(theirs)
    for name, array in theirs.items():
        assert written[name].flags["C_CONTIGUOUS"]
        np.testing.assert_array_equal(written[name], array)


def test_names_of_torchvision_are_for_its_network_alone(tiny_config):
    config = tiny_config()
    assert list(state_dict(build(config)))[:3] == ["conv1.weight", "conv1.bias", "conv2.weight"]


TINY = {"conv1.weight": (4, 2, 3, 3), "conv1.bias": (4,), "conv2.weight": (4, 2, 3, 3), "conv2.bias": (4,)}
TINY |= {"fc3.weight": (8, 64), "fc3.bias": (8,), "fc4.weight": (3, 8), "fc4.bias": (3,)}
WRONG = [
    ({"fc4.bias": None}, "missing fc4.bias; unexpected nothing"),
    ({"fc9.bias": (3,)}, "missing nothing; unexpected fc9.bias"),
    ({"fc3.weight": (8, 99)}, r"fc3.weight: expected the shape \[8, 64\], found \[8, 99\]"),
    (
        {"conv2.weight": (4, 4, 3, 3)},
        r"conv2.weight: expected the shape \[4, 2, 3, 3\], found \[4, 4, 3, 3\]",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[case[1][:30] for case in WRONG])
def test_what_does_not_fit_leaves_the_network_alone(tiny_config, change, message):
    model = build(tiny_config())
    before = [variable.numpy() for variable in model.weights]
    shapes = {name: shape for name, shape in {**TINY, **change}.items() if shape}
    arrays = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    with pytest.raises(ConfigError, match=f"^file: does not fit model=tiny: {message}$"):
        assign(model, Weights("file", arrays, TORCH))
    assert all((variable.numpy() == old).all() for variable, old in zip(model.weights, before, strict=True))


def test_a_layer_without_a_counterpart():
    model = network(keras.layers.PReLU(name="odd"), shape=(3,))
    with pytest.raises(WeightsError, match=r"the layer odd \(PReLU\) has weights that no known format has"):
        state_dict(model)
