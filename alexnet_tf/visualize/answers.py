"""What a network answers: its most confident mistakes, and which classes it takes for which."""

import numpy as np


def confident_mistakes(log_probabilities: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The examples that were given a wrong class with the largest probability, the most confident first.

    Args:
        log_probabilities: Floats `[N, classes]`.
        labels: Integers `[N]`.
        count: How many at most.

    Returns:
        Their rows, int64.
    """
    wrong = np.flatnonzero(log_probabilities.argmax(axis=1) != labels)
    order = np.argsort(-log_probabilities[wrong].max(axis=1), kind="stable")
    return wrong[order[:count]]


def confusion(log_probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many examples of each class (row) were given each class (column), int64 `[classes, classes]`."""
    classes = log_probabilities.shape[1]
    found = np.zeros((classes, classes), np.int64)
    np.add.at(found, (labels, log_probabilities.argmax(axis=1)), 1)
    return found
