import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config import ConfigError
from alexnet_tf.config.schema import Activation
from alexnet_tf.model import (
    ACTIVATIONS,
    ColumnConv2D,
    Dropout,
    LocalResponseNormalization,
    Pool2D,
    build,
    build_model,
    mask_scope,
)

WEIGHTED = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]


@pytest.fixture(scope="module")
def alexnet(model_config):
    model = build(model_config("alexnet", {"num_classes": 1000}), seed=5)
    yield model
    del model
    keras.utils.clear_session()


def names(model):
    return [layer.name for layer in model.layers]


# ------------------------------------------------------------------------------------------ the paper's network


def test_layers_of_the_paper_in_their_order(alexnet):
    assert names(alexnet) == [
        *("images", "conv1", "conv1_relu", "conv1_norm", "conv1_pool"),
        *("conv2", "conv2_relu", "conv2_norm", "conv2_pool"),
        *("conv3", "conv3_relu", "conv4", "conv4_relu", "conv5", "conv5_relu", "conv5_pool", "flatten"),
        *("fc6", "fc6_relu", "fc6_dropout", "fc7", "fc7_relu", "fc7_dropout", "fc8"),
    ]
    assert alexnet.name == "alexnet"
    assert alexnet.output_shape == (None, 1000)
    assert alexnet.output.dtype == "float32"


def test_variable_paths(alexnet):
    assert [v.path for v in alexnet.trainable_variables] == [
        f"{n}/{v}" for n in WEIGHTED for v in ("kernel", "bias")
    ]


def test_initial_weights_of_the_paper(alexnet):
    for name, bias in zip(WEIGHTED, [0, 1, 0, 1, 1, 1, 1, 0], strict=True):
        layer = alexnet.get_layer(name)
        kernel, biases = layer.get_weights()
        kernel = kernel.ravel()[:500_000]
        assert kernel.std() == pytest.approx(0.01, rel=5 / np.sqrt(2 * kernel.size))
        assert abs(kernel.mean()) < 5 * 0.01 / np.sqrt(kernel.size)
        assert (biases == bias).all()


def test_settings_reach_the_layers(alexnet):
    norm = alexnet.get_layer("conv1_norm")
    assert (norm.size, norm.k, norm.alpha, norm.beta, norm.convention, norm.columns) == (
        5,
        2,
        1e-4,
        0.75,
        "sum",
        1,
    )
    assert [alexnet.get_layer(name).columns for name in WEIGHTED[:5]] == [1, 2, 1, 2, 2]
    pool = alexnet.get_layer("conv5_pool")
    assert (pool.kind, pool.size, pool.stride, pool.rounding) == ("max", 3, 2, "down")
    assert [alexnet.get_layer(name).rate for name in ("fc6_dropout", "fc7_dropout")] == [0.5, 0.5]


def test_the_bundled_small_networks(model_config):
    small = build(model_config("alexnet_small"))
    assert [small.get_layer(f"conv{i}_pool").output.shape[1] for i in (1, 2, 5)] == [16, 8, 4]
    quick = build(model_config("cifar_quick"))
    assert [quick.get_layer(f"conv{i}_pool").output.shape[1] for i in (1, 2, 3)] == [16, 8, 4]
    assert [quick.get_layer(f"conv{i}_pool").kind for i in (1, 2, 3)] == ["max", "avg", "avg"]
    # 5x5x3x32 + 32, 5x5x32x32 + 32, 5x5x32x64 + 64, 4x4x64x10 + 10
    assert quick.count_params() == 2_432 + 25_632 + 51_264 + 10_250


# ----------------------------------------------------------------------------------------------------- values


def test_output_equals_the_network_written_out_in_tensorflow(tiny_config):
    model = build(tiny_config(), dtype="float64", seed=3)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    k1, b1, k2, b2, k3, b3, k4, b4 = model.get_weights()
    images = rng.normal(size=(2, 9, 9, 2))

    def norm(x, windows):
        return x / (2 + 0.1 * (x**2 @ windows)) ** 0.75

    per_column = np.kron(np.eye(2), np.ones((2, 2)))
    x = norm(tf.nn.relu(tf.nn.conv2d(images, k1, 1, "SAME") + b1), per_column)
    x = tf.nn.max_pool2d(x, 3, 2, "VALID")
    x = tf.nn.relu(tf.nn.conv2d(x, k2, 1, "SAME") + b2)  # grouped, by the kernel's depth
    x = tf.reshape(norm(x, per_column), [2, -1])
    logits = tf.nn.relu(x @ k3 + b3) @ k4 + b4
    np.testing.assert_allclose(model(images), logits, rtol=1e-10)


