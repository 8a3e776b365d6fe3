"""The kernels that see the image, and how colourful each column's are."""

from dataclasses import dataclass

import numpy as np

PERMUTATIONS = 9999


def kernel_images(kernel: np.ndarray) -> np.ndarray:
    """Kernels as pictures: 0 is grey, and each kernel's largest weight, of either sign, is full.

    Args:
        kernel: Floats `[k, k, channels, filters]` of one or three channels.

    Returns:
        Floats in [0, 1], `[filters, k, k, channels]`.
    """
    largest = np.abs(kernel).max(axis=(0, 1, 2), keepdims=True)
    scaled = np.divide(kernel, largest, out=np.zeros_like(kernel), where=largest > 0)
    return np.transpose(0.5 + 0.5 * scaled, (3, 0, 1, 2))


def colourfulness(kernel: np.ndarray) -> np.ndarray:
    """The share of each kernel's energy that is colour, from 0 (every channel alike: grey) to 1.

        sum((w - g)**2) / sum(w**2),    g the mean of w over the channels at each pixel

    A kernel of independent noise in three channels has 2/3 in the mean. A kernel of zeros counts as grey.

    Args:
        kernel: Floats `[k, k, channels, filters]`.

    Returns:
        float64 `[filters]`.
    """
    weights = kernel.astype(np.float64)
    colour = weights - weights.mean(axis=2, keepdims=True)
    energy = (weights**2).sum(axis=(0, 1, 2))
    return np.divide((colour**2).sum(axis=(0, 1, 2)), energy, out=np.zeros_like(energy), where=energy > 0)


@dataclass(frozen=True, eq=False)
class Specialisation:
    """How far the columns differ in colour.

    Attributes:
        colour: `[columns, filters / columns]`, each kernel's `colourfulness`.
        difference: Between the largest and the smallest column mean.
        p_value: The share of divisions of the same kernels by chance that differ as much or more.
    """

    colour: np.ndarray
    difference: float
    p_value: float

    @property
    def means(self) -> np.ndarray:
        """The mean of each column."""
        return self.colour.mean(axis=1)


def specialisation(kernel: np.ndarray, columns: int, seed: int = 0) -> Specialisation:
    """Compare the colourfulness of columns of kernels by a permutation test.

    Every kernel is taken as one observation; `PERMUTATIONS` random divisions and the one that is count for the p-value
    (Phipson and Smyth, 2010), so that it is never 0.

    Args:
        kernel: Floats `[k, k, channels, filters]`; each column's kernels follow on one another.
        columns: At least two, a divisor of the filters.
        seed: Of the random divisions.
    """
    colour = colourfulness(kernel).reshape(columns, -1)
    means = colour.mean(axis=1)
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.tile(colour.reshape(-1), (PERMUTATIONS, 1)), axis=1)
    chance = np.ptp(shuffled.reshape(PERMUTATIONS, columns, -1).mean(axis=2), axis=1)
    difference = float(np.ptp(means))
    as_far = np.count_nonzero(
        chance >= difference * (1 - 1e-12)
    )  # sums in another order are the same division
    return Specialisation(colour, difference, (1 + as_far) / (1 + PERMUTATIONS))
