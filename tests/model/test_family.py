"""The networks of the family against the numbers of their sources (the sizes come from the papers and prototxts)."""

import keras
import numpy as np
import pytest

from alexnet_tf.config import compose_model
from alexnet_tf.model import build, layer_table, total

SIZES = [55, 27, 27, 13, 13, 13, 13, 6]  # conv1, its pool, conv2, its pool, conv3, conv4, conv5, its pool
SMALL_SIZES = [32, 16, 16, 8, 8, 8, 8, 4]
CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")
WEIGHTED = (*CONVOLUTIONS, "fc6", "fc7", "fc8")

# Parameters: a kernel and a bias for each filter. Columns halve the maps that the kernels of conv2, 4 and 5 see.
FC = {"fc6": 37_752_832, "fc7": 16_781_312, "fc8": 4_097_000}
GROUPED = {"conv1": 34_944, "conv2": 307_456, "conv3": 885_120, "conv4": 663_936, "conv5": 442_624, **FC}
MERGED = {"conv1": 34_944, "conv2": 614_656, "conv3": 885_120, "conv4": 1_327_488, "conv5": 884_992, **FC}
BATCH = {f"conv{stage}_norm": 4 * maps for stage, maps in enumerate((96, 256, 384, 384, 256), 1)}
OWT = {"conv1": 23_296, "conv2": 307_392, "conv3": 663_936, "conv4": 884_992, "conv5": 590_080, **FC}
LENET = {"conv1": 156, "conv2": 2_416, "fc3": 48_120, "fc4": 10_164, "fc5": 850}
QUICK = {"conv1": 2_432, "conv2": 25_632, "conv3": 51_264, "fc10": 10_250}
SMALL = {
    "conv1": 5 * 5 * 3 * 32 + 32,
    "conv2": 5 * 5 * 16 * 64 + 64,
    "conv3": 3 * 3 * 64 * 96 + 96,
    "conv4": 3 * 3 * 48 * 96 + 96,
    "conv5": 3 * 3 * 48 * 64 + 64,
    "fc6": 4 * 4 * 64 * 256 + 256,
    "fc7": 256 * 256 + 256,
    "fc8": 256 * 10 + 10,
}

