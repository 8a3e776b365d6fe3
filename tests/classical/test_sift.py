"""SIFT descriptors and bags of words against the paper's formula, scikit-image and what they promise."""

import math

import numpy as np
import pytest

from alexnet_tf.classical import bags_of_words, make_vocabulary, sift_descriptors


def smooth_pictures(count, size, channels=1):
    noise = np.random.default_rng(1).normal(size=(count, size + 8, size + 8, channels))
    kernel = np.hanning(9) / np.hanning(9).sum()
    for axis in (1, 2):
        noise = np.apply_along_axis(np.convolve, axis, noise, kernel, "valid")
    return 128 + 300 * noise


def by_loops(grey, cell):
    """Lowe (2004), section 6.1, pixel by pixel, of the one window in the middle of a smoothed image."""
    size = len(grey)
    middle, sums = (size - 1) / 2, np.zeros((4, 4, 8))
    dy, dx = np.gradient(grey)
    for r in range(size):
        for c in range(size):
            y, x = r - middle, c - middle
            weight = math.hypot(dy[r, c], dx[r, c]) * math.exp(-(x * x + y * y) / (2 * (2 * cell) ** 2))
            row, column = y / cell + 1.5, x / cell + 1.5
            angle = math.atan2(dy[r, c], dx[r, c]) / (2 * math.pi) * 8 % 8
            for i in range(4):
                for j in range(4):
                    share = max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j))
                    below = int(angle)
                    sums[i, j, below % 8] += weight * share * (1 - (angle - below))
                    sums[i, j, (below + 1) % 8] += weight * share * (angle - below)
    clipped = np.minimum(sums / np.linalg.norm(sums), 0.2)
    return (clipped / np.linalg.norm(clipped)).ravel()


def test_a_descriptor_is_that_of_the_formula():
    images = smooth_pictures(
        1, 8
    )  # one window of 4 x 1 pixels has no blur; centres 3 apart are (8 - 4) // 3 + 1 = 2
    found = sift_descriptors(images, cell=1, step=8)
    assert found.shape == (1, 1, 128)
    np.testing.assert_allclose(found[0, 0], by_loops(images[0, ..., 0], 1), atol=1e-6)


def test_scikit_image_finds_the_same():
    feature = pytest.importorskip("skimage.feature", reason="the extra classical is not installed")
    image = smooth_pictures(1, 47)
    sift = feature.SIFT(upsampling=1, n_octaves=1, sigma_min=4 / 3)  # whose cells are 3 sigma wide
    sift.positions, sift.sigmas = np.array([[23.0, 23.0]]), np.array([4 / 3])
    sift.scales, sift.octaves, sift.orientations = np.array([0]), np.array([0]), np.array([0.0])
    sift.extract(image[0, ..., 0] / 255)
    theirs = sift.descriptors[0].reshape(4, 4, 8).astype(float)
    theirs = theirs[..., (2 - np.arange(8)) % 8].ravel()  # it counts from the rows towards the columns
    ours = sift_descriptors(image, cell=4, step=47)[0, 0]
    assert ours @ theirs / np.linalg.norm(theirs) > 0.999


def test_windows_lie_on_a_centred_grid():
    assert sift_descriptors(smooth_pictures(2, 32, 3), cell=3, step=3).shape == (2, 49, 128)
    image = smooth_pictures(1, 32)
    turned = sift_descriptors(np.rot90(image, axes=(1, 2)), cell=3, step=4).reshape(6, 6, 4, 4, 8)
    # A quarter turn to the left turns the grid, each window's cells, and every gradient by two bins of 45 degrees.
    straight = sift_descriptors(image, cell=3, step=4).reshape(6, 6, 4, 4, 8)
    expected = np.roll(np.rot90(np.rot90(straight, axes=(0, 1)), axes=(2, 3)), -2, axis=-1)
    np.testing.assert_allclose(turned, expected, atol=1e-6)


def test_brightness_and_contrast_do_not_matter_and_flat_images_say_nothing():
    image = smooth_pictures(1, 24)
    found = sift_descriptors(image, 3, 3)
    np.testing.assert_allclose(sift_descriptors(0.3 * image + 40, 3, 3), found, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(sift_descriptors(np.full((1, 24, 24, 3), 77.3), 3, 3), 0)


def test_the_vocabulary_are_the_centres():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 128)).astype(np.float32)
    descriptors = centres[rng.integers(0, 5, (100, 20))] + 0.01 * rng.normal(size=(100, 20, 128))
    found = make_vocabulary(descriptors.astype(np.float32), 5, seed=0)
    nearest = np.linalg.norm(found[:, None] - centres, axis=-1)
    assert sorted(nearest.argmin(axis=1)) == [0, 1, 2, 3, 4]
    assert nearest.min(axis=1).max() < 0.05
    with pytest.raises(ValueError, match="30 words need at least as many descriptors, there are 20"):
        make_vocabulary(descriptors[:1], 30, seed=0)


def test_a_bag_counts_the_nearest_words():
    words = np.eye(3, 128, dtype=np.float32)
    bags = bags_of_words(np.stack([words[[0, 0, 2, 0]], 1.1 * words[[1, 1, 1, 1]]]), words)
    np.testing.assert_allclose(bags**2, [[0.75, 0, 0.25], [0, 1, 0]], atol=1e-7)
    random = np.random.default_rng(0).random((4, 30, 128), np.float32)
    np.testing.assert_allclose((bags_of_words(random, random[0]) ** 2).sum(axis=1), 1, rtol=1e-5)
