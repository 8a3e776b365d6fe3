"""Bags of visual words (Csurka et al., 2004) of SIFT descriptors (Lowe, 2004) on a grid.

The descriptors are our own: scikit-image describes one keypoint at a time, where a grid's descriptors are two matrix
products over all images.
"""

import math

import numpy as np

LUMINANCE = np.array([0.299, 0.587, 0.114])
"""Of R, G and B in grey (ITU-R BT.601)."""
CELLS = 4
"""Cells of a descriptor on each axis, and..."""
ORIENTATIONS = 8
"""... bins of a cell's histogram over 360 degrees: 128 numbers (Lowe, section 6.1)."""
CLIP = 0.2
"""Largest number of a descriptor of length 1, against single strong edges (section 6.1)."""
CAMERA_BLUR = 0.5
"""Standard deviation in pixels of the blur that images have already (section 3.3)."""
FLAT = 1e-3
"""A descriptor of less gradient than so many grey levels is all zeros: its direction would be rounding."""


def sift_descriptors(images: np.ndarray, cell: int, step: int) -> np.ndarray:
    """The descriptors of upright windows of `4 cell` pixels whose centres are `step` apart and in the middle of the image.

    As Lowe's section 6.1: images are smoothed to a standard deviation of `cell / 3`, gradients are weighted by a Gaussian
    of half the window's width and shared linearly between neighbouring cells and orientations; the descriptor is brought
    to length 1, clipped at 0.2, and brought to length 1 again.

    Args:
        images: `[N, S, S, C]`, values 0-255, grey or RGB.
        cell: Side of a cell in pixels.
        step: Pixels between two centres.

    Returns:
        float32 `[N, K, 128]`: row by row, within a descriptor by the cell's row and column and by the orientation, which
        is counted from the direction of the columns towards that of the rows.
    """
    from scipy.ndimage import gaussian_filter1d  # half a second that networks should not pay

    images = np.asarray(images, np.float64)
    grey = images @ LUMINANCE if images.shape[-1] == 3 else images[..., 0]
    blur = math.sqrt(max(0.0, (cell / 3) ** 2 - CAMERA_BLUR**2))
    for axis in (1, 2):
        grey = gaussian_filter1d(grey, blur, axis=axis, mode="nearest") if blur else grey
    maps = _orientation_maps(grey)
    weights = _window_weights(grey.shape[1], cell, step)  # [centres, 4, S]
    # Window and cells are separable: first all rows, then all columns.
    by_rows = np.einsum("kys,nsto->nkyto", weights, maps, optimize=True)
    sums = np.einsum("lxt,nkyto->nklyxo", weights, by_rows, optimize=True)
    return _normalized(sums.reshape(len(images), -1, CELLS * CELLS * ORIENTATIONS))


def _orientation_maps(grey: np.ndarray) -> np.ndarray:
    """The gradient's length `[N, S, S, 8]` at its two nearest orientations, shared linearly."""
    rows, columns = np.gradient(grey, axis=(1, 2))
    place = np.arctan2(rows, columns) * (ORIENTATIONS / (2 * np.pi))
    distance = np.abs((place[..., np.newaxis] - np.arange(ORIENTATIONS) + 4) % ORIENTATIONS - 4)
    return np.hypot(rows, columns)[..., np.newaxis] * np.maximum(0, 1 - distance)


def _window_weights(size: int, cell: int, step: int) -> np.ndarray:
    """What each of the pixels of an axis gives to each cell of each window: `[windows, 4, size]`."""
    windows = (size - CELLS * cell) // step + 1
    first = (size - 1 - (windows - 1) * step) / 2
    centres = (first + step * np.arange(windows))[:, np.newaxis, np.newaxis]
    cells = (np.arange(CELLS) - (CELLS - 1) / 2)[:, np.newaxis] * cell
    offsets = np.arange(size) - centres
    share = np.maximum(0, 1 - np.abs(offsets - cells) / cell)
    return share * np.exp(-(offsets**2) / (2 * (CELLS * cell / 2) ** 2))


def _normalized(sums: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(sums, axis=-1, keepdims=True)
    unit = np.divide(sums, length, out=np.zeros_like(sums), where=length > FLAT)
    clipped = np.minimum(unit, CLIP)
    length = np.linalg.norm(clipped, axis=-1, keepdims=True)
    return np.divide(clipped, length, out=np.zeros_like(clipped), where=length > 0).astype(np.float32)


def make_vocabulary(descriptors: np.ndarray, words: int, seed: int) -> np.ndarray:
    """The centres of descriptors by k-means over small batches (Sculley, 2010), which starts with k-means++.

    Args:
        descriptors: float32 `[..., 128]`.
        words: How many centres; fewer descriptors than that are an error.
        seed: Of the first centres and the batches.

    Returns:
        float32 `[words, 128]`.

    Raises:
        ValueError: There are fewer descriptors than words.
    """
    from sklearn.cluster import MiniBatchKMeans  # a second to import

    rows = descriptors.reshape(-1, descriptors.shape[-1])
    if len(rows) < words:
        raise ValueError(f"{words} words need at least as many descriptors, there are {len(rows)}")
    means = MiniBatchKMeans(words, random_state=seed, batch_size=1024, max_iter=5, n_init=1)
    return means.fit(rows).cluster_centers_.astype(np.float32)


def bags_of_words(descriptors: np.ndarray, vocabulary: np.ndarray) -> np.ndarray:
    """The square roots of the shares of an image's descriptors that are nearest to each word: vectors of length 1.

    A linear kernel of square roots is the Hellinger kernel of the histograms (Vedaldi and Zisserman, 2010).

    Args:
        descriptors: float32 `[N, K, 128]`.
        vocabulary: float32 `[words, 128]`.

    Returns:
        float32 `[N, words]`, whose squares add up to 1.
    """
    # |d - w|^2 = |d|^2 - 2 d w + |w|^2, of which the first term is the same for all words.
    rows = descriptors.reshape(-1, descriptors.shape[-1])
    distances = (vocabulary**2).sum(axis=1) - 2 * (rows @ vocabulary.T)
    nearest = distances.argmin(axis=1).reshape(descriptors.shape[:2])
    words = len(vocabulary)
    counts = np.stack([np.bincount(row, minlength=words) for row in nearest])
    return np.sqrt(counts / nearest.shape[1]).astype(np.float32)
