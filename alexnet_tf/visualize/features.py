"""Images as points: the nearest of them, and maps of them in a plane."""

from dataclasses import dataclass

import numpy as np

PERPLEXITY = 30.0
COMPONENTS = 50
"""Principal components that t-SNE starts from, as its authors do (van der Maaten and Hinton, 2008, section 4.2)."""


def nearest(queries: np.ndarray, base: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The points of `base` with the smallest Euclidean distance to each query, the nearest first.

    Args:
        queries: Floats `[Q, D]`.
        base: Floats `[N, D]`.
        count: How many of each; all there are if that is fewer.

    Returns:
        Their rows in `base`, int64 `[Q, count]`, and their distances, float64 `[Q, count]`; of two that are equally
        far the first counts as nearer.
    """
    queries, base = queries.astype(np.float64), base.astype(np.float64)
    rows = [np.linalg.norm(base - query, axis=1) for query in queries]
    found = [np.argsort(row, kind="stable")[:count] for row in rows]
    distances = [row[places] for row, places in zip(rows, found, strict=True)]
    return np.array(found, np.int64), np.array(distances)


@dataclass(frozen=True, eq=False)
class PlaneMaps:
    """Two maps of the same points.

    Attributes:
        pca: `[N, 2]`, along the first two principal components.
        explained: Their shares of the variance, `[2]`.
        tsne: `[N, 2]`.
        perplexity: Of t-SNE.
    """

    pca: np.ndarray
    explained: np.ndarray
    tsne: np.ndarray
    perplexity: float


def plane_maps(features: np.ndarray, seed: int = 0) -> PlaneMaps:
    """Map points by their principal components and, from the first of these, by t-SNE.

    Args:
        features: Floats `[N, D]` with at least 4 points and 2 dimensions.
        seed: Of t-SNE; PCA needs none.

    Raises:
        ValueError: There are too few points or dimensions.
    """
    from sklearn.decomposition import PCA  # a second that only this should pay
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    points, dimensions = features.shape
    if points < 4 or dimensions < 2:
        raise ValueError(f"Expected at least 4 points of 2 dimensions. Received: {points} of {dimensions}")
    pca = PCA(min(COMPONENTS, points, dimensions), svd_solver="full").fit(features.astype(np.float64))
    components = pca.transform(features.astype(np.float64))
    perplexity = min(PERPLEXITY, (points - 1) / 3)
    # Its threads wait for each other by spinning, which on busy cores takes ten times as long as one thread alone.
    with threadpool_limits(1):
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(components)
    return PlaneMaps(components[:, :2], pca.explained_variance_ratio_[:2], tsne, perplexity)
