import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.model import WithinMapNormalization

SETTINGS = [
    {"size": 5, "k": 1.0, "alpha": 2.0, "beta": 0.75, "convention": "mean"},
    {"size": 3, "k": 2.0, "alpha": 0.3, "beta": 0.75, "convention": "sum"},
    {"size": 4, "k": 0.5, "alpha": 1.0, "beta": 0.4, "convention": "mean"},
    {"size": 1, "k": 1.0, "alpha": 0.3, "beta": 1.0, "convention": "mean"},
    {"size": 20, "k": 1.0, "alpha": 0.3, "beta": 0.75, "convention": "sum"},
]


def reference(x, size, k, alpha, beta, convention):
    """The formula for `[N, H, W, C]`, written out: a window of one map, clipped at its borders."""
    weight = alpha / size**2 if convention == "mean" else alpha
    y = np.empty_like(x)
    for n, r, c, channel in np.ndindex(x.shape):
        energy = 0.0
        for i in range(r - size // 2, r - size // 2 + size):
            for j in range(c - size // 2, c - size // 2 + size):
                if 0 <= i < x.shape[1] and 0 <= j < x.shape[2]:
                    energy += x[n, i, j, channel] ** 2
        y[n, r, c, channel] = x[n, r, c, channel] / (k + weight * energy) ** beta
    return y


@pytest.fixture
def x():
    return np.random.default_rng(1).normal(0, 3, (2, 6, 7, 2))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("setting", SETTINGS)
def test_values_equal_the_formula(setting, training, x):
    layer = WithinMapNormalization(**setting, dtype="float64")
    np.testing.assert_allclose(layer(x, training=training), reference(x, **setting), rtol=1e-12)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("setting", SETTINGS[:3])
def test_gradient_equals_finite_differences_of_the_formula(setting, training):
    rng = np.random.default_rng(2)
    x, upstream, step = rng.normal(0, 2, (1, 4, 5, 1)), rng.normal(size=(1, 4, 5, 1)), 1e-5
    expected = np.empty_like(x)
    for place in np.ndindex(x.shape):
        nudge = np.zeros_like(x)
        nudge[place] = step
        change = reference(x + nudge, **setting) - reference(x - nudge, **setting)
        expected[place] = (upstream * change).sum() / (2 * step)
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = WithinMapNormalization(**setting, dtype="float64")(inputs, training=training)
    np.testing.assert_allclose(
        tape.gradient(y, inputs, tf.constant(upstream)), expected, rtol=1e-6, atol=1e-9
    )


def test_the_divisor_stays_whole_at_the_borders():
    # A map of ones and alpha 25: 9 pixels in the window of a corner, 15 of an edge, 25 inside, each divided by 25.
    y = WithinMapNormalization(5, k=1.0, alpha=25.0, beta=1.0)(np.ones((1, 7, 7, 1), "float32"))[0, :, :, 0]
    assert [float(y[place]) for place in ((0, 0), (0, 3), (3, 3))] == pytest.approx([1 / 10, 1 / 16, 1 / 26])


def test_the_constants_of_the_network_file_are_the_defaults():
    # layers-145.cfg: size 5, scale 0.001 (divided by size * size), pow 0.75. One pixel of 100 alone: 1e4 * 4e-5 = 0.4.
    x = np.zeros((1, 9, 9, 1), "float32")
    x[0, 4, 4, 0] = 100
    assert float(WithinMapNormalization()(x)[0, 4, 4, 0]) == pytest.approx(100 / 1.4**0.75)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_stay_finite_and_near_for_large_inputs(dtype):
    values = np.random.default_rng(4).normal(0, 300, (2, 6, 6, 3))
    x, exact = tf.constant(values, dtype), tf.constant(values)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, exact])
        y = WithinMapNormalization(dtype=dtype)(x)
        energy = tf.nn.depthwise_conv2d(exact**2, tf.ones([5, 5, 3, 1], tf.float64), [1] * 4, "SAME")
        expected = exact / (1 + 1e-3 / 25 * energy) ** tf.constant(0.75, tf.float64)
    gradient, expected_gradient = tape.gradient(y, x), tape.gradient(expected, exact)
    assert y.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(tf.cast(y, tf.float64), expected, rtol=0.05)
    np.testing.assert_allclose(tf.cast(gradient, tf.float64), expected_gradient, atol=0.02)


def test_runs_the_same_in_a_graph_and_under_xla(x):
    layer = WithinMapNormalization(alpha=2.0)

    def value_and_gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x) ** 2
        return y, tape.gradient(y, x)

    x = tf.constant(x, tf.float32)
    eager = value_and_gradient(x)
    for jit in (False, True):
        graph = tf.function(value_and_gradient, jit_compile=jit)(x)
        for ours, expected in zip(graph, eager, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_config_round_trip():
    layer = WithinMapNormalization(3, 2.0, 0.5, 0.4, "sum", name="n", dtype="mixed_float16")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()
    assert (again.size, again.k, again.alpha, again.beta, again.convention) == (3, 2.0, 0.5, 0.4, "sum")
    assert layer.compute_output_shape((None, 4, 5, 6)) == (None, 4, 5, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, r"Expected a window of at least 1\. Received: size=0"),
        ({"k": 0}, r"Expected a positive number\. Received: k=0"),
        ({"alpha": -1}, r"not negative\. Received: alpha=-1"),
        ({"convention": "max"}, r"Expected one of \('sum', 'mean'\)\. Received: convention='max'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        WithinMapNormalization(**arguments)


@pytest.mark.parametrize("shape", [(4, 5), (None, 5, 2)])
def test_maps_of_unknown_size(shape):
    with pytest.raises(
        ValueError, match=r"layer 'n'\. Expected \[N, H, W, channels\] of known sizes\. Received"
    ):
        WithinMapNormalization(name="n")(keras.Input(shape))
