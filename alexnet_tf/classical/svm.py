"""A linear support vector machine for several classes, one against the rest."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

C_CHOICES = tuple(10.0**power for power in range(-6, 2))
"""Weights of the loss that `fit_best_svm` tries, for features of variance 1."""
HELD_OUT = 0.2
"""The fraction of the training examples by which it chooses."""
FEWEST = 5
"""Training examples without which nothing can be held out."""
ITERATIONS = 10_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LinearSVM:
    """The fitted planes: `coefficients` float32 `[classes, features]` and `intercepts` float32 `[classes]`."""

    coefficients: np.ndarray
    intercepts: np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        """The signed distances, in units of the margin, float32 `[N, classes]`; the largest one is the answer."""
        return features @ self.coefficients.T + self.intercepts


def fit_svm(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    *,
    c: float,
    iterations: int,
    seed: int,
    between: Callable[[], None] = lambda: None,
) -> LinearSVM:
    """Fit by scikit-learn's LinearSVC (liblinear): the squared hinge loss and the squared norm of the coefficients.

    Args:
        features: float32 `[N, F]`.
        labels: int `[N]`, below `classes`.
        classes: How many there are; one without examples always has the score -1.
        c: Weight of the loss.
        iterations: At most so many passes of the solver; a warning is logged where they are not enough.
        seed: Of the order in which the solver visits the examples.
        between: Called after each class, so that a long fit can be interrupted.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    coefficients = np.zeros((classes, features.shape[1]), np.float32)
    intercepts = np.full(classes, -1, np.float32)
    features = np.asarray(features, np.float64)  # liblinear's; once, not for each class
    unfinished = 0
    for label in np.unique(labels):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            svm = LinearSVC(C=c, max_iter=iterations, random_state=seed).fit(features, labels == label)
        unfinished += any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
        coefficients[label], intercepts[label] = svm.coef_[0], svm.intercept_[0]
        between()
    if unfinished:
        logger.warning(
            "model.iterations=%d: not enough for %d of %d classes", iterations, unfinished, classes
        )
    return LinearSVM(coefficients, intercepts)


def fit_best_svm(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    *,
    seed: int,
    choices: tuple[float, ...] = C_CHOICES,
) -> tuple[LinearSVM, float]:
    """Fit with the C of the lowest error on held-out training examples, the smallest of equals, on all of them again.

    Args:
        features: float32 `[N, F]`, of any scale: they are brought to mean 0 and variance 1, which the planes undo.
        labels: int `[N]`, below `classes`.
        classes: How many there are.
        seed: Of what is held out, and the solver.
        choices: Of C.

    Returns:
        The classifier of features as they come, and its C.

    Raises:
        ValueError: If there are fewer than `FEWEST` examples, or only one class among them.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    out, rest = np.split(order, [max(1, round(HELD_OUT * len(labels)))])
    if len(labels) < FEWEST or len(np.unique(labels[rest])) < 2:
        raise ValueError(f"{len(labels)} training examples are too few for a classifier of {classes} classes")
    errors = {}
    for c in choices:
        svm = _fit_scaled(features[rest], labels[rest], classes, c, seed)
        errors[c] = np.mean(svm.scores(features[out]).argmax(axis=1) != labels[out])
    best = min(sorted(errors), key=lambda c: errors[c])
    return _fit_scaled(features, labels, classes, best, seed), best


def _fit_scaled(features: np.ndarray, labels: np.ndarray, classes: int, c: float, seed: int) -> LinearSVM:
    """Fit on features of mean 0 and variance 1, and take both back into the planes."""
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    svm = fit_svm((features - mean) * scale, labels, classes, c=c, iterations=ITERATIONS, seed=seed)
    coefficients = svm.coefficients * scale
    return LinearSVM(coefficients, svm.intercepts - coefficients @ mean)
