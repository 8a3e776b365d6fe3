"""An image file that a user names."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_tf.config import ConfigError
from alexnet_tf.data.stores import FileStore


def read_image(path: Path, named: str, *, channels: int, max_pixels: int) -> np.ndarray:
    """Read what the images of a data set may be too.

    Args:
        path: A JPEG, PNG, GIF, BMP or WebP.
        named: How the user named it, for the error.
        channels: 1 or 3.
        max_pixels: The largest width times height.

    Returns:
        uint8 `[height, width, channels]`.

    Raises:
        ConfigError: The file cannot be read, or would decode to more pixels or to other colours.
    """
    store = FileStore([path], [0], None, channels, max_pixels)
    if problems := store.unreadable():
        raise ConfigError(f"{named}: cannot be read as an image: {problems[0]}")
    ((image, _, _),) = store.examples(tf.data.Dataset.range(1)).as_numpy_iterator()
    return image