# Multiply-accumulates: pixels x kernel x maps that it sees x filters.
FC_MACS = {"fc6": 6 * 6 * 256 * 4096, "fc7": 4096 * 4096, "fc8": 4096 * 1000}
GROUPED_MACS = {
    "conv1": 55 * 55 * 11 * 11 * 3 * 96,
    "conv2": 27 * 27 * 5 * 5 * 48 * 256,
    "conv3": 13 * 13 * 3 * 3 * 256 * 384,
    "conv4": 13 * 13 * 3 * 3 * 192 * 384,
    "conv5": 13 * 13 * 3 * 3 * 192 * 256,
    **FC_MACS,
}
MERGED_MACS = {
    **GROUPED_MACS,
    "conv2": 27 * 27 * 5 * 5 * 96 * 256,
    "conv4": 13 * 13 * 3 * 3 * 384 * 384,
    "conv5": 13 * 13 * 3 * 3 * 384 * 256,
}
ZF_MACS = {**MERGED_MACS, "conv1": 110 * 110 * 7 * 7 * 3 * 96, "conv2": 26 * 26 * 5 * 5 * 96 * 256}
OWT_MACS = {
    "conv1": 55 * 55 * 11 * 11 * 3 * 64,
    "conv2": 27 * 27 * 5 * 5 * 64 * 192,
    "conv3": 13 * 13 * 3 * 3 * 192 * 384,
    "conv4": 13 * 13 * 3 * 3 * 384 * 256,
    "conv5": 13 * 13 * 3 * 3 * 256 * 256,
    **FC_MACS,
}
LENET_MACS = {
    "conv1": 28 * 28 * 5 * 5 * 1 * 6,
    "conv2": 10 * 10 * 5 * 5 * 6 * 16,
    "fc3": 5 * 5 * 16 * 120,
    "fc4": 120 * 84,
    "fc5": 84 * 10,
}
QUICK_MACS = {
    "conv1": 32 * 32 * 5 * 5 * 3 * 32,
    "conv2": 16 * 16 * 5 * 5 * 32 * 32,
    "conv3": 8 * 8 * 5 * 5 * 32 * 64,
    "fc10": 4 * 4 * 64 * 10,
}
SMALL_MACS = {
    "conv1": 32 * 32 * 5 * 5 * 3 * 32,
    "conv2": 16 * 16 * 5 * 5 * 16 * 64,
    "conv3": 8 * 8 * 3 * 3 * 64 * 96,
    "conv4": 8 * 8 * 3 * 3 * 48 * 96,
    "conv5": 8 * 8 * 3 * 3 * 48 * 64,
    "fc6": 4 * 4 * 64 * 256,
    "fc7": 256 * 256,
    "fc8": 256 * 10,
}
ZF_SMALL = {
    **SMALL,
    "conv1": 3 * 3 * 3 * 32 + 32,
    "conv2": 5 * 5 * 32 * 64 + 64,
    "conv4": 3 * 3 * 96 * 96 + 96,
    "conv5": 3 * 3 * 96 * 64 + 64,
}
ZF_SMALL_MACS = {
    **SMALL_MACS,
    "conv1": 32 * 32 * 3 * 3 * 3 * 32,
    "conv2": 16 * 16 * 5 * 5 * 32 * 64,
    "conv4": 8 * 8 * 3 * 3 * 96 * 96,
    "conv5": 8 * 8 * 3 * 3 * 96 * 64,
}
VGG_SMALL = {  # side, kernel, maps, filters
    "conv1_1": (32, 3, 3, 24),
    "conv1_2": (32, 3, 24, 24),
    "conv2_1": (16, 3, 24, 48),
    "conv2_2": (16, 3, 48, 48),
    "conv3_1": (8, 3, 48, 96),
    "conv3_2": (8, 3, 96, 96),
    "fc4": (1, 1, 4 * 4 * 96, 256),
    "fc5": (1, 1, 256, 256),
    "fc6": (1, 1, 256, 10),
}
VGG_SMALL_PARAMETERS = {name: k * k * maps * units + units for name, (_, k, maps, units) in VGG_SMALL.items()}
VGG_SMALL_MACS = {
    name: side * side * k * k * maps * units for name, (side, k, maps, units) in VGG_SMALL.items()
}
NETWORKS = {  # parameters in all, by layer, sides of the maps, multiply-accumulates by layer
    "alexnet": (60_965_224, GROUPED, SIZES, GROUPED_MACS),
    "alexnet_code2012": (60_965_224, GROUPED, SIZES, GROUPED_MACS),
    "alexnet_merged": (62_378_344, MERGED, SIZES, MERGED_MACS),
    "alexnet_caffe": (60_965_224, GROUPED, SIZES, GROUPED_MACS),
    "caffenet": (60_965_224, GROUPED, SIZES, GROUPED_MACS),
    "alexnet_owt": (61_100_840, OWT, SIZES, OWT_MACS),
    "alexnet_bn": (
        62_383_848,
        {**MERGED, **BATCH},
        [56, *SIZES[1:]],
        {**MERGED_MACS, "conv1": 56 * 56 * 11 * 11 * 3 * 96},
    ),
    "zfnet": (62_357_608, {**MERGED, "conv1": 14_208}, [110, 55, 26, *SIZES[3:]], ZF_MACS),
    "lenet5": (61_706, LENET, [28, 14, 10, 5], LENET_MACS),
    "cifar_quick": (89_578, QUICK, [32, 16, 16, 8, 8, 4], QUICK_MACS),
    "alexnet_small": (sum(SMALL.values()), SMALL, SMALL_SIZES, SMALL_MACS),
    "zfnet_small": (sum(ZF_SMALL.values()), ZF_SMALL, SMALL_SIZES, ZF_SMALL_MACS),
    "vgg_small": (623_522, VGG_SMALL_PARAMETERS, [32, 32, 16, 16, 16, 8, 8, 8, 4], VGG_SMALL_MACS),
}
OF_ITS_DATA = {  # what is not for 1000 classes of colour images
    "lenet5": {"num_classes": 10, "input_channels": 1},
    "cifar_quick": {"num_classes": 10},
    "alexnet_small": {"num_classes": 10},
    "zfnet_small": {"num_classes": 10},
    "vgg_small": {"num_classes": 10},
}


ONES = (0, 1, 0, 1, 1, 1, 1, 0)
INITIAL = {  # standard deviations and biases of conv1-5, fc6-8
    "alexnet": ([0.01] * 8, ONES),
    "alexnet_code2012": ([0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01], ONES),
    "alexnet_merged": ([0.01] * 8, ONES),
    "alexnet_caffe": ([0.01] * 5 + [0.005, 0.005, 0.01], [0.1 * one for one in ONES]),
    "caffenet": ([0.01] * 5 + [0.005, 0.005, 0.01], ONES),
}
FAN_INS = (11 * 11 * 3, 5 * 5 * 64, 3 * 3 * 192, 3 * 3 * 384, 3 * 3 * 256, 6 * 6 * 256, 4096, 4096)


def check_normal(model, stds, biases):
    for layer, std, bias in zip(WEIGHTED, stds, biases, strict=True):
        kernel, found = model.get_layer(layer).get_weights()
        sample = kernel.ravel()[:500_000]
        assert sample.std() == pytest.approx(std, rel=5 / np.sqrt(2 * sample.size)), layer
        assert abs(sample.mean()) < 5 * std / np.sqrt(sample.size), layer
        assert abs(sample).max() > 3 * std, layer  # not a uniform distribution
        np.testing.assert_array_equal(found, np.float32(bias), err_msg=layer)


