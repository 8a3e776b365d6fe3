"""Views of an image against crops cut by hand, through to the network's input."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config import ConfigError
from alexnet_tf.config.schema import (
    AugmentConfig,
    CropConfig,
    DataConfig,
    FlipConfig,
    MeanKind,
    PadCropConfig,
    PCAConfig,
    RandomResizedCropConfig,
    ResizeConfig,
    ScaleConfig,
    SubtractMeanConfig,
)
from alexnet_tf.data import Statistics, eval_batches, load_source, preprocess_images

PAPER = AugmentConfig(
    order=["resize", "center_crop", "subtract_mean", "random_crop", "flip", "pca"],
    resize=ResizeConfig(size=20),
    center_crop=CropConfig(size=18),
    subtract_mean=SubtractMeanConfig(kind=MeanKind.image),
    random_crop=CropConfig(size=14),
    flip=FlipConfig(),
    pca=PCAConfig(),
)


def statistics(side: int) -> Statistics:
    mean = np.random.default_rng(side).uniform(0, 255, [side, side, 3]).astype(np.float32)
    return Statistics(mean, mean.mean((0, 1)), np.eye(3), np.ones(3), np.eye(3), 9)


def cut(image: np.ndarray, size: int) -> np.ndarray:
    """The ten views: top left, top right, bottom left, bottom right, centre, and each mirrored."""
    high, wide = image.shape[0] - size, image.shape[1] - size
    crops = [
        image[:size, :size],
        image[:size, wide:],
        image[high:, :size],
        image[high:, wide:],
        image[high // 2 : high // 2 + size, wide // 2 : wide // 2 + size],
    ]
    return np.stack([*crops, *(crop[:, ::-1] for crop in crops)])


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    """Noisy, none of them square, the shorter side 20."""
    generator = np.random.default_rng(1)
    return [generator.integers(0, 256, shape, np.uint8) for shape in [(20, 31, 3), (27, 20, 3), (20, 24, 3)]]


@pytest.fixture(scope="module")
def folder(photos, tmp_path_factory):
    """Two classes: the first two photos, and the third."""
    root = tmp_path_factory.mktemp("photos")
    for number, photo in enumerate(photos):
        path = root / ("a" if number < 2 else "b") / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tf.io.encode_png(photo).numpy())
    return load_source(DataConfig(name="folder", dir=str(root), validation_fraction=0.0))


@pytest.mark.parametrize("views", [5, 10])
def test_the_papers_views_reach_the_network(folder, photos, views):
    known = statistics(18)
    batches = eval_batches(folder, "train", PAPER, known, batch_size=2, views=views)
    assert batches.element_spec[0] == tf.TensorSpec([2, views, 14, 14, 3], tf.float32)
    assert len(batches) == 2
    images, labels, weights = (np.concatenate(column) for column in zip(*batches, strict=True))
    assert list(labels[:3]) == [0, 0, 1]
    assert list(weights) == [1, 1, 1, 0]
    for photo, got in zip(photos, images, strict=False):
        top, left = (photo.shape[0] - 18) // 2, (photo.shape[1] - 18) // 2
        centre = photo[top : top + 18, left : left + 18].astype(np.float32) - known.mean_image
        np.testing.assert_allclose(got, cut(centre, 14)[:views], atol=1e-3)
        again = preprocess_images(photo[np.newaxis], PAPER, known, views=views)
        np.testing.assert_allclose(again[0], got, atol=1e-3)


CASES = {
    "random_crop": (
        AugmentConfig(order=["random_crop"], random_crop=CropConfig(size=14)),
        lambda image: cut(image, 14),
    ),
    "center_crop": (
        AugmentConfig(order=["center_crop"], center_crop=CropConfig(size=14)),
        lambda image: cut(image, 14),
    ),
    "random_resized_crop": (
        AugmentConfig(
            order=["random_resized_crop"],
            random_resized_crop=RandomResizedCropConfig(size=15, eval_resize=20),
        ),
        lambda image: cut(image, 15),
    ),
    "pad_crop": (
        AugmentConfig(order=["pad_crop"], pad_crop=PadCropConfig(size=20, padding=3)),
        lambda image: cut(np.pad(image, [(3, 3), (3, 3), (0, 0)]), 20),
    ),
    "the last crop": (
        AugmentConfig(
            order=["center_crop", "pad_crop", "random_crop"],
            center_crop=CropConfig(size=19),
            pad_crop=PadCropConfig(size=17, padding=4),
            random_crop=CropConfig(size=9),
        ),
        # The centres of both: 17 of 19, and padding does not move it.
        lambda image: cut(middle(middle(image, 19), 17), 9),
    ),
    "the mean image and the scale after it": (
        AugmentConfig(
            order=["random_crop", "subtract_mean", "scale"],
            random_crop=CropConfig(size=14),
            subtract_mean=SubtractMeanConfig(kind=MeanKind.image),
            scale=ScaleConfig(divisor=64.0),
        ),
        lambda image: (cut(image, 14) - statistics(14).mean_image) / 64,
    ),
    "sizes change after it": (
        AugmentConfig(
            order=["random_crop", "resize"], random_crop=CropConfig(size=14), resize=ResizeConfig(size=7)
        ),
        lambda image: tf.image.resize(cut(image, 14), [7, 7], antialias=True).numpy(),
    ),
}


def middle(image: np.ndarray, size: int) -> np.ndarray:
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


@pytest.mark.parametrize("case", list(CASES))
def test_every_crop_against_numpy(folder, photos, case):
    augment, by_hand = CASES[case]
    known = statistics(14)
    (batch,) = eval_batches(folder, "train", augment, known, batch_size=3, views=10)
    for photo, got in zip(photos, batch[0].numpy(), strict=True):
        expected = by_hand(photo.astype(np.float32))
        np.testing.assert_allclose(got, expected, atol=1e-3)
        # As one image of a known size, where all runs on batches.
        batched = preprocess_images(np.stack([photo, photo]), augment, known, views=10)
        np.testing.assert_allclose(batched, np.stack([expected, expected]), atol=1e-3)


@pytest.mark.parametrize("case", list(CASES))
def test_the_fifth_view_is_the_evaluation_crop(folder, case):
    augment, _ = CASES[case]
    known = statistics(14)
    (one,) = eval_batches(folder, "train", augment, known, batch_size=3)
    (five,) = eval_batches(folder, "train", augment, known, batch_size=3, views=5)
    np.testing.assert_allclose(five[0][:, 4], one[0], atol=1e-3)


def test_images_without_a_batch_dimension_known(photos):
    augment, by_hand = CASES["pad_crop"]
    traced = tf.function(lambda images: preprocess_images(images, augment, None, views=5))
    concrete = traced.get_concrete_function(tf.TensorSpec([None, None, None, 3], tf.uint8))
    for photo in photos:
        got = concrete(tf.constant(photo[np.newaxis]))
        np.testing.assert_allclose(got[0], by_hand(photo.astype(np.float32))[:5], atol=1e-3)


@pytest.mark.parametrize("views", [0, 2, 3, 20])
def test_other_numbers_of_views(folder, views):
    with pytest.raises(ConfigError, match=f"^views={views}: expected one of 1, 5, 10$"):
        eval_batches(folder, "train", PAPER, statistics(18), batch_size=2, views=views)


def test_without_a_crop_there_are_no_views(folder):
    augment = replace(PAPER, order=["resize", "random_crop"], random_crop=None)
    with pytest.raises(ConfigError) as caught:
        eval_batches(folder, "train", augment, None, batch_size=2, views=5)
    assert str(caught.value) == (
        "views=5: expected an operation that crops in augment.order, one of random_crop, random_resized_crop, "
        "pad_crop, center_crop. Received [resize, random_crop]"
    )


@pytest.mark.parametrize("views", [5, 10])
def test_a_crop_without_room_is_refused(folder, digits, views):
    message = (
        rf"^views={views}: expected images larger than augment\.random_crop\.size=18 at its place in "
        r"augment\.order, received 18x18: all crops would be the same\. Use views=1$"
    )
    augment = replace(PAPER, random_crop=CropConfig(size=18))
    with pytest.raises(ConfigError, match=message):
        eval_batches(folder, "train", augment, statistics(18), batch_size=2, views=views)
    whole = AugmentConfig(order=["pad_crop"], pad_crop=PadCropConfig(size=8, padding=0))
    with pytest.raises(ConfigError, match=r"augment\.pad_crop\.size=8 at its place"):
        eval_batches(digits, "validation", whole, None, batch_size=2, views=views)
    assert next(iter(eval_batches(digits, "validation", whole, None, batch_size=2)))[0].shape == (2, 8, 8, 1)
