"""Neighbours, maps in a plane, confident mistakes, confusions: known answers."""

import numpy as np
import pytest

from alexnet_tf.visualize.answers import confident_mistakes, confusion
from alexnet_tf.visualize.features import nearest, plane_maps


def test_the_nearest_of_a_duplicate_is_its_twin():
    base = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    found, distances = nearest(base[[7, 31]], base, 3)
    assert found[:, 0].tolist() == [7, 31]
    assert (distances[:, 0] == 0).all()
    assert (np.diff(distances, axis=1) > 0).all()
    by_hand = np.argsort(((base - base[7]) ** 2).sum(axis=1))[:3]
    assert found[0].tolist() == by_hand.tolist()


def test_more_neighbours_than_points():
    assert nearest(np.zeros((1, 2)), np.array([[2.0, 0], [1, 0]]), 9)[0].tolist() == [[1, 0]]


def test_maps_keep_groups_apart():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 0.1, (30, 20)), rng.normal(5, 0.1, (30, 20))])
    maps = plane_maps(features)
    assert maps.pca.shape == maps.tsne.shape == (60, 2)
    assert maps.explained[0] > 0.9
    assert maps.perplexity == pytest.approx(59 / 3)
    for points in (maps.pca, maps.tsne):
        middles = points[:30].mean(axis=0), points[30:].mean(axis=0)
        assert (
            np.linalg.norm(middles[0] - middles[1]) > np.linalg.norm(points[:30] - middles[0], axis=1).max()
        )
    np.testing.assert_array_equal(plane_maps(features).tsne, maps.tsne)


def test_too_few_points_for_a_map():
    with pytest.raises(ValueError, match=r"at least 4 points of 2 dimensions\. Received: 3 of 5"):
        plane_maps(np.zeros((3, 5)))


def test_mistakes_and_confusions():
    rows = np.log([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    labels = np.array([0, 1, 0, 1])
    assert confident_mistakes(rows, labels, 5).tolist() == [2, 1]
    assert confident_mistakes(rows, labels, 1).tolist() == [2]
    assert confusion(rows, labels).tolist() == [[1, 1], [1, 1]]
    assert not len(confident_mistakes(rows, np.array([0, 0, 1, 1]), 5))
