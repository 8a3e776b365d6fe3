"""The networks of the family against the numbers of their sources (the sizes come from the papers and prototxts)."""

import numpy as np
import pytest

from alexnet_tf.config import compose_model
from alexnet_tf.model import build, layer_table

CAFFE_SHAPES = [55, 27, 27, 13, 13, 13, 13, 6]
FC = {"fc6": 37_752_832, "fc7": 16_781_312, "fc8": 4_097_000}
GROUPED = {"conv1": 34_944, "conv2": 307_456, "conv3": 885_120, "conv4": 663_936, "conv5": 442_624, **FC}
MERGED = {"conv1": 34_944, "conv2": 614_656, "conv3": 885_120, "conv4": 1_327_488, "conv5": 884_992, **FC}
BATCH = {f"conv{stage}_norm": 4 * maps for stage, maps in enumerate((96, 256, 384, 384, 256), 1)}
ZF = {**MERGED, "conv1": 14_208}
NETWORKS = {
    "alexnet_merged": (62_378_344, MERGED, CAFFE_SHAPES),
    "alexnet_caffe": (60_965_224, GROUPED, CAFFE_SHAPES),
    "caffenet": (60_965_224, GROUPED, CAFFE_SHAPES),
    "alexnet_bn": (62_383_848, {**MERGED, **BATCH}, [56, *CAFFE_SHAPES[1:]]),
    "zfnet": (62_357_608, ZF, [110, 55, 26, 13, 13, 13, 13, 6]),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return request.param, build(compose_model([f"model={request.param}"]))


def test_parameters_by_layer_and_in_all(network):
    name, model = network
    total, layers, _ = NETWORKS[name]
    assert model.count_params() == total
    assert {row.name: row.parameters for row in layer_table(model) if row.parameters} == layers


def test_map_sizes(network):
    name, model = network
    sizes = [row.output_shape[0] for row in layer_table(model) if row.kind in ("ColumnConv2D", "Pool2D")]
    assert sizes == NETWORKS[name][2]


@pytest.mark.parametrize("name", ["alexnet_caffe", "caffenet"])
def test_caffes_switches(name):
    model = build(compose_model([f"model={name}"]))
    norm = model.get_layer("conv1_norm")
    assert (norm.size, norm.k, norm.alpha, norm.beta, norm.convention) == (5, 1.0, 1e-4, 0.75, "mean")
    order = [layer.name for layer in model.layers if layer.name.startswith("conv2")]
    last = ["conv2_pool", "conv2_norm"] if name == "caffenet" else ["conv2_norm", "conv2_pool"]
    assert order == ["conv2", "conv2_relu", *last]
    bias = 1.0 if name == "caffenet" else 0.1
    for layer in ("conv2", "conv4", "conv5", "fc6", "fc7"):
        assert model.get_layer(layer).bias.numpy() == pytest.approx(bias)
    for layer in ("conv1", "conv3", "fc8"):
        assert not model.get_layer(layer).bias.numpy().any()
    for layer, std in (("conv1", 0.01), ("fc6", 0.005), ("fc7", 0.005), ("fc8", 0.01)):
        assert model.get_layer(layer).kernel.numpy().std() == pytest.approx(std, rel=0.02)


def test_lenet5():
    model = build(compose_model(["model=lenet5"], {"num_classes": 10, "input_channels": 1}))
    assert model.count_params() == 61_706
    rows = {row.name: row for row in layer_table(model)}
    assert [rows[name].output_shape[0] for name in ("conv1", "conv1_pool", "conv2", "conv2_pool")] == [
        28,
        14,
        10,
        5,
    ]
    assert "conv1_tanh" in rows


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