def test_weights_follow_the_seed_and_the_stages_name(tiny_config):
    first, again, other = (build(tiny_config(), seed=seed).get_weights() for seed in (1, 1, 2))
    for a, b, c in zip(first[::2], again[::2], other[::2], strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
    config = tiny_config({"stages": {"conv1": {"pool": None}}})
    np.testing.assert_array_equal(build(config, seed=1).get_weights()[2], first[2])


def test_stages_of_one_shape_start_apart(tiny_config):
    stages = {"fc3b": {"kind": "dense", "units": 8}, "fc3c": {"kind": "dense", "units": 8}}
    config = tiny_config()
    wider = tiny_config({"stages": stages})
    last = wider.stages.pop("fc4")
    wider.stages["fc4"] = last
    model = build(wider, seed=1)
    assert list(wider.stages) == ["conv1", "conv2", "fc3", "fc3b", "fc3c", "fc4"]
    assert not np.array_equal(
        model.get_layer("fc3b").get_weights()[0], model.get_layer("fc3c").get_weights()[0]
    )
    np.testing.assert_array_equal(build(config, seed=1).get_weights()[0], model.get_weights()[0])


def test_weight_std_and_named_initialisers(model_config):
    quick = build(model_config("cifar_quick"))
    for name, std in {"conv1": 1e-4, "conv2": 0.01, "conv3": 0.01, "fc10": 0.01}.items():
        kernel = quick.get_layer(name).get_weights()[0]
        assert kernel.std() == pytest.approx(std, rel=5 / np.sqrt(2 * kernel.size))
    # He et al. (2015): std sqrt(2 / fan_in); conv2's kernels see half of conv1's 32 channels.
    small = build(model_config("alexnet_small"))
    for name, fan_in in {"conv2": 5 * 5 * 16, "conv3": 3 * 3 * 64, "fc6": 1024}.items():
        kernel = small.get_layer(name).get_weights()[0]
        assert kernel.std() == pytest.approx(np.sqrt(2 / fan_in), rel=5 / np.sqrt(2 * kernel.size))


@pytest.mark.parametrize("name", ["glorot_uniform", "glorot_normal", "he_uniform", "lecun_normal"])
def test_every_initialiser_builds(tiny_config, name):
    kernel = build(tiny_config({"init": name})).get_layer("fc3").get_weights()[0]
    limits = {
        "glorot_uniform": 6 / (64 + 8),
        "glorot_normal": None,
        "he_uniform": 6 / 64,
        "lecun_normal": None,
    }
    if limits[name] is not None:
        assert 0.9 * np.sqrt(limits[name]) < np.abs(kernel).max() <= np.sqrt(limits[name])
    variance = {
        "glorot_uniform": 2 / 72,
        "glorot_normal": 2 / 72,
        "he_uniform": 2 / 64,
        "lecun_normal": 1 / 64,
    }
    assert kernel.var() == pytest.approx(variance[name], rel=0.3)


# --------------------------------------------------------------------------------------------------- switches


@pytest.mark.parametrize("activation", ["tanh", "leaky_relu", "gelu", "elu", "sigmoid"])
def test_the_activation_switch_changes_every_stage_but_the_last(tiny_config, activation):
    model = build(tiny_config({"activation": activation}))
    found = [layer for layer in model.layers if isinstance(layer, keras.layers.Activation)]
    assert [layer.name for layer in found] == [f"{stage}_{activation}" for stage in ("conv1", "conv2", "fc3")]
    assert all(layer.activation is ACTIVATIONS[activation] for layer in found)


def test_activations_are_the_known_functions():
    x = np.array([-2.0, -0.5, 0.0, 1.5])
    erf = np.array([-0.9544997361, -0.3829249225, 0.0, 0.8663855975])  # erf(x / sqrt 2), from tables
    expected = {
        "relu": np.maximum(x, 0),
        "tanh": np.tanh(x),
        "sigmoid": 1 / (1 + np.exp(-x)),
        "leaky_relu": np.where(x > 0, x, 0.01 * x),
        "elu": np.where(x > 0, x, np.exp(x) - 1),
        "gelu": x * (1 + erf) / 2,
    }
    assert set(ACTIVATIONS) == {*expected, "linear"} == set(Activation)
    for name, values in expected.items():  # 1e-7: TensorFlow's op holds leaky_relu's slope in float32
        np.testing.assert_allclose(ACTIVATIONS[name](tf.constant(x)), values, rtol=1e-7, err_msg=name)


def test_a_stages_own_activation_wins(tiny_config):
    model = build(tiny_config({"activation": "tanh", "stages": {"conv2": {"activation": "relu"}}}))
    assert "conv2_relu" in names(model)
    assert "conv1_tanh" in names(model)


def test_removing_a_stage(model_config):
    config = model_config("alexnet_small")
    del config.stages["conv3"]
    model = build(config)
    assert "conv3" not in names(model)
    assert model.get_layer("conv4").kernel.shape == (3, 3, 32, 96)  # half of conv2's 64 channels


def test_lrn_null_removes_every_norm(tiny_config):
    assert not [name for name in names(build(tiny_config({"lrn": None}))) if name.endswith("norm")]


def test_lrn_scope(tiny_config):
    def columns(scope):
        model = build(tiny_config({"lrn": {"scope": scope}}))
        return [layer.columns for layer in model.layers if isinstance(layer, LocalResponseNormalization)]

    assert (columns("across"), columns("column")) == ([1, 1], [2, 2])  # conv1's maps lie in two columns too


def test_order_of_a_stage(tiny_config):
    stage = {"order": ["norm", "pool", "activation"], "dropout": 0.2}
    model = build(tiny_config({"stages": {"conv1": stage}}))
    assert names(model)[1:6] == ["conv1", "conv1_norm", "conv1_pool", "conv1_relu", "conv1_dropout"]


# ------------------------------------------------------------------------------------------------------ dtypes


@pytest.mark.parametrize(
    ("dtype", "compute", "logits"),
    [
        ("float32", "float32", "float32"),
        ("float64", "float64", "float64"),
        ("mixed_bfloat16", "bfloat16", "float32"),
        ("mixed_float16", "float16", "float32"),
    ],
)
def test_dtypes(tiny_config, dtype, compute, logits):
    model = build(tiny_config({"init": "he_normal"}), dtype=dtype)
    reference = build(tiny_config({"init": "he_normal"}))
    model.set_weights(reference.get_weights())
    images = np.random.default_rng(0).normal(size=(4, 9, 9, 2)).astype("float32")
    with tf.GradientTape() as tape:
        y = model(images, training=False)
    assert y.dtype == logits
    assert model.get_layer("conv2").compute_dtype == compute
    assert all(np.isfinite(g).all() for g in tape.gradient(y, [v.value for v in model.trainable_variables]))
    assert {v.dtype for v in model.trainable_variables} == {logits}
    np.testing.assert_allclose(y, reference(images), atol=0.05 if dtype.startswith("mixed") else 1e-6)
    assert keras.config.dtype_policy().name == "float32"


# ---------------------------------------------------------------------------------------- Keras's own machinery


def test_compile_and_fit_learn(tiny_config):
    model = build(tiny_config({"init": "he_normal", "stages": {"fc3": {"dropout": 0.1}}}))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 48)
    images = (rng.normal(size=(48, 9, 9, 2)) + labels[:, None, None, None]).astype("float32")
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(images, labels, batch_size=16, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.6 * losses[0]


def test_a_training_step_compiles_with_xla(tiny_config):
    model = build(tiny_config({"init": "he_normal"}))
    images = np.random.default_rng(0).normal(size=(4, 9, 9, 2)).astype("float32")

    @tf.function(jit_compile=True)
    def step(number, first_row):
        with mask_scope(1, number, first_row, global_rows=8), tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images, training=True) ** 2)
        return loss, tape.gradient(loss, [v.value for v in model.trainable_variables])

    losses = {float(step(tf.constant(number), tf.constant(4))[0]) for number in (1, 2)}
    assert len(losses) == 2
    compiled = tf.function(model, jit_compile=True)
    np.testing.assert_allclose(compiled(images), model(images), rtol=1e-5, atol=1e-6)


