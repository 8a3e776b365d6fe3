"""VGG-16 and ResNet-50 behind our interface, against arithmetic from the papers' tables."""

import keras
import numpy as np
import pytest

from alexnet_tf.config import ConfigError, compose_model
from alexnet_tf.model import build, build_model, layer_table, total


def tiny_resnet(**arguments):
    return build_model("resnet50", num_classes=10, input_size=32, **arguments)


def test_vgg16():
    # Simonyan and Zisserman (2014), table 1, column D: 3x3 kernels; filters and layers of each block.
    layers, maps, side = {}, 3, 224
    for block, (filters, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], 1):
        for number in range(1, count + 1):
            kernel = 3 * 3 * maps * filters
            layers[f"block{block}_conv{number}"] = (kernel + filters, side * side * kernel)
            maps = filters
        side //= 2
    for name, inputs, units in [
        ("fc1", 7 * 7 * 512, 4096),
        ("fc2", 4096, 4096),
        ("predictions", 4096, 1000),
    ]:
        layers[name] = (inputs * units + units, inputs * units)
    model = build(compose_model(["model=vgg16"]))
    rows = layer_table(model)
    assert {row.name: (row.parameters, row.macs) for row in rows if row.parameters} == layers
    assert model.count_params() == total(rows).parameters == 138_357_544
    assert total(rows).macs == sum(macs for _, macs in layers.values()) == 15_470_264_320
    assert [row.output_shape[0] for row in rows if row.kind == "MaxPooling2D"] == [112, 56, 28, 14, 7]
    assert (model.name, model.output_shape, model.layers[0].name) == ("vgg16", (None, 1000), "images")
    keras.utils.clear_session()


def test_resnet50():
    # He et al. (2015), table 1: 7x7 kernels, then bottlenecks of 1x1, 3x3, 1x1; each stage's first block halves the
    # side in its first kernel (but for the first stage) and has a projection beside it. Every convolution has a bias
    # here, and BatchNorm four numbers a channel.
    macs, numbers, maps = 112 * 112 * 7 * 7 * 3 * 64, 7 * 7 * 3 * 64 + 5 * 64, 64
    for side, width, wide, blocks in [
        (56, 64, 256, 3),
        (28, 128, 512, 4),
        (14, 256, 1024, 6),
        (7, 512, 2048, 3),
    ]:
        kernels = maps * width + 3 * 3 * width * width + width * wide + maps * wide
        kernels += (blocks - 1) * (wide * width + 3 * 3 * width * width + width * wide)
        macs += side * side * kernels
        numbers += kernels + 5 * (blocks * (width + width + wide) + wide)
        maps = wide
    model = build(compose_model(["model=resnet50"]))
    rows = layer_table(model)
    assert model.count_params() == total(rows).parameters == numbers + 2048 * 1000 + 1000 == 25_636_712
    assert total(rows).macs == macs + 2048 * 1000 == 3_857_973_248
    ends = {row.name: row.output_shape for row in rows}
    assert [ends[f"conv{stage}_block{block}_out"] for stage, block in ((2, 3), (3, 4), (4, 6), (5, 3))] == [
        (56, 56, 256),
        (28, 28, 512),
        (14, 14, 1024),
        (7, 7, 2048),
    ]
    assert model.name == "resnet50"
    keras.utils.clear_session()


@pytest.mark.slow
def test_weights_follow_the_seed_and_the_layers_name():
    first, again, other = (tiny_resnet(seed=seed) for seed in (1, 1, 2))
    kernels = [variable.path for variable in first.variables if variable.path.endswith("kernel")]
    assert len(kernels) == 54
    same = {
        variable.path: [np.array_equal(variable, twin) for twin in twins]
        for variable, *twins in zip(first.variables, again.variables, other.variables, strict=True)
    }
    assert all(equal for equal, _ in same.values())
    assert [path for path, (_, equal) in same.items() if not equal] == kernels
    # Two layers of one shape start apart, by Glorot and Bengio's bound as in keras.applications.
    a, b = (first.get_layer(f"conv2_block{block}_2_conv").kernel.numpy() for block in (1, 2))
    assert not np.array_equal(a, b)
    bound = np.sqrt(6 / (3 * 3 * 64 + 3 * 3 * 64))
    assert 0.999 * bound < abs(a).max() <= bound


@pytest.mark.parametrize(
    ("dtype", "compute", "variables"),
    [
        ("float64", "float64", "float64"),
        ("mixed_bfloat16", "bfloat16", "float32"),
    ],
)
def test_dtypes(dtype, compute, variables):
    model = tiny_resnet(dtype=dtype)
    for layer in model.layers[1:-1]:
        assert (layer.compute_dtype, layer.variable_dtype) == (compute, variables), layer.name
    assert model.layers[-1].compute_dtype == model.output.dtype == variables
    assert {variable.dtype for variable in model.variables} == {variables}
    assert np.isfinite(model(np.ones((1, 32, 32, 3)))).all()
    assert keras.config.dtype_policy().name == "float32"


def test_gives_logits_of_any_number_of_channels():
    sizes = {"num_classes": 7, "input_size": 32, "input_channels": 1}
    model = build(compose_model(["model=vgg16", "model.name=mine"], sizes))
    images = np.random.default_rng(0).normal(0, 50, (2, 32, 32, 1)).astype("float32")
    assert model.name == "mine"
    logits = model(images).numpy()
    assert logits.shape == (2, 7)
    assert not np.allclose(logits.sum(-1), 1)
    assert (logits < 0).any()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("vgg16", {"input_size": 31}, r"^model\.input_size=31: expected at least 32$"),
        ("resnet50", {"num_classes": 1}, r"^model\.num_classes=1: expected at least 2$"),
        ("resnet50", {"activation": "tanh"}, r"activation: no such key\. .*application"),
        ("resnet50", {"stages": {}}, r"stages: no such key"),
        ("vgg16", {"application": "vgg19"}, r"application: .*vgg19.* one of.*vgg16.*resnet50"),
    ],
)
def test_wrong_configs(name, changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build_model(name, **changes)
    assert "\n" not in str(caught.value)
