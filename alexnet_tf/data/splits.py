"""What a data set is to the rest of the package: named splits of examples, each example known by an id."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from alexnet_tf.config.schema import DataConfig
from alexnet_tf.data.stores import DataError, Store, StreamStore


@dataclass(frozen=True, eq=False)
class Split:
    """Some of a store's examples.

    `ids` (int64 [num_examples], ascending) are positions in `store`. They are None for a `StreamStore`, which
    has no random access: such a split is the store's examples `start` to `start + num_examples`.
    """

    name: str
    num_examples: int
    store: Store
    ids: np.ndarray | None
    start: int = 0

    def spread(self, most: int) -> np.ndarray:
        """Places (int64, from 0) of at most so many examples, evenly spread; the first ones of a streamed split."""
        count = min(most, self.num_examples)
        if self.ids is None:
            return np.arange(count)
        return np.linspace(0, self.num_examples - 1, count).astype(np.int64)


@dataclass(frozen=True, eq=False)
class ShippedStatistics:
    """Statistics that were made with a set, of its whole training split in squares of `size` pixels.

    Attributes:
        path: What `Statistics.load` reads.
        size: Pixels of the shorter side of the stored images, and of the squares from their centres.
        count: Images of the training split.
    """

    path: Path
    size: int
    count: int

    def fits(self, source: "DataSource", ops: list[tuple[str, dict[str, Any]]]) -> bool:
        """Whether they are those of a source after operations (name, options) that leave such a square."""
        resize = ("resize", {"size": self.size, "method": "bilinear", "keep_aspect": True})
        crop = ("center_crop", {"size": self.size})
        whole = source.channels == 3 and source.split("train").num_examples == self.count
        return whole and ops in ([resize, crop], [crop])


@dataclass(frozen=True, eq=False)
class DataSource:
    """A classification data set, wherever it came from.

    Attributes:
        name: The name it was asked for by.
        class_names: One per label, in label order.
        image_shape: (height, width, channels) of every image, or None where they differ or are unknown.
        channels: Colour channels of the images as they are delivered.
        splits: `train`, and `validation` and `test` where there are such.
        fingerprint: Hash of what decides the examples of each split: name, version, sizes, carving.
        shorter_side: Pixels of the shorter side of every image, where it is known.
        statistics: What came with the set.
        skipped: Path and reason of each unreadable image that is in none of the splits.
    """

    name: str
    class_names: list[str]
    image_shape: tuple[int, int, int] | None
    channels: int
    splits: dict[str, Split] = field(repr=False)
    fingerprint: str
    shorter_side: int | None = None
    statistics: ShippedStatistics | None = None
    skipped: dict[str, str] = field(default_factory=dict, repr=False)

    def describe(self) -> dict[str, Any]:
        """Return the facts to store with a run, ready for JSON."""
        return {
            "name": self.name,
            "class_names": self.class_names,
            "image_shape": self.image_shape,
            "channels": self.channels,
            "splits": {name: split.num_examples for name, split in self.splits.items()},
            "fingerprint": self.fingerprint,
            "skipped": len(self.skipped),
            "skipped_images": self.skipped,
        }

    def split(self, name: str) -> Split:
        """Return a split; raise `DataError` naming the choices if there is none of that name."""
        if name not in self.splits:
            raise DataError(f"{self.name} has no {name} split. Expected one of {', '.join(self.splits)}.")
        return self.splits[name]


def generator(seed: int, stream: int | str) -> np.random.Generator:
    """Return NumPy's Philox generator for (seed, stream), a stream being an epoch or a named purpose."""
    number = crc32(stream.encode()) if isinstance(stream, str) else stream
    return np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, number % 2**64], np.uint64)))


def fingerprint(*parts: Any) -> str:
    """Hash values that JSON can write; equal values give an equal hash on every machine."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def make_splits(
    config: DataConfig, train: Store, validation: Store | None, test: Store | None
) -> dict[str, Split]:
    """Make the splits out of their stores, carving a validation split out of `train` where there is none.

    The carved ids are the first `validation_fraction` of a permutation from (`split_seed`, "validation"), so
    they do not depend on the run's seed. `train_examples` keeps a seeded choice of what is left. Streams have
    no random access: there the first examples are carved, in the order that the set was prepared (TFDS
    shuffles when it prepares).

    Raises:
        DataError: A fraction outside [0, 1), or more training examples asked for than there are.
    """
    carved = _carved_size(config, train) if validation is None else 0
    if isinstance(train, StreamStore):
        rest = _check_train_examples(config, train.num_examples - carved)
        splits = {"train": Split("train", rest, train, None, start=carved)}
        if carved:
            splits["validation"] = Split("validation", carved, train, None)
    else:
        held_out, ids = _carve(config, train.num_examples, carved)
        splits = {"train": Split("train", len(ids), train, ids)}
        if carved:
            splits["validation"] = Split("validation", carved, train, held_out)
    for name, store in (("validation", validation), ("test", test)):
        if store is not None:
            ids_of = None if isinstance(store, StreamStore) else np.arange(store.num_examples)
            splits[name] = Split(name, store.num_examples, store, ids_of)
    for split in splits.values():
        if split.num_examples < 1:
            raise DataError(f"The {split.name} split of {config.name} has no examples.")
    return splits


def split_fingerprint(config: DataConfig, splits: dict[str, Split], *parts: Any) -> str:
    """Hash the data set's identity (`parts`) with the sizes and the carving of its splits."""
    sizes = {name: split.num_examples for name, split in splits.items()}
    carving = [config.validation_fraction, config.split_seed, config.train_examples]
    names = [config.train_split, config.validation_split, config.test_split]
    # Of all classes the hash is what it was before one could choose.
    chosen = [] if config.classes is None else [{"classes": config.classes}]
    return fingerprint(config.name, config.channels, sizes, carving, names, *parts, *chosen)


def _carved_size(config: DataConfig, train: Store) -> int:
    """Return how many training examples become the validation split."""
    fraction = config.validation_fraction
    if not 0 <= fraction < 1:
        raise DataError(f"data.validation_fraction must be at least 0 and below 1. Received {fraction}.")
    size = round(fraction * train.num_examples)
    if fraction > 0 and not 0 < size < train.num_examples:
        raise DataError(
            f"data.validation_fraction={fraction} of {train.num_examples} training examples leaves an empty split."
        )
    return size


def _check_train_examples(config: DataConfig, available: int) -> int:
    """Return how many training examples there will be."""
    wanted = config.train_examples
    if wanted is None:
        return available
    if not 0 < wanted <= available:
        raise DataError(f"data.train_examples must be 1 to {available}, all there are. Received {wanted}.")
    return wanted


def _carve(config: DataConfig, total: int, carved: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids (int64, ascending) that are carved off and those that are trained on."""
    seed = config.split_seed
    assert seed is not None  # see `config.resolve`
    order = generator(seed, "validation").permutation(total)
    held_out, rest = np.sort(order[:carved]), np.sort(order[carved:])
    keep = _check_train_examples(config, len(rest))
    if keep < len(rest):
        chosen = generator(seed, "train_examples").permutation(len(rest))[:keep]
        rest = rest[np.sort(chosen)]
    return held_out, rest