LOAD = """
import sys, numpy as np, keras
import alexnet_tf.model
model = keras.models.load_model(sys.argv[1])
np.save(sys.argv[3], model(np.load(sys.argv[2])).numpy())
"""


@pytest.mark.slow
def test_a_saved_model_loads_elsewhere(tiny_config, tmp_path):
    model = build(tiny_config({"init": "he_normal", "activation": "leaky_relu"}), seed=2)
    images = np.random.default_rng(0).normal(size=(4, 9, 9, 2)).astype("float32")
    model.save(tmp_path / "m.keras")
    np.save(tmp_path / "x.npy", images)
    files = [str(tmp_path / name) for name in ("m.keras", "x.npy", "y.npy")]
    run = subprocess.run(
        [sys.executable, "-c", LOAD, *files], capture_output=True, text=True, check=False, timeout=120
    )
    assert run.returncode == 0, run.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), model(images))


@pytest.mark.parametrize("dtype", ["float64", "mixed_bfloat16"])
def test_saving_keeps_the_dtype(tiny_config, tmp_path, dtype):
    model = build(tiny_config(), dtype=dtype)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert [layer.dtype_policy.name for layer in again.layers] == [
        layer.dtype_policy.name for layer in model.layers
    ]
    images = np.random.default_rng(0).normal(size=(4, 9, 9, 2))
    np.testing.assert_array_equal(again(images), model(images))


