"""A frame and what is done inside are together the run's preprocessing."""

import numpy as np
import pytest

import alexnet_tf
from alexnet_tf.config import ConfigError
from alexnet_tf.data import Statistics, preprocess_images
from alexnet_tf.export.frame import make_frame

RECIPES = {  # model, augment, more: the side of the frame, the operations before it
    "paper": (["augment=paper"], 256, ["resize", "center_crop"]),
    "caffe": (["augment=caffe"], 256, ["resize"]),
    "owt": (["augment=owt"], 224, ["random_resized_crop"]),
    "center": (["augment=center"], 224, ["resize", "center_crop"]),
    "crop of the whole": (
        ["augment=paper", "augment.order=[resize,subtract_mean,random_crop]", "augment.subtract_mean.kind=channel"],
        224,
        ["resize", "random_crop"],
    ),
}  # fmt: skip


def config(overrides):
    return alexnet_tf.compose(["model=alexnet", "data=folder", "data.dir=x", *overrides]).augment


def statistics(size):
    rng = np.random.default_rng(3)
    return Statistics(
        count=2,
        mean_image=rng.uniform(90, 150, [size, size, 3]).astype(np.float32),
        mean_channel=np.array([120, 110, 100], np.float32),
        covariance=np.diag([1.0, 2.0, 3.0]),
        eigenvalues=np.array([1, 2, 3], np.float32),
        eigenvectors=np.eye(3, dtype=np.float32),
    )


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("shape", [[1, 300, 257, 3], [2, 260, 401, 3]])
def test_both_parts_are_the_whole(name, shape):
    overrides, size, before = RECIPES[name]
    augment, known = config(overrides), statistics(256 if name in ("paper", "caffe") else 224)
    frame = make_frame(augment, known, None)
    assert (frame.size, list(frame.before.order)) == (size, before)
    images = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    frames = frame.cut(images)
    assert (frames.shape, frames.dtype) == ((shape[0], size, size, 3), np.float32)
    whole = preprocess_images(images, augment, known)
    np.testing.assert_allclose(frame.preprocess(frames, 1), whole, atol=1e-4)


@pytest.mark.parametrize("name", ["paper", "caffe"])
def test_both_parts_are_the_whole_of_ten_views(name):
    augment, known = config(RECIPES[name][0]), statistics(256)
    frame = make_frame(augment, known, None, views=10)
    images = np.random.default_rng(1).integers(0, 256, [2, 260, 401, 3], np.uint8)
    whole = preprocess_images(images, augment, known, views=10)
    np.testing.assert_allclose(frame.preprocess(frame.cut(images), 10), whole, atol=1e-4)


@pytest.mark.parametrize(("shape", "size", "before"), [([32, 32, 3], 32, []), (None, 32, ["pad_crop"])])
def test_stored_images_of_one_size_are_frames_as_they_are(shape, size, before):
    augment = alexnet_tf.compose(["model=alexnet_small", "data=cifar10", "data.dir=x"]).augment
    frame = make_frame(augment, statistics(32), shape)
    assert (frame.size, list(frame.before.order)) == (size, before)


def test_views_that_are_cut_from_images_of_any_size_need_a_savedmodel():
    with pytest.raises(
        ConfigError, match=r"--views 10: expected .* before augment.random_resized_crop cuts them"
    ):
        make_frame(config(["augment=owt"]), statistics(224), None, views=10)
