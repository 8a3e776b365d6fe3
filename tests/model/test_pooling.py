import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.model import Pool2D

GEOMETRIES = [
    (8, 3, 2),
    (9, 3, 2),
    (6, 3, 3),
    (7, 3, 3),
    (8, 5, 3),
    (10, 5, 4),
    (5, 2, 2),
    (4, 4, 1),
    (8, 4, 3),
]


def windows(side, size, stride, rounding):
    room = side - size
    count = 1 + (room // stride if rounding == "down" else -(-room // stride))
    return [slice(i * stride, min(i * stride + size, side)) for i in range(count)]


def loops(x, kind, size, stride, rounding):
    """Pooling from its definition: a window holds the pixels that there are."""
    rows, columns = (windows(side, size, stride, rounding) for side in x.shape[1:3])
    reduce = np.max if kind == "max" else np.mean
    return np.stack([np.stack([reduce(x[:, r, c], (1, 2)) for c in columns], 1) for r in rows], 1)


def gradient_loops(x, kind, size, stride, rounding, upstream):
    """Each window's gradient goes to its largest pixel, or in equal parts to all."""
    gradient = np.zeros_like(x)
    rows, columns = (windows(side, size, stride, rounding) for side in x.shape[1:3])
    for (i, r), (j, c) in ((a, b) for a in enumerate(rows) for b in enumerate(columns)):
        for n, channel in np.ndindex(x.shape[0], x.shape[3]):
            window, g = x[n, r, c, channel], upstream[n, i, j, channel]
            share = window == window.max() if kind == "max" else np.full_like(window, 1 / window.size)
            gradient[n, r, c, channel] += share * g
    return gradient


@pytest.mark.parametrize("rounding", ["down", "up"])
@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize(("side", "size", "stride"), GEOMETRIES)
def test_values_and_gradients_equal_the_definition(side, size, stride, kind, rounding):
    rng = np.random.default_rng(side)
    x = -1 - rng.random((2, side, side + 1, 2))  # all negative: a zero past the edge would win a maximum
    layer = Pool2D(kind, size, stride, rounding, dtype="float64")
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = layer(inputs)
    np.testing.assert_allclose(y, loops(x, kind, size, stride, rounding), rtol=1e-14)
    assert layer.compute_output_shape(x.shape) == tuple(y.shape)
    upstream = rng.random(y.shape)
    np.testing.assert_allclose(
        tape.gradient(y, inputs, tf.constant(upstream)),
        gradient_loops(x, kind, size, stride, rounding, upstream),
        atol=1e-14,
    )


@pytest.mark.parametrize(
    ("side", "rounding", "expected"),
    [
        (55, "down", 27),
        (27, "down", 13),
        (13, "down", 6),
        (110, "up", 55),
        (32, "up", 16),
        (32, "down", 15),
        (8, "up", 4),
    ],
)
def test_the_sizes_of_the_networks_in_the_literature(side, rounding, expected):
    assert Pool2D("max", 3, 2, rounding)(np.zeros((1, side, side, 1), "float32")).shape == (
        1,
        expected,
        expected,
        1,
    )


def operations(layer, side):
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec([None, side, side, 1])).graph
    return {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pads_only_where_it_must(kind):
    for side in (13, 32):
        assert not operations(Pool2D(kind, 3, 2, "up"), side) & {"Pad", "PadV2"}
    assert operations(Pool2D(kind, 3, 3, "up"), 7) & {"Pad", "PadV2"}


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_sixteen_bits(kind, dtype):
    x = -np.arange(1, 50, dtype="float32").reshape(1, 7, 7, 1)
    y = Pool2D(kind, 3, 3, "up", dtype=dtype)(x)
    assert y.dtype == dtype.removeprefix("mixed_")
    np.testing.assert_allclose(tf.cast(y, "float32"), loops(x, kind, 3, 3, "up"), rtol=0.02)


def test_config_round_trip():
    layer = Pool2D("avg", 2, 1, "up", name="pool", dtype="mixed_float16")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()
    assert (again.kind, again.size, again.stride, again.rounding) == ("avg", 2, 1, "up")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "min"}, r"Expected one of \('max', 'avg'\)\. Received: kind='min'"),
        ({"rounding": "off"}, r"Expected one of \('down', 'up'\)\. Received: rounding='off'"),
        ({"size": 0}, r"Expected at least 1\. Received: size=0"),
        ({"size": 2, "stride": 3, "rounding": "up"}, r"Expected at most size \(2\) .*\. Received: stride=3"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Pool2D(**arguments)


def test_wrong_inputs():
    with pytest.raises(ValueError, match=r"layer 'p'\. Expected at least 3 x 3 pixels .*\. Received: 2 x 2"):
        Pool2D(name="p", rounding="up")(np.zeros((1, 2, 2, 1), "float32"))
    with pytest.raises(
        ValueError, match=r"layer 'p'\. Expected a fixed size with rounding 'up'\. Received: shape"
    ):
        Pool2D(name="p", rounding="up")(keras.Input((None, 8, 1)))