def test_an_exported_saved_model_gives_the_same_logits(tiny_config, tmp_path):
    model = build(tiny_config({"init": "he_normal"}))
    images = np.random.default_rng(0).normal(size=(4, 9, 9, 2)).astype("float32")
    model.export(tmp_path / "saved", verbose=False)
    saved = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(saved.serve(images), model(images), rtol=1e-5)


# ------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": None}, r"model\.num_classes=None: expected a positive number to build tiny"),
        ({"input_channels": None}, r"model\.input_channels=None: expected a positive number"),
        (
            {"input_size": 2},
            r"small for layer 'conv1_pool'\. Expected at least 3 x 3 pixels \(window 3, padding 0\)\. Received: 2 x 2$",
        ),
        (
            {"stages": {"conv2": {"kernel": 9}}},
            r"layer 'conv2'\. Expected at least 7 x 7 pixels .*Received: 4 x 4$",
        ),
        (
            {"stages": {"conv2": {"padding": "some"}}},
            r"stages\.conv2\.padding=some: expected same, valid or a number",
        ),
        (
            {"lrn": {"scope": "across"}, "stages": {"conv2": {"columns": 3, "units": 6}}},
            r"layer 'conv2'\. Expected a multiple .*Received: 4 channels",
        ),
        (
            {"stages": {"conv2": {"columns": 3, "units": 4}}},
            r"conv2\.units=4: expected a multiple of its columns \(3\)",
        ),
        (
            {"stages": {"conv2": {"order": ["norm", "lrn"]}}},
            r"conv2\.order=lrn: expected one of activation, norm, map_norm, pool",
        ),
        (
            {"stages": {"conv2": {"order": ["norm", "norm"]}}},
            r"conv2\.order=.*: expected each part at most once",
        ),
        ({"stages": {"conv2": {"order": ["activation"]}}}, r"conv2\.order=.*: expected norm in it too"),
        (
            {"stages": {"conv3": {"units": 4}}},
            r"conv3\.kind=conv: a convolution cannot follow the dense stage fc4",
        ),
        ({"stages": {"fc3": {"pool": {"kind": "max"}}}}, r"stages\.fc3: a dense stage has no pool"),
        (
            {"stages": {"fc3": {"columns": 2}}},
            r"stages\.fc3: a dense stage has no pool, no adaptive_pool, no norm, no map_norm and one column",
        ),
        (
            {"stages": {"fc4": {"activation": None}}},
            r"fc4: expected the last stage to yield the logits: .*activation=relu",
        ),
        ({"input_size": -4}, r"model\.input_size=-4: expected at least 1"),
        ({"num_classes": 1}, r"model\.num_classes=1: expected at least 2"),
        ({"input_channels": 0}, r"model\.input_channels=0: expected at least 1"),
        ({"lrn": {"size": 0}}, r"model\.lrn\.size=0: expected at least 1"),
        ({"stages": {"conv1": {"pool": {"size": 0}}}}, r"conv1\.pool\.size=0: expected at least 1"),
        # what only the layer itself refuses when it is made
        ({"stages": {"conv2": {"padding": "²"}}}, r"model\.stages\.conv2: invalid literal"),
        ({"stages": {"fc4": {"units": 5}}}, r"fc4: expected the last stage to yield the logits: .*units=5"),
    ],
)
def test_configs_that_cannot_be_built(tiny_config, changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        build(tiny_config(changes))
    assert "\n" not in str(error.value)


def test_unknown_names_list_the_known_ones(tiny_config):
    with pytest.raises(ConfigError, match=r"dtype=bfloat16: expected one of float32, "):
        build(tiny_config(), dtype="bfloat16")
    config = tiny_config()
    config.stages = {}
    with pytest.raises(ConfigError, match=r"model\.stages: tiny has none; expected at least one"):
        build(config)


def test_build_model_takes_a_name_and_changes():
    model = build_model("cifar_quick", num_classes=3, activation="tanh", stages={"conv2": {"units": 8}})
    assert model.output_shape == (None, 3)
    assert model.get_layer("conv2").filters == 8
    assert model.get_layer("conv1_tanh").activation is keras.activations.tanh
    with pytest.raises(ConfigError, match=r"model=alexnt: no such choice\. .*did you mean alexnet\?"):
        build_model("alexnt")
    with pytest.raises(ConfigError, match=r"droput: no such key"):
        build_model("cifar_quick", droput=1)
    with pytest.raises(ConfigError, match=r"model\.num_classes=0: expected at least 2"):
        build_model("cifar_quick", num_classes=0)
    with pytest.raises(ConfigError, match=r"model\.input_channels=0: expected at least 1"):
        build_model("cifar_quick", input_channels=0)


def test_the_layers_are_ours(tiny_config):
    kinds = {layer.name: type(layer) for layer in build(tiny_config()).layers}
    assert kinds["conv2"] is ColumnConv2D
    assert kinds["conv1_pool"] is Pool2D
    assert kinds["fc3_dropout"] is Dropout
