"""A linear support vector machine for several classes, one against the rest."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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
