import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.model import ColumnConv2D


def loops(x, kernel, bias, stride, padding, rounding, columns):
    """cuda-convnet's convolution from its definition; what lies outside the image is zero."""
    n, side, _, channels = x.shape
    size, _, depth, filters = kernel.shape
    room = 2 * padding + side - size
    out = 1 + (room // stride if rounding == "down" else -(-room // stride))
    y = np.empty((n, out, out, filters))
    for f in range(filters):
        first = f // (filters // columns) * (channels // columns)
        for i, j in np.ndindex(out, out):
            total = bias[f]
            for u, v in np.ndindex(size, size):
                row, column = i * stride + u - padding, j * stride + v - padding
                if 0 <= row < side and 0 <= column < side:
                    total = total + x[:, row, column, first : first + depth] @ kernel[u, v, :, f]
            y[:, i, j, f] = total
    return y


@pytest.mark.parametrize("rounding", ["down", "up"])
@pytest.mark.parametrize(
    ("side", "size", "stride", "padding", "columns"),
    [(8, 3, 2, 0, 1), (9, 3, 2, 0, 2), (8, 3, 3, 1, 2), (7, 5, 4, 2, 1), (6, 3, 1, 1, 4), (8, 2, 3, 0, 1)],
)
def test_values_equal_the_definition(side, size, stride, padding, columns, rounding):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, side, side, 4))
    layer = ColumnConv2D(8, size, stride, padding, rounding, columns, dtype="float64")
    layer.build(x.shape)
    assert layer.kernel.shape == (size, size, 4 // columns, 8)
    layer.set_weights([rng.normal(size=layer.kernel.shape), rng.normal(size=8)])
    y = layer(x)
    np.testing.assert_allclose(
        y, loops(x, *layer.get_weights(), stride, padding, rounding, columns), atol=1e-12
    )
    assert layer.compute_output_shape(x.shape) == tuple(y.shape)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_columns_equal_tensorflows_grouped_convolution(columns):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 7, 7, 6)).astype("float32")
    layer = ColumnConv2D(12, 3, strides=2, padding="same", columns=columns)
    layer.build(x.shape)
    layer.bias.assign(rng.normal(size=12))
    grouped = tf.nn.conv2d(x, layer.kernel.value, 2, "SAME") + layer.bias.value
    np.testing.assert_allclose(layer(x), grouped, rtol=1e-4, atol=1e-5)
    assert layer.compute_output_shape(x.shape) == tuple(grouped.shape)


def test_a_column_does_not_see_the_others_channels():
    layer = ColumnConv2D(4, 3, padding=1, columns=2)
    x = np.random.default_rng(2).normal(size=(1, 5, 5, 6)).astype("float32")
    before = layer(x).numpy()
    x[..., 3:] += 1
    after = layer(x).numpy()
    np.testing.assert_array_equal(before[..., :2], after[..., :2])
    assert np.abs(before[..., 2:] - after[..., 2:]).min() > 0


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding", "rounding", "expected"),
    [
        (224, 11, 4, "valid", "up", 55),
        (224, 11, 4, "valid", "down", 54),
        (227, 11, 4, "valid", "down", 55),
        (227, 11, 4, "valid", "up", 55),
        (224, 11, 4, 2, "down", 55),
        (27, 5, 1, 2, "down", 27),
        (13, 3, 1, 1, "down", 13),
        (224, 11, 4, "same", "down", 56),
    ],
)
def test_the_sizes_of_the_networks_in_the_literature(side, kernel, stride, padding, rounding, expected):
    layer = ColumnConv2D(1, kernel, stride, padding, rounding)
    assert layer.compute_output_shape((None, side, side, 1)) == (None, expected, expected, 1)
    assert layer(np.zeros((1, side, side, 1), "float32")).shape == (1, expected, expected, 1)


def test_a_size_that_is_not_known_beforehand():
    layer = ColumnConv2D(2, 3, 2, "valid", "up")
    assert layer.compute_output_shape((None, None, 8, 1)) == (None, None, 4, 2)
    run = tf.function(layer, input_signature=[tf.TensorSpec([None, None, None, 1])])
    assert run(tf.zeros([1, 8, 9, 1])).shape == (1, 4, 4, 2)


@pytest.mark.parametrize("dtype", ["float64", "mixed_bfloat16", "mixed_float16"])
def test_every_dtype_has_gradients(dtype):
    layer = ColumnConv2D(4, 3, 2, 1, "up", columns=2, dtype=dtype)
    with tf.GradientTape() as tape:
        y = layer(np.ones((2, 6, 6, 2), "float32"))
    gradients = tape.gradient(y, [v.value for v in layer.trainable_variables])
    assert y.dtype == layer.compute_dtype
    assert [g.dtype for g in gradients] == [layer.variable_dtype] * 2
    assert all(np.isfinite(g).all() for g in gradients)


