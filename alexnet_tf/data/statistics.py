"""Mean and colour covariance of the training split, computed in one pass and cached."""

import dataclasses
import hashlib
import json
import logging
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf.config.schema import AugmentConfig
from alexnet_tf.data.augment import OPS
from alexnet_tf.data.preprocessing import active_ops
from alexnet_tf.data.splits import DataSource
from alexnet_tf.data.stores import DataError, traced
from alexnet_tf.runs import write_atomic

FORMAT = 1
ARCHIVE_DAMAGES = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What NumPy and zipfile raise for bytes that are no archive of arrays."""
VALUES_AT_ONCE = 2**22
PIXELS_AT_ONCE = 2**13
"""So few stay in the processor's cache, and in one thread of the linear algebra; threads that add would wait for it."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Statistics:
    """What the training split looks like at the first operation that needs to know (units of 0-255 there).

    Attributes:
        mean_image: float32 [height, width, channels], or None where the images' sizes differ.
        mean_channel: float32 [channels].
        covariance: float64 [channels, channels], of the colours of all pixels.
        eigenvalues: float32 [channels], ascending.
        eigenvectors: float32 [channels, channels], one per column, the largest entry of each positive.
        count: Number of images.
    """

    mean_image: np.ndarray | None
    mean_channel: np.ndarray
    covariance: np.ndarray
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray
    count: int

    def save(self, path: str | Path) -> None:
        """Write to an `.npz` file; atomic, so that nobody reads half of one.

        Raises:
            OSError: The file cannot be written.
        """
        write_atomic(Path(path), self.write)

    def write(self, stream: Any) -> None:
        """Write what `load` reads to a binary file that is open."""
        np.savez(stream, **{name: value for name, value in vars(self).items() if value is not None})

    @classmethod
    def load(cls, path: str | Path) -> "Statistics":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            DataError: It cannot be read or is damaged.
        """
        try:
            # Given a path, np.load leaves the file of a damaged archive open.
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                values: dict[str, Any] = {"mean_image": None, **arrays}
            names = {field.name for field in dataclasses.fields(cls)}
            if set(values) != names:
                raise ValueError(f"expected {', '.join(sorted(names))}, found {', '.join(sorted(values))}")
            return cls(**{**values, "count": int(values["count"])})
        except FileNotFoundError:
            raise
        except ARCHIVE_DAMAGES as error:
            raise DataError(f"{path} is no statistics file: {' '.join(str(error).split())}") from error


def compute_statistics(
    source: DataSource, augment: AugmentConfig, cache_dir: str | Path | None = None
) -> Statistics | None:
    """Return the statistics of the training split, from the cache or by one pass over it.

    They are those of the images as they arrive at the first operation that needs them, after the evaluation
    form of all operations before it.

    Args:
        source: Its training split is read, after carving.
        augment: The operations.
        cache_dir: Where results are kept by a hash of the data set and of those operations; None:
            `$ALEXNET_CACHE_DIR/statistics`, else `~/.cache/alexnet_tf/statistics`. One that cannot be
            written does no harm.

    Returns:
        None if no operation needs statistics.

    Raises:
        DataError: An image cannot be read.
        ValueError: The operations are wrong.
    """
    prefix = _prefix(augment)
    if prefix is None:
        return None
    if source.statistics is not None and source.statistics.fits(source, _named(prefix)):
        return Statistics.load(source.statistics.path)
    path = _cache_path(source, prefix, cache_dir)
    try:
        return Statistics.load(path)
    except FileNotFoundError:
        pass
    except DataError as error:
        logger.warning("Computing the statistics again, the cached ones are damaged: %s", error)
    logger.info("Computing the statistics of the training split of %s", source.name)
    statistics = _measure(source, prefix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        statistics.save(path)
    except OSError as error:
        logger.info("The statistics are not cached: %s", error)
    return statistics


def _prefix(augment: AugmentConfig) -> AugmentConfig | None:
    """Return the operations before the first that needs statistics, or None if none does."""
    names: list[str] = []
    for name, config in active_ops(augment):
        if OPS[name].needs_statistics(config):
            return dataclasses.replace(augment, order=names)
        names.append(name)
    return None


def _named(prefix: AugmentConfig) -> list[tuple[str, dict[str, Any]]]:
    return [(name, dataclasses.asdict(config)) for name, config in active_ops(prefix)]


def _cache_path(source: DataSource, prefix: AugmentConfig, cache_dir: str | Path | None) -> Path:
    text = json.dumps([FORMAT, source.fingerprint, _named(prefix)], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    if cache_dir is None:
        own = os.environ.get("ALEXNET_CACHE_DIR")
        cache_dir = (Path(own) if own else Path("~/.cache/alexnet_tf").expanduser()) / "statistics"
    return Path(cache_dir) / f"{key}.npz"


def _measure(source: DataSource, prefix: AugmentConfig) -> Statistics:
    """Accumulate sums in float64 over the training split."""
    from alexnet_tf.data.pipeline import ordered_images

    dataset = ordered_images(source, "train", prefix)
    shape = dataset.element_spec.shape
    channels = int(shape[-1])
    if shape.is_fully_defined():
        dataset = dataset.batch(max(1, min(1024, VALUES_AT_ONCE // int(np.prod(shape)))))
        sums = Sums(tuple(shape))
    else:
        dataset = dataset.map(traced(lambda image: image[tf.newaxis]))
        sums = Sums((channels,))
    for batch in dataset.prefetch(2).as_numpy_iterator():
        sums.add(batch)
    return sums.statistics()


class Sums:
    """Sums in float64 over images, from which `Statistics` follow; of whole numbers they are exact in any order.

    Args:
        shape: (height, width, channels) of every image, or (channels,) where sizes differ.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.image = np.zeros(shape, np.float64) if len(shape) == 3 else None
        self.colour, self.products = np.zeros(shape[-1]), np.zeros([shape[-1]] * 2)
        self.count = self.pixels = 0

    def add(self, images: np.ndarray) -> None:
        """Add images [N, height, width, channels]."""
        colours = images.reshape(-1, len(self.colour))
        self.count, self.pixels = self.count + len(images), self.pixels + len(colours)
        for start in range(0, len(colours), PIXELS_AT_ONCE):
            some = colours[start : start + PIXELS_AT_ONCE].astype(np.float64)
            self.colour += np.ones(len(some)) @ some
            self.products += some.T @ some
        if self.image is not None:
            for image in images:
                self.image += image

    def merge(self, other: "Sums") -> None:
        """Add what another one has added."""
        self.count, self.pixels = self.count + other.count, self.pixels + other.pixels
        self.colour += other.colour
        self.products += other.products
        if self.image is not None and other.image is not None:
            self.image += other.image

    def save(self, path: Path) -> None:
        """Write to an `.npz` file; atomic."""
        arrays: dict[str, Any] = {name: value for name, value in vars(self).items() if value is not None}
        write_atomic(path, lambda stream: np.savez(stream, **arrays))

    @classmethod
    def load(cls, path: Path) -> "Sums":
        """Read what `save` wrote; one of `ARCHIVE_DAMAGES` where it cannot be read."""
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            sums = cls(arrays.get("image", arrays["colour"]).shape)
            if set(arrays) != {name for name, value in vars(sums).items() if value is not None}:
                raise ValueError(f"{path} is no file of sums")
            for name in arrays:
                setattr(sums, name, arrays[name] if arrays[name].ndim else int(arrays[name]))
        return sums

    def statistics(self) -> Statistics:
        """Return the statistics of all that was added."""
        mean = self.colour / self.pixels
        covariance = self.products / self.pixels - np.outer(mean, mean)
        values, vectors = np.linalg.eigh(covariance)
        vectors *= np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(mean))])
        return Statistics(
            mean_image=None if self.image is None else (self.image / self.count).astype(np.float32),
            mean_channel=mean.astype(np.float32),
            covariance=covariance,
            eigenvalues=np.maximum(values, 0).astype(np.float32),
            eigenvectors=vectors.astype(np.float32),
            count=self.count,
        )