def check_uniform(model):
    """Weights and biases within +-1 / sqrt(fan-in), each with the moments of a uniform distribution."""
    for layer, fan_in in zip(WEIGHTED, FAN_INS, strict=True):
        bound = 1 / np.sqrt(fan_in)
        for values in model.get_layer(layer).get_weights():
            sample = values.ravel()[:500_000]
            assert bound * (1 - 10 / sample.size) < abs(sample).max() <= bound * (1 + 1e-6), layer
            # The variance is b^2 / 3, that of a square 4 b^4 / 45.
            spread = 5 * np.sqrt(4 / 45 / sample.size) * bound**2
            assert abs((sample**2).mean() - bound**2 / 3) < spread, layer
            assert abs(sample.mean()) < 5 * bound / np.sqrt(3 * sample.size), layer


LRN = {  # size, k, alpha, beta, convention, columns
    "alexnet": (5, 2.0, 1e-4, 0.75, "sum", 1),
    "alexnet_merged": (5, 2.0, 1e-4, 0.75, "sum", 1),
    "alexnet_code2012": (5, 2.0, 1e-4, 0.75, "mean", 2),
    "alexnet_caffe": (5, 1.0, 1e-4, 0.75, "mean", 1),
    "caffenet": (5, 1.0, 1e-4, 0.75, "mean", 1),
}


def check_paper_like(name, model):
    """What the networks that are variants of the paper's have of their own: weights, LRN, dropout, order."""
    check_normal(model, *INITIAL[name])
    for norm in (model.get_layer("conv1_norm"), model.get_layer("conv2_norm")):
        found = (norm.size, norm.k, norm.alpha, norm.beta, norm.convention, norm.columns)
        assert found == LRN[name]
    scaling = "test" if name == "alexnet_code2012" else "train"
    rates = {layer.name: (layer.rate, layer.scaling) for layer in model.layers if "dropout" in layer.name}
    assert rates == {"fc6_dropout": (0.5, scaling), "fc7_dropout": (0.5, scaling)}
    after = {
        stage: [n.removeprefix(f"{stage}_") for n in layers_of(model, stage)[1:]] for stage in CONVOLUTIONS
    }
    usual = {"conv1": ["relu", "norm", "pool"], "conv2": ["relu", "norm", "pool"], "conv5": ["relu", "pool"]}
    own = {
        "alexnet_code2012": {
            "conv1": ["norm", "pool", "relu"],
            "conv2": ["relu", "norm", "map_norm", "pool"],
            "conv5": ["pool", "relu"],
        },
        "caffenet": {"conv1": ["relu", "pool", "norm"], "conv2": ["relu", "pool", "norm"]},
    }
    assert after == {"conv3": ["relu"], "conv4": ["relu"], **usual, **own.get(name, {})}


def layers_of(model, stage):
    return [layer.name for layer in model.layers if layer.name.partition("_")[0] == stage]


OWT_LAYERS = [
    *("images", "conv1", "conv1_relu", "conv1_pool", "conv2", "conv2_relu", "conv2_pool"),
    *("conv3", "conv3_relu", "conv4", "conv4_relu", "conv5", "conv5_relu", "conv5_pool"),
    *("conv5_adaptive_pool", "conv5_dropout", "flatten"),
    *("fc6", "fc6_relu", "fc6_dropout", "fc7", "fc7_relu", "fc8"),
]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_is_that_of_its_source(name):
    model = build(compose_model([f"model={name}"], OF_ITS_DATA.get(name)), seed=3)
    parameters, layers, sizes, macs = NETWORKS[name]
    rows = layer_table(model)
    assert model.count_params() == total(rows).parameters == parameters == sum(layers.values())
    assert {row.name: row.parameters for row in rows if row.parameters} == layers
    assert [row.output_shape[0] for row in rows if row.kind in ("ColumnConv2D", "Pool2D")] == sizes
    assert {row.name: row.macs for row in rows if row.macs} == macs
    assert total(rows).macs == sum(macs.values())
    if name in INITIAL:
        check_paper_like(name, model)
    if name == "alexnet_code2012":
        norm = model.get_layer("conv2_map_norm")
        assert (norm.size, norm.k, norm.alpha, norm.beta, norm.convention) == (5, 1.0, 1e-3, 0.75, "mean")
        assert {model.get_layer(f"{stage}_pool").rounding for stage in ("conv1", "conv2", "conv5")} == {"up"}
    if name == "alexnet_owt":
        check_uniform(model)
        assert [layer.name for layer in model.layers] == OWT_LAYERS
        assert [model.get_layer(f"{stage}_dropout").rate for stage in ("conv5", "fc6")] == [0.5, 0.5]
    if name == "lenet5":
        assert layers_of(model, "conv1") == ["conv1", "conv1_tanh", "conv1_pool"]
    keras.utils.clear_session()


