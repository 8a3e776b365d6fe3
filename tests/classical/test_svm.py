import numpy as np
import pytest
from sklearn.datasets import load_digits

from alexnet_tf.classical import fit_svm


@pytest.fixture(scope="module")
def digits():
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    return (bunch.data[order] / 16).astype(np.float32), bunch.target[order]


def test_pixels_of_digits_are_told_apart(digits):
    features, labels = digits
    svm = fit_svm(features[:1200], labels[:1200], 10, c=0.1, iterations=1000, seed=0)
    scores = svm.scores(features[1200:])
    assert scores.shape == (597, 10)
    assert (scores.argmax(axis=1) != labels[1200:]).mean() < 0.07  # 5.4 %


def test_the_fit_is_the_least_of_its_objective(digits):
    """Of 1/2 |w|^2 + 1/2 b^2 + c sum max(0, 1 - y (w x + b))^2, whose gradient vanishes there."""
    features, labels = digits[0][:300], digits[1][:300]
    c = 0.05
    svm = fit_svm(features, labels, 10, c=c, iterations=10000, seed=0)
    y = np.where(labels[:, None] == np.arange(10), 1.0, -1.0)
    slack = np.maximum(0, 1 - y * svm.scores(features))
    gradient = svm.coefficients - 2 * c * (y * slack).T @ features
    assert np.abs(gradient).max() < 1e-2 * np.abs(svm.coefficients).max()
    np.testing.assert_allclose(svm.intercepts, 2 * c * (y * slack).sum(axis=0), atol=1e-2)


def test_a_class_without_examples_never_wins_by_chance(digits):
    features, labels = digits
    svm = fit_svm(features[:200], labels[:200] % 3, 5, c=0.1, iterations=1000, seed=0)
    np.testing.assert_array_equal(svm.scores(features[:50])[:, 3:], -1)


def test_too_few_iterations_are_said(digits, caplog):
    features, labels = digits
    fit_svm(features[:200], labels[:200], 10, c=10.0, iterations=1, seed=0)
    assert "model.iterations=1: not enough for 10 of 10 classes" in caplog.text


def test_it_can_be_interrupted_between_classes(digits):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_svm(digits[0], digits[1], 10, c=0.1, iterations=10, seed=0, between=interrupt)
