"""Kernels as pictures, their colour, and columns that differ in it."""

import numpy as np

from alexnet_tf.visualize.kernels import colourfulness, kernel_images, specialisation


def kernel(*filters):
    """Kernels of 2x2 pixels from one colour each, or from `[2, 2, 3]`."""
    return np.stack([np.broadcast_to(np.array(each, np.float32), (2, 2, 3)) for each in filters], axis=-1)


def test_grey_has_no_colour_and_opposites_have_only_colour():
    found = colourfulness(kernel([2, 2, 2], [1, -1, 0], [1, 0, 0], [0, 0, 0]))
    np.testing.assert_allclose(found, [0, 1, 2 / 3, 0], atol=1e-12)  # (1, 0, 0): 1/3 is its grey


def test_noise_is_two_thirds_colour_whatever_its_scale():
    noise = np.random.default_rng(0).normal(size=(11, 11, 3, 500)).astype(np.float32)
    assert abs(colourfulness(noise).mean() - 2 / 3) < 0.01
    np.testing.assert_allclose(colourfulness(5 * noise), colourfulness(noise), rtol=1e-5)


def test_columns_that_specialise():
    rng = np.random.default_rng(1)
    grey = np.repeat(rng.normal(size=(5, 5, 1, 12)), 3, axis=2)
    noise = rng.normal(size=(5, 5, 3, 12))
    found = specialisation(np.concatenate([grey, noise], axis=-1), columns=2)
    np.testing.assert_allclose(found.means[0], 0, atol=1e-12)
    assert found.difference == found.means[1] - found.means[0]
    assert found.p_value == 1 / 10_000  # none of 9,999 random divisions of 24 kernels separates them so


def test_columns_of_the_same_kind():
    noise = np.random.default_rng(2).normal(size=(5, 5, 3, 32))
    assert specialisation(noise, columns=2).p_value > 0.05
    alike = np.tile(noise[..., :1], 8)
    assert specialisation(alike, columns=2).p_value == 1  # no division differs from another


def test_the_p_value_is_the_share_of_divisions():
    """Two columns of two kernels, colour 0, 0, 1, 1: of the six divisions two differ as much."""
    found = specialisation(kernel([1, 1, 1], [2, 2, 2], [1, -1, 0], [0, 1, -1]), columns=2)
    assert found.difference == 1
    assert abs(found.p_value - 2 / 6) < 0.02


def test_pictures_of_kernels():
    values = np.zeros((2, 2, 3, 2), np.float32)
    values[0, 1, 2, 0], values[1, 0, 0, 0] = -4, 2
    images = kernel_images(values)
    assert images.shape == (2, 2, 2, 3)
    assert images[0, 0, 1, 2] == 0
    assert images[0, 1, 0, 0] == 0.75
    assert (images[1] == 0.5).all()  # zeros are grey, not a division by zero