# ------------------------------------------------------------------------------- each switch alone, elsewhere


def small(*overrides, **changes):
    return build(compose_model(["model=alexnet_small", *overrides], {"num_classes": 10, **changes}), seed=3)


@pytest.fixture(scope="module")
def base():
    return small()


def changed_layers(base, model):
    """Weighted layers that start otherwise than in the network without the switch."""
    pairs = [
        (name, base.get_layer(name).get_weights(), model.get_layer(name).get_weights()) for name in WEIGHTED
    ]
    return {name for name, a, b in pairs if any(not np.array_equal(*ab) for ab in zip(a, b, strict=True))}


def test_dropout_scaling_alone(base):
    model = small("model.dropout_scaling=test")
    assert [layer.scaling for layer in model.layers if "dropout" in layer.name] == ["test", "test"]
    assert changed_layers(base, model) == set()
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    # Two layers of 0.5 at test time, between which a bias of 0 and a ReLU let the factor pass: a quarter.
    np.testing.assert_allclose(model(images), base(images) / 4, rtol=1e-4, atol=1e-6)


def test_map_norm_alone(base):
    model = small("model.stages.conv2.map_norm=true", "model.map_norm.size=3")
    names = [layer.name for layer in model.layers if layer.name.startswith("conv2")]
    assert names == ["conv2", "conv2_relu", "conv2_norm", "conv2_map_norm", "conv2_pool"]
    assert model.get_layer("conv2_map_norm").size == 3
    assert changed_layers(base, model) == set()


def test_bias_init_alone(base):
    model = small("model.bias_init=fan_in_uniform")
    assert changed_layers(base, model) == set(WEIGHTED)
    for name in WEIGHTED:
        np.testing.assert_array_equal(model.get_layer(name).kernel, base.get_layer(name).kernel)
    fan_in = 3 * 3 * 48  # conv4 sees one of two columns
    biases = model.get_layer("conv4").bias.numpy()
    assert 0.9 / np.sqrt(fan_in) < abs(biases).max() <= 1 / np.sqrt(fan_in)


def test_a_stages_own_init_alone(base):
    model = small("model.stages.fc6.init=fan_in_uniform")
    assert changed_layers(base, model) == {"fc6"}
    assert 0.99 / 32 < abs(model.get_layer("fc6").kernel.numpy()).max() <= 1 / 32  # fan-in 4 x 4 x 64 = 32^2


def test_adaptive_pool_alone():
    model = small("model.stages.conv5.adaptive_pool=2")
    assert model.get_layer("conv5_adaptive_pool").output.shape == (None, 2, 2, 64)
    assert model.get_layer("fc6").kernel.shape == (2 * 2 * 64, 256)


def test_the_scope_of_lrn_alone():
    model = small("model.lrn.scope=column")
    assert [model.get_layer(f"conv{i}_norm").columns for i in (1, 2)] == [2, 2]
    merged = build(compose_model(["model=alexnet_small", "model.lrn.scope=column"], {"stages": ONE_COLUMN}))
    assert [merged.get_layer(f"conv{i}_norm").columns for i in (1, 2)] == [1, 1]


ONE_COLUMN = {f"conv{i}": {"columns": 1} for i in (2, 4, 5)}


@pytest.mark.parametrize(("size", "last"), [(64, 1), (192, 5), (224, 6), (256, 7)])
def test_owt_takes_other_input_sizes(size, last):
    narrow = {
        name: {"units": 8} for name in ("fc6", "fc7")
    }  # the whole one's 60 million weights take their time
    model = build(compose_model(["model=alexnet_owt", f"model.input_size={size}"], {"stages": narrow}))
    assert model.get_layer("conv5_pool").output.shape[1] == last
    assert model.get_layer("fc6").kernel.shape == (9216, 8)
    assert model(np.zeros((1, size, size, 3), "float32")).shape == (1, 1000)


# --------------------------------------------------------------------------------------------- networks in use


def test_batch_norm_learns_its_statistics_and_uses_them():
    batch = {"conv1": {"norm": "batch"}, "conv2": {"norm": "batch"}}
    model = build(compose_model(["model=cifar_quick"], {"stages": batch, "num_classes": 3}))
    assert not any("lrn" in type(layer).__name__.lower() for layer in model.layers)
    norm = model.get_layer("conv1_norm")
    images = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype(np.float32) * 50
    before = norm.moving_variance.numpy().copy()
    inference = model(images, training=False).numpy()
    model(images, training=True)
    assert (norm.moving_variance.numpy() != before).all()
    assert not np.allclose(model(images, training=False).numpy(), inference)
