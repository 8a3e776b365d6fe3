"""Draws of many seeds at once are those that TensorFlow makes of each."""

from zlib import crc32

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data.draws import Draws, philox_blocks

SEEDS = np.random.default_rng(0).integers(-(2**63), 2**63, (200, 2))


def test_a_block_has_the_bits_of_a_stateless_operation() -> None:
    expected = [
        tf.random.stateless_uniform([4], seed, minval=None, maxval=None, dtype=tf.uint32) for seed in SEEDS
    ]
    np.testing.assert_array_equal(philox_blocks(tf.constant(SEEDS)), expected)


def test_a_name_draws_the_same_in_a_batch_and_alone() -> None:
    together = Draws(SEEDS, ("flip", "pca"))
    alone = [Draws(seed) for seed in SEEDS]
    for name in ("flip", "pca"):
        np.testing.assert_array_equal(together.words(name), [draws.words(name) for draws in alone])
        np.testing.assert_array_equal(
            together.uniform(name, 3, -2, 5), [draws.uniform(name, 3, -2, 5) for draws in alone]
        )
        np.testing.assert_array_equal(
            together.integers(name, tf.constant([9, 33], tf.int64)),
            [draws.integers(name, tf.constant([9, 33], tf.int64)) for draws in alone],
        )
        np.testing.assert_array_equal(together.normal(name, 3), [draws.normal(name, 3) for draws in alone])
    assert (together.words("flip").numpy() != together.words("pca").numpy()).mean() > 0.99


def test_distributions_are_those_of_tensorflow() -> None:
    draws = Draws(SEEDS[0])
    seed = SEEDS[0] ^ [crc32(b"flip") & 0x7FFFFFFF, 0]
    np.testing.assert_array_equal(
        draws.uniform("flip", 7, 0.3, 1.7), tf.random.stateless_uniform([7], seed, 0.3, 1.7)
    )
    np.testing.assert_allclose(
        draws.normal("flip", 4), tf.random.stateless_normal([4], seed), rtol=1e-5, atol=1e-6
    )


def test_a_batch_draws_one_block() -> None:
    with pytest.raises(ValueError, match=r"flip draws 5 numbers. Expected at most 4 in a batch"):
        Draws(SEEDS, ("flip",)).words("flip", 5)