def test_variables_and_config_round_trip():
    layer = ColumnConv2D(4, 3, 2, 1, "up", 2, keras.initializers.HeNormal(seed=3), "ones", name="conv")
    layer(np.zeros((1, 6, 6, 2), "float32"))
    assert [v.name for v in layer.weights] == ["kernel", "bias"]
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(again.kernel, layer.kernel)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"filters": 3, "columns": 2},
            r"Expected a positive multiple of columns \(2\)\. Received: filters=3",
        ),
        ({"filters": 0}, r"Expected a positive multiple of columns \(1\)\. Received: filters=0"),
        ({"strides": 0}, r"Invalid strides\. Expected at least 1\. Received: strides=0"),
        ({"padding": "full"}, r"Expected 'same', 'valid' or a number of pixels\. Received: padding='full'"),
        ({"padding": -1}, r"Received: padding=-1"),
        ({"rounding": "off"}, r"Expected one of \('down', 'up'\)\. Received: rounding='off'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ColumnConv2D(**{"filters": 2, "kernel_size": 3, **arguments})


def test_wrong_inputs():
    with pytest.raises(
        ValueError, match=r"layer 'c'\. Expected a multiple of its columns \(2\)\. Received: 3"
    ):
        ColumnConv2D(2, 3, columns=2, name="c")(np.zeros((1, 4, 4, 3), "float32"))
    with pytest.raises(ValueError, match=r"layer 'c'\. Expected at least 3 x 3 pixels .*\. Received: 4 x 2"):
        ColumnConv2D(2, 5, padding=1, name="c")(np.zeros((1, 4, 2, 3), "float32"))
    with pytest.raises(ValueError, match=r"layer 'c'\. Expected \[N, H, W, C\]\. Received: shape \(1, 8\)"):
        ColumnConv2D(2, 5, name="c")(np.zeros((1, 8), "float32"))


WITHOUT_ONEDNN = """
import sys
import numpy as np, tensorflow as tf
from alexnet_tf.model import ColumnConv2D

served, x = tf.saved_model.load(sys.argv[1]), tf.random.stateless_normal([2, 9, 9, 4], [0, 1])
answer = served.f(x).numpy()
for dtype in ("float32", "float64", "mixed_bfloat16"):
    layer = ColumnConv2D(8, 3, columns=2, dtype=dtype)
    layer.build(x.shape)
    layer.set_weights([value.numpy() for value in served.weights])

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            y = tf.nn.relu(layer(x))
        return y, tape.gradient(y, layer.trainable_variables)

    y, gradients = gradient(tf.cast(x, layer.compute_dtype))
    close = np.abs(tf.cast(y, "float64") - answer).max() < (0.1 if "16" in dtype else 1e-5)
    print(dtype, close, [value.shape.rank for value in gradients])
"""


@pytest.mark.slow
def test_columns_compute_where_tensorflow_has_no_onednn(tmp_path):
    """There a grouped convolution fused with its bias has no kernel; what is saved here must be served there."""
    module, layer = tf.Module(), ColumnConv2D(8, 3, columns=2)
    module.f = tf.function(
        lambda x: tf.nn.relu(layer(x)), input_signature=[tf.TensorSpec([None, None, None, 4])]
    )
    layer.build((2, 9, 9, 4))
    module.weights = [weight.value for weight in layer.weights]
    tf.saved_model.save(module, str(tmp_path / "saved"))
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ONEDNN, str(tmp_path / "saved")],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    expected = [f"{dtype} True [4, 1]" for dtype in ("float32", "float64", "mixed_bfloat16")]
    assert done.stdout.splitlines() == expected, done.stderr[-2000:]


@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
@pytest.mark.parametrize("layer", [(1, "same", "down"), (2, "valid", "down"), (4, 1, "up")])
def test_the_gradient_by_column_is_that_of_columns_cut_apart(how, layer):
    strides, padding, rounding = layer
    whole = ColumnConv2D(6, 3, strides, padding, rounding, columns=2, dtype="float64")
    alone = [ColumnConv2D(3, 3, strides, padding, rounding, dtype="float64") for _ in range(2)]
    x = tf.random.stateless_normal([2, 10, 10, 8], [0, 1], dtype="float64")
    whole.build(x.shape)
    for column, each in enumerate(alone):
        each.build((2, 10, 10, 4))
        own = slice(3 * column, 3 * column + 3)
        each.set_weights([whole.kernel.numpy()[..., own], whole.bias.numpy()[own]])

    def gradients(convolve, variables):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(tf.sin(convolve(x)))
            first = tape.gradient(loss, [x, *variables])
            bent = tf.reduce_sum(tf.square(first[0]))
        return [*first, outer.gradient(bent, x)]

    def one():
        return gradients(whole, whole.trainable_variables)

    def cut():
        return gradients(
            lambda x: tf.concat(
                [each(share) for each, share in zip(alone, tf.split(x, 2, -1), strict=True)], -1
            ),
            [each.kernel for each in alone] + [each.bias for each in alone],
        )

    found = one() if how == "eager" else tf.function(one, jit_compile=how == "xla")()
    of_x, *of_layers, second = cut()
    expected = [of_x, tf.concat(of_layers[:2], -1), tf.concat(of_layers[2:], -1), second]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-10)
