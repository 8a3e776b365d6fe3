"""Histograms of oriented gradients (Dalal and Triggs, 2005), by scikit-image."""

import numpy as np

from alexnet_tf.config.schema import HogConfig


def hog_features(images: np.ndarray, config: HogConfig) -> np.ndarray:
    """The normalised histograms of every block of cells, one after the other.

    Args:
        images: `[N, S, S, C]`, values 0-255, grey or RGB; in colour the channel with the largest gradient counts at each
            pixel, as in their section 6.2.
        config: Orientations, cell and block.

    Returns:
        float32 `[N, (cells - block + 1)^2 * block^2 * orientations]` with `cells = S // cell`.
    """
    from skimage.feature import hog  # of an extra, and a second to import

    return np.stack(
        [
            hog(
                image,
                orientations=config.orientations,
                pixels_per_cell=(config.cell, config.cell),
                cells_per_block=(config.block, config.block),
                block_norm="L2-Hys",
                channel_axis=-1,
            ).astype(np.float32)
            for image in np.asarray(images, np.float64)
        ]
    )
