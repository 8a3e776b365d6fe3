"""From a data config to a `DataSource`: a name decides where the examples come from."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf.config.schema import DataConfig
from alexnet_tf.data.classes import choose_classes
from alexnet_tf.data.folder import load_folder
from alexnet_tf.data.prepared import load_prepared
from alexnet_tf.data.shards import load_shards
from alexnet_tf.data.splits import DataSource, Split, make_splits, split_fingerprint
from alexnet_tf.data.stores import ArrayStore, DataError, to_channels

__all__ = ["SOURCES", "DataError", "DataSource", "Split", "load_source"]


def load_source(config: DataConfig) -> DataSource:
    """Find a data set and make its splits; array data are read when they are first used.

    Args:
        config: `name` is a key of `SOURCES` or the name of a TFDS image classification set.

    Raises:
        DataError: The data are not there, not images with labels, or not as configured.
    """
    if config.channels not in (1, 3):
        raise DataError(f"data.channels must be 1 (grey) or 3 (RGB). Received {config.channels}.")
    return SOURCES.get(config.name, load_prepared)(config)


def load_digits(config: DataConfig) -> DataSource:
    """Load scikit-learn's 1,797 handwritten digits: uint8 [1797, 8, 8, 1], 0..16 spread over 0..255."""

    def load() -> tuple[Any, Any]:
        from sklearn.datasets import load_digits as load_bunch

        bunch = load_bunch()
        images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
        return to_channels(tf.constant(images), config.channels), bunch.target

    if config.validation_split is not None:
        raise DataError(f"data.validation_split={config.validation_split}: digits has only a training split.")
    shape = (8, 8, config.channels)
    names, stores = choose_classes(
        config, [str(digit) for digit in range(10)], {"train": ArrayStore(1797, shape, load)}
    )
    splits = make_splits(config, stores["train"], None, None)
    return DataSource(
        name=config.name,
        class_names=names,
        image_shape=shape,
        channels=config.channels,
        splits=splits,
        fingerprint=split_fingerprint(config, splits),
    )


SOURCES: dict[str, Callable[[DataConfig], DataSource]] = {
    "digits": load_digits,
    "folder": load_folder,
    "prepared": load_shards,
}
"""Sources that are not TFDS sets, by `data.name`."""
