"""Histograms of oriented gradients against what the method promises."""

import numpy as np
import pytest

from alexnet_tf.classical import hog_features
from alexnet_tf.config import compose_model

pytest.importorskip("skimage", reason="the extra classical is not installed")


def config(*overrides):
    return compose_model(["model=hog_svm", *overrides])


def pictures(count=3, size=32, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, channels)).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "cell", "block", "orientations", "length"),
    [(32, 8, 2, 9, 3 * 3 * 4 * 9), (32, 4, 2, 9, 7 * 7 * 4 * 9), (35, 5, 3, 6, 5 * 5 * 9 * 6)],
)
def test_the_length_is_blocks_times_cells_times_orientations(size, cell, block, orientations, length):
    keys = {"input_size": size, "cell": cell, "block": block, "orientations": orientations}
    features = hog_features(pictures(2, size), config(*(f"model.{k}={v}" for k, v in keys.items())))
    assert features.shape == (2, length)
    assert features.dtype == np.float32


def test_brightness_and_contrast_do_not_matter():
    images = pictures() / 2
    np.testing.assert_allclose(
        hog_features(0.4 * images + 50, config()), hog_features(images, config()), atol=1e-5
    )


@pytest.mark.parametrize(("axis", "bin_"), [(1, 0), (0, 4)])  # gradients of 0 and 90 degrees; bins of 20
def test_a_ramp_has_one_orientation(axis, bin_):
    ramp = np.moveaxis(np.broadcast_to(np.arange(32.0) * 8, (32, 32)), 1, axis)[None, ..., None]
    histograms = hog_features(ramp, config()).reshape(-1, 9)
    energy = (histograms**2).sum(axis=0)
    assert energy[bin_] > 0.99 * energy.sum() > 0


def test_grey_images_and_grey_in_three_channels_are_the_same():
    grey = pictures(channels=1)
    np.testing.assert_array_equal(
        hog_features(grey, config()), hog_features(np.repeat(grey, 3, axis=-1), config())
    )
