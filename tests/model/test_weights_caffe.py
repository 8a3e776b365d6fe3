"""Caffe's files, from bytes that a wire encoder of its own wrote after the public schema."""

import numpy as np
import pytest
from caffe_bytes import blob, block, layer, old_layer

from alexnet_tf.model.weights import CAFFE, WeightsError, read_mean_blob, read_weights

KERNEL = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 7
DENSE = np.arange(8, dtype=np.float32).reshape(2, 4) - 3
BIAS = np.array([0.25, -1], np.float32)
NEW = [
    block(1, "CaffeNet"),
    layer("data", "Data"),
    layer("conv1", "Convolution", KERNEL, BIAS),
    layer("relu1", "ReLU"),
    layer("fc6", "InnerProduct", DENSE, BIAS),
]
OLD = [
    block(1, "CaffeNet"),
    old_layer("conv1", 4, KERNEL, BIAS),
    old_layer("relu1", 18),
    old_layer("fc6", 14, DENSE, BIAS),
]
UPGRADED = [  # old blobs in the new layers, as Caffe's upgrade tool leaves them
    layer("conv1", "Convolution", KERNEL, BIAS, legacy=True),
    layer("fc6", "InnerProduct", DENSE, BIAS, legacy=True),
]
DOUBLE = [
    layer("conv1", "Convolution", KERNEL, BIAS, double=True),
    layer("fc6", "InnerProduct", DENSE, BIAS, double=True),
]


@pytest.mark.parametrize("parts", [NEW, OLD, UPGRADED, DOUBLE], ids=["new", "old", "upgraded", "double"])
def test_a_caffemodel(tmp_path, parts):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"".join(parts))
    weights = read_weights(path)
    assert weights.layout == CAFFE
    assert list(weights.arrays) == ["conv1.weight", "conv1.bias", "fc6.weight", "fc6.bias"]
    for name, expected in zip(weights.arrays, [KERNEL, BIAS, DENSE, BIAS], strict=True):
        assert weights.arrays[name].dtype == np.float32
        np.testing.assert_array_equal(weights.arrays[name], expected)


def test_a_mean_image(tmp_path):
    image = np.random.default_rng(0).uniform(0, 255, [3, 4, 5]).astype(np.float32)
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(blob(image, legacy=True))
    np.testing.assert_array_equal(read_mean_blob(path), image)


good = b"".join(NEW)
short = block(
    100,
    block(1, "conv1")
    + block(2, "Convolution")
    + block(7, block(7, block(1, b"\x02\x02")) + block(5, bytes(12))),
)
DAMAGED = [
    (good[:-5], "damaged, or no NetParameter of Caffe's"),
    (b"this is a text", "damaged, or no NetParameter of Caffe's"),
    (b"", "holds no weights"),
    (short, r"conv1.weight: damaged: expected as many numbers as its shape \[2, 2\] has, found 3"),
    (layer("bn1", "BatchNorm", BIAS), "the layer bn1 has weights of the type BatchNorm"),
    (layer("conv1", "Convolution", KERNEL * np.nan), "conv1.weight: expected finite numbers, found NaN"),
    (
        layer("conv1", "Convolution", KERNEL.astype(np.float64) * 1e300, double=True),
        "conv1.weight: expected finite numbers",
    ),
]


@pytest.mark.parametrize(("content", "message"), DAMAGED, ids=[case[1][:30] for case in DAMAGED])
def test_a_damaged_caffemodel(tmp_path, content, message):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        read_weights(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_mean_that_is_none(tmp_path):
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(blob(BIAS, legacy=True)[:-2])
    with pytest.raises(WeightsError, match="no BlobProto"):
        read_mean_blob(path)
    with pytest.raises(WeightsError, match=r"cannot be read \(Is a directory\)"):
        read_mean_blob(tmp_path)
