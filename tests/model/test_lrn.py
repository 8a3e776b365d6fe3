import contextlib
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.model import LocalResponseNormalization, WithinMapNormalization, one_pass_scope

SETTINGS = [
    {"size": 5, "k": 2.0, "alpha": 0.3, "beta": 0.75},
    {"size": 5, "k": 1.0, "alpha": 0.3, "beta": 0.75, "convention": "mean"},
    {"size": 4, "k": 2.0, "alpha": 0.3, "beta": 0.75},
    {"size": 3, "k": 0.5, "alpha": 2.0, "beta": 0.4, "convention": "mean", "columns": 3},
    {"size": 4, "k": 2.0, "alpha": 0.3, "beta": 1.0, "columns": 2},
    {"size": 1, "k": 2.0, "alpha": 0.3, "beta": 0.75},
    {"size": 40, "k": 2.0, "alpha": 0.3, "beta": 0.75},
]


def reference(x, size, k, alpha, beta, convention="sum", columns=1):
    """The formula of the paper's section 3.3 for one vector of channels, written out."""
    weight = alpha / size if convention == "mean" else alpha
    per_column = len(x) // columns
    y = np.empty_like(x)
    for i in range(len(x)):
        energy = 0.0
        for j in range(i - size // 2, i + (size - 1) // 2 + 1):
            if 0 <= j < len(x) and j // per_column == i // per_column:
                energy += x[j] ** 2
        y[i] = x[i] / (k + weight * energy) ** beta
    return y


def reference_gradient(x, upstream, size, k, alpha, beta, convention="sum", columns=1):
    """The gradient of sum(upstream * y) by the derivative of the formula, written out."""
    weight = alpha / size if convention == "mean" else alpha
    per_column = len(x) // columns
    gradient = np.zeros_like(x)
    for i in range(len(x)):
        window = [
            j
            for j in range(i - size // 2, i + (size - 1) // 2 + 1)
            if 0 <= j < len(x) and j // per_column == i // per_column
        ]
        base = k + weight * sum(x[j] ** 2 for j in window)
        gradient[i] += upstream[i] * base**-beta
        for j in window:
            gradient[j] -= upstream[i] * x[i] * beta * base ** (-beta - 1) * weight * 2 * x[j]
    return gradient


def plain(x, size, k, alpha, beta, convention="sum", columns=1):
    """The same by shifts of one tensor, for TensorFlow to differentiate."""
    weight = alpha / size if convention == "mean" else alpha
    parts = []
    for part in tf.split(x, columns, -1):
        width = part.shape[-1]
        padded = tf.pad(part**2, [[0, 0]] * 3 + [[size // 2, (size - 1) // 2]])
        energy = tf.add_n([padded[..., shift : shift + width] for shift in range(size)])
        parts.append(part / (k + weight * energy) ** tf.constant(beta, x.dtype))
    return tf.concat(parts, -1)


@pytest.fixture
def x():
    return np.random.default_rng(1).normal(0, 3, (2, 2, 3, 12))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("setting", SETTINGS)
def test_values_equal_the_formula(setting, training, x):
    expected = np.apply_along_axis(reference, -1, x, **setting)
    layer = LocalResponseNormalization(**setting, dtype="float64")
    np.testing.assert_allclose(layer(x, training=training), expected, rtol=1e-12)


@pytest.mark.parametrize("setting", SETTINGS)
def test_gradient_equals_automatic_differentiation_of_the_formula(setting, x):
    x, upstream = tf.constant(x), tf.constant(np.random.default_rng(2).normal(size=x.shape))
    layer = LocalResponseNormalization(**setting, dtype="float64")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ours, expected = layer(x), plain(x, **setting)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    np.testing.assert_allclose(
        tape.gradient(ours, x, upstream), tape.gradient(expected, x, upstream), rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("setting", SETTINGS)
def test_gradient_equals_the_formulas_derivative(setting, training, x):
    upstream = np.random.default_rng(2).normal(size=x.shape)
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = LocalResponseNormalization(**setting, dtype="float64")(inputs, training=training)
    gradient = tape.gradient(y, inputs, tf.constant(upstream)).numpy()
    for place in np.ndindex(x.shape[:-1]):
        expected = reference_gradient(x[place], upstream[place], **setting)
        np.testing.assert_allclose(gradient[place], expected, rtol=1e-11, atol=1e-12)


def value_and_gradient_of(function, x, upstream):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return y, tape.gradient(y, x, tf.constant(upstream))


def test_equals_tensorflow_whose_radius_is_half_the_window():
    rng = np.random.default_rng(3)
    x, upstream = (rng.normal(0, 10, (2, 3, 3, 16)).astype("float32") for _ in range(2))
    settings = {"depth_radius": 2, "bias": 2.0, "alpha": 1e-2, "beta": 0.75}
    theirs = value_and_gradient_of(lambda x: tf.nn.local_response_normalization(x, **settings), x, upstream)
    ours = value_and_gradient_of(LocalResponseNormalization(5, 2.0, 1e-2, 0.75), x, upstream)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 40])
def test_equals_pytorch_in_the_convention_mean(size):
    # PyTorch pads with size//2 zeros below and (size - 1)//2 above and averages, zeros included: alpha over size, and
    # the same window as ours for even sizes too.
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(size)
    x, upstream = (rng.normal(0, 3, (2, 3, 4, 12)) for _ in range(2))
    layer = LocalResponseNormalization(size, 1.5, 0.3, 0.75, "mean", dtype="float64")
    ours = value_and_gradient_of(layer, x, upstream)
    theirs_x = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    theirs = torch.nn.LocalResponseNorm(size, alpha=0.3, beta=0.75, k=1.5)(theirs_x)
    theirs.backward(torch.tensor(upstream.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(ours[0], theirs.detach().numpy().transpose(0, 2, 3, 1), rtol=1e-12)
    np.testing.assert_allclose(ours[1], theirs_x.grad.numpy().transpose(0, 2, 3, 1), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("convention", ["sum", "mean"])
@pytest.mark.parametrize("training", [False, True])
def test_sixteen_bits_stay_finite_and_near_for_large_inputs(dtype, convention, training):
    values = np.random.default_rng(4).normal(0, 300, (2, 3, 3, 16))
    x, exact = tf.constant(values, dtype), tf.constant(values)
    layer = LocalResponseNormalization(convention=convention, dtype=dtype)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, exact])
        y = layer(x, training=training)
        expected = plain(exact, 5, 2.0, 1e-4, 0.75, convention)
    gradient, expected_gradient = tape.gradient(y, x), tape.gradient(expected, exact)
    assert y.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(tf.cast(y, tf.float64), expected, rtol=0.03)
    np.testing.assert_allclose(tf.cast(gradient, tf.float64), expected_gradient, atol=0.02)


def test_runs_the_same_in_a_graph_and_under_xla():
    x = np.random.default_rng(5).normal(0, 3, (2, 3, 3, 8)).astype("float32")
    layer = LocalResponseNormalization(alpha=0.1)
    layer(x)

    def value_and_gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x) ** 2
        return y, tape.gradient(y, x)

    eager = value_and_gradient(tf.constant(x))
    for jit in (False, True):
        graph = tf.function(value_and_gradient, jit_compile=jit)(tf.constant(x))
        for ours, expected in zip(graph, eager, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_the_papers_constants_are_the_defaults():
    # One channel of 100: y = 100 / (2 + 1e-4 * 100**2) ** 0.75.
    assert float(LocalResponseNormalization()(tf.constant([[100.0]]))[0, 0]) == pytest.approx(100 / 3**0.75)
    mean = LocalResponseNormalization(convention="mean")(tf.constant([[100.0]]))
    assert float(mean[0, 0]) == pytest.approx(100 / math.pow(2.2, 0.75))


def test_config_round_trip():
    layer = LocalResponseNormalization(4, 1.0, 0.5, 0.6, "mean", 2, name="norm", dtype="mixed_bfloat16")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()
    assert (again.size, again.convention, again.columns, again.compute_dtype) == (4, "mean", 2, "bfloat16")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"size": 0}, r"Expected a window of at least 1\. Received: size=0"),
        ({"k": 0}, r"Expected a positive number\. Received: k=0"),
        ({"alpha": -1}, r"Expected numbers that are not negative\. Received: alpha=-1"),
        ({"convention": "max"}, r"Expected one of \('sum', 'mean'\)\. Received: convention='max'"),
        ({"columns": 0}, r"Expected at least 1\. Received: columns=0"),
    ],
)
def test_wrong_arguments(setting, message):
    with pytest.raises(ValueError, match=message):
        LocalResponseNormalization(**setting)


def test_channels_must_divide_into_columns():
    with pytest.raises(
        ValueError, match=r"layer 'n'\. Expected a multiple of its columns \(2\)\. Received: 3"
    ):
        LocalResponseNormalization(columns=2, name="n")(np.zeros((1, 1, 1, 3), "float32"))


def xla_functions(function):
    """The functions that a graph calls and that XLA has to compile."""
    functions = function.graph.as_graph_def().library.function
    return [found.signature.name for found in functions if found.attr["_XlaMustCompile"].b]


@pytest.mark.parametrize(
    "layer",
    [LocalResponseNormalization(columns=2, alpha=0.1), WithinMapNormalization(size=3, alpha=0.1)],
    ids=["lrn", "map_norm"],
)
def test_training_makes_fewer_passes_and_has_the_same_result(layer):
    rng = np.random.default_rng(6)
    x, upstream = (tf.constant(rng.normal(0, 3, (2, 4, 5, 8)).astype("float32")) for _ in range(2))

    def value_and_gradient(x, training):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
        return y, tape.gradient(y, x, upstream)

    plain, together = (
        tf.function(lambda x, training=training: value_and_gradient(x, training))
        for training in (False, True)
    )
    for ours, expected in zip(together(x), plain(x), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=2e-6)
    assert xla_functions(together.get_concrete_function(x))
    assert not xla_functions(plain.get_concrete_function(x))  # what is exported


@pytest.mark.parametrize(
    "layer",
    [LocalResponseNormalization(columns=2, alpha=0.1), WithinMapNormalization(size=3, alpha=0.1)],
    ids=["lrn", "map_norm"],
)
@pytest.mark.parametrize(("scope", "side", "passes"), [(True, 128, 1), (True, 127, 0), (False, 128, 0)])
def test_large_maps_are_one_pass_in_inference_where_that_is_wished(layer, scope, side, passes):
    x = tf.random.stateless_normal((1, side, side, 8), [0, 1], stddev=3.0)

    @tf.function
    def traced(x):
        with one_pass_scope() if scope else contextlib.nullcontext():
            return layer(x, training=False)

    np.testing.assert_allclose(traced(x), layer(x), rtol=2e-5, atol=2e-6)
    assert len(xla_functions(traced.get_concrete_function(x))) == passes


def test_what_is_traced_after_a_scope_has_plain_operations_again():
    layer, x = LocalResponseNormalization(), tf.ones((1, 128, 128, 8))
    with pytest.raises(RuntimeError, match="within"), one_pass_scope():
        raise RuntimeError("within")
    assert not xla_functions(tf.function(lambda x: layer(x)).get_concrete_function(x))
