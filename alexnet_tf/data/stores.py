"""Where the examples of a split are kept, and how tf.data fetches them by id.

Array, encoded, file and record stores have random access: a global shuffle and a resume cost nothing. Only a
TFRecord set larger than memory is a stream, shuffled in a window, that must reread what a resume skips.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf.data.headers import header_problem

AUTOTUNE = tf.data.AUTOTUNE
traced = tf.autograph.experimental.do_not_convert
"""Marks a function that tf.data traces as it is: its branches and loops are Python's, for when it is built."""
UNREADABLE = (ValueError, TypeError, LookupError, RuntimeError, OSError)
"""What ArrayRecord and TFDS raise for damaged records."""
RECORDS_PER_READ = 32
RECORDS_PER_SCAN = 256
"""Records in memory at once while labels are looked for."""


class DataError(ValueError):
    """The data cannot be had or used as configured; the message is one clear line."""

    exit_status = 2


class DamagedError(DataError):
    """The data are there, but some of them cannot be read."""


def decode(data: tf.Tensor, channels: int, shape: tuple[int, int, int] | None = None) -> tf.Tensor:
    """Decode a JPEG, PNG, GIF (first frame), BMP or WebP image.

    Args:
        data: A scalar string, the file's bytes.
        channels: 1 (grey) or 3 (RGB), what the image is converted to.
        shape: The static shape (height, width, channels) where it is known.

    Returns:
        uint8 [height, width, channels].
    """
    if channels == 1:
        # Not every decoder can drop colour (GIF, WebP, JPEG in CMYK); all can make RGB, and grey comes back exactly
        # from it.
        image = tf.cond(
            _decodes_to_grey(data),
            lambda: tf.io.decode_image(data, channels=1, expand_animations=False),
            lambda: to_channels(tf.io.decode_image(data, channels=3, expand_animations=False), 1),
        )
    else:
        image = tf.io.decode_image(data, channels=channels, expand_animations=False)
    if shape is not None:
        return tf.ensure_shape(image, shape)
    image.set_shape([None, None, channels])
    return image


def _decodes_to_grey(data: tf.Tensor) -> tf.Tensor:
    return tf.cond(
        tf.io.is_jpeg(data),
        lambda: tf.io.extract_jpeg_shape(data)[2] != 4,
        lambda: tf.strings.substr(data, 0, 4) == b"\x89PNG",
    )


def to_channels(images: tf.Tensor, channels: int) -> tf.Tensor:
    """Convert uint8 [..., 1 or 3] images to grey (1, by luminance) or RGB (3, by repeating)."""
    stored = images.shape[-1]
    if stored == channels:
        return images
    if stored == 1:
        return tf.repeat(images, channels, axis=-1)
    grey = tf.reduce_sum(tf.cast(images, tf.float32) * [0.299, 0.587, 0.114], axis=-1, keepdims=True)
    return tf.cast(tf.round(grey), tf.uint8)


def relabelled(labels: np.ndarray, wanted: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the places (int64, ascending) of the labels that are wanted, and the place of each among the wanted."""
    ids = np.flatnonzero(np.isin(labels, wanted))
    order = np.argsort(wanted)
    return ids, order[np.searchsorted(np.sort(wanted), labels[ids])].astype(np.int32)


class ArrayStore:
    """Decoded images of one size in memory, loaded when first used.

    Args:
        num_examples: N.
        image_shape: (height, width, channels).
        load: Returns uint8 images [N, height, width, channels] and integer labels [N].
    """

    def __init__(
        self,
        num_examples: int,
        image_shape: tuple[int, int, int],
        load: Callable[[], tuple[Any, Any]],
    ):
        self.num_examples = num_examples
        self.image_shape: tuple[int, int, int] | None = image_shape
        self._load = load

    @cached_property
    def arrays(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Images uint8 [N, height, width, channels] and labels int32 [N], in host memory."""
        # In a function being traced these would become constants of its graph, and of the next one again.
        with tf.init_scope(), tf.device("/CPU:0"):
            images, labels = self._load()
            return tf.convert_to_tensor(images, tf.uint8), tf.cast(labels, tf.int32)

    @traced
    def gather(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return (images, labels, ids) of one id or of a whole batch of ids (int64)."""
        images, labels = self.arrays
        return tf.gather(images, ids), tf.gather(labels, ids), ids

    def choose(self, labels: Sequence[int]) -> "ArrayStore":
        """Return the examples of these labels alone, relabelled by their place among them."""
        images, own = self.arrays
        ids, new = relabelled(own.numpy(), labels)
        with tf.init_scope(), tf.device("/CPU:0"):
            kept = tf.gather(images, ids)
        shape = self.image_shape
        assert shape is not None
        return ArrayStore(len(ids), shape, lambda: (kept, new))

    def examples(self, ids: tf.data.Dataset) -> tf.data.Dataset:
        """Turn scalar ids into (image, label, id)."""
        _ = self.arrays
        return ids.map(self.gather, num_parallel_calls=AUTOTUNE, deterministic=True)


class EncodedStore:
    """Encoded images in memory, decoded whenever they are fetched.

    Args:
        num_examples: N.
        image_shape: (height, width, channels) where all are alike, or None.
        channels: 1 or 3.
        load: Returns the files' bytes (string [N]) and integer labels [N].
    """

    def __init__(
        self,
        num_examples: int,
        image_shape: tuple[int, int, int] | None,
        channels: int,
        load: Callable[[], tuple[Any, Any]],
    ):
        self.num_examples = num_examples
        self.image_shape = image_shape
        self._channels = channels
        self._load = load

    @cached_property
    def _encoded(self) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.init_scope(), tf.device("/CPU:0"):
            data, labels = self._load()
            return tf.convert_to_tensor(data, tf.string), tf.cast(labels, tf.int32)

    def choose(self, labels: Sequence[int]) -> "EncodedStore":
        """Return the examples of these labels alone, relabelled by their place among them."""
        data, own = self._encoded
        ids, new = relabelled(own.numpy(), labels)
        with tf.init_scope(), tf.device("/CPU:0"):
            kept = tf.gather(data, ids)
        return EncodedStore(len(ids), self.image_shape, self._channels, lambda: (kept, new))

    def examples(self, ids: tf.data.Dataset) -> tf.data.Dataset:
        """Turn scalar ids into (image, label, id)."""
        data, labels = self._encoded

        @traced
        def load(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            image = decode(tf.gather(data, index), self._channels, self.image_shape)
            return image, tf.gather(labels, index), index

        return ids.map(load, num_parallel_calls=AUTOTUNE, deterministic=True)


class FileStore:
    """Image files, read and decoded whenever they are fetched.

    Args:
        paths: N files.
        labels: Their N labels.
        image_shape: (height, width, channels) where all are alike, or None.
        channels: 1 or 3.
        max_pixels: A file that says it has more is unreadable.
    """

    def __init__(
        self,
        paths: list[Path],
        labels: list[int],
        image_shape: tuple[int, int, int] | None,
        channels: int,
        max_pixels: int,
    ):
        self.num_examples = len(paths)
        self.image_shape = image_shape
        self.paths = paths
        self.labels = np.array(labels, np.int32)
        self._channels = channels
        self._max_pixels = max_pixels

    def examples(self, ids: tf.data.Dataset) -> tf.data.Dataset:
        """Turn scalar ids into (image, label, id)."""
        with tf.init_scope(), tf.device("/CPU:0"):
            paths, labels = tf.constant([str(path) for path in self.paths]), tf.constant(self.labels)

        @traced
        def load(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            data = tf.io.read_file(tf.gather(paths, index))
            return decode(data, self._channels, self.image_shape), tf.gather(labels, index), index

        return ids.map(load, num_parallel_calls=AUTOTUNE, deterministic=True)

    def unreadable(self, *, headers_only: bool = False) -> dict[int, str]:
        """Read the header of every file and decode it, in parallel; return the reason for each id that this fails for.

        Args:
            headers_only: Whether nothing is decoded, which is fast and does not find what is truncated.
        """

        def problem(path: Path) -> str | None:
            reason = header_problem(path, self._max_pixels)
            if reason is not None or headers_only:
                return reason
            try:
                with tf.device("/CPU:0"):
                    decode(tf.constant(path.read_bytes()), self._channels, self.image_shape)
            except (OSError, ValueError, tf.errors.OpError) as error:
                return error_reason(error)
            return None

        with ThreadPoolExecutor() as pool:
            problems = enumerate(pool.map(problem, self.paths))
            return {index: reason for index, reason in problems if reason is not None}


def error_reason(error: Exception) -> str:
    """Return the first line of an error without TensorFlow's decoration."""
    text = getattr(error, "message", None) or getattr(error, "strerror", None) or str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    nodes = [number for number, line in enumerate(lines) if line.startswith("[[{{node")]
    if nodes and nodes[0]:  # of a graph: where it happened, the reason, the node
        text = lines[nodes[0] - 1]
    return text.split("}} ")[-1].splitlines()[0].split(" [Op:")[0].rstrip(".")


def damaged(what: str, error: Exception) -> DamagedError:
    """What to raise where prepared records, such as `the records 0 to 31`, cannot be read."""
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return DamagedError(
        f"cannot read {what}: {said}. Of a set that `alexnet prepare` has written `alexnet prepare --verify` names the "
        f"damaged files"
    )


class RecordStore:
    """Encoded images on disk with random access (TFDS's data sources over ArrayRecord).

    Args:
        records: Has `__len__` and `__getitems__(ids)`, which returns dicts of features, images still encoded.
        keys: Names of the image and the label feature.
        image_shape: (height, width, channels) where all are alike, or None.
        channels: 1 or 3.
    """

    def __init__(
        self,
        records: Any,
        keys: tuple[str, str],
        image_shape: tuple[int, int, int] | None,
        channels: int,
    ):
        self.num_examples = len(records)
        self.image_shape = image_shape
        self._records = records
        self._keys = keys
        self._channels = channels

    def read(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the bytes (object [n]) and labels (int32 [n]) of n examples."""
        image_key, label_key = self._keys
        try:
            records = self._records.__getitems__([int(index) for index in ids])
            data = np.array([record[image_key] for record in records], dtype=object)
            return data, np.array([record[label_key] for record in records], np.int32)
        except UNREADABLE as error:
            raise damaged(f"the records {ids.min()} to {ids.max()}", error) from error

    def choose(self, labels: Sequence[int]) -> "RecordStore":
        """Return the examples of these labels alone, relabelled by their place among them; reads all records once."""
        starts = range(0, self.num_examples, RECORDS_PER_SCAN)
        chunks = [np.arange(start, min(start + RECORDS_PER_SCAN, self.num_examples)) for start in starts]
        ids, new = relabelled(np.concatenate([self.read(chunk)[1] for chunk in chunks]), labels)
        records = _ChosenRecords(self._records, self._keys[1], ids, new)
        return RecordStore(records, self._keys, self.image_shape, self._channels)

    def examples(self, ids: tf.data.Dataset) -> tf.data.Dataset:
        """Turn scalar ids into (image, label, id)."""

        @traced
        def fetch(chunk: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            data, labels = tf.numpy_function(self.read, [chunk], (tf.string, tf.int32), stateful=False)
            data.set_shape([None])
            labels.set_shape([None])
            return data, labels, chunk

        def load(
            data: tf.Tensor, label: tf.Tensor, index: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            return decode(data, self._channels, self.image_shape), label, index

        chunks = ids.batch(RECORDS_PER_READ).map(fetch, num_parallel_calls=2, deterministic=True)
        return chunks.unbatch().map(load, num_parallel_calls=AUTOTUNE, deterministic=True)


class _ChosenRecords:
    """Some of a data source's records, under other labels; see `RecordStore`."""

    def __init__(self, records: Any, label_key: str, ids: np.ndarray, labels: np.ndarray):
        self._records, self._label_key, self._ids, self._labels = records, label_key, ids, labels

    def __len__(self) -> int:
        return len(self._ids)

    def __getitems__(self, places: list[int]) -> list[dict[str, Any]]:
        found = self._records.__getitems__([int(self._ids[place]) for place in places])
        labels = self._labels[places]
        return [{**record, self._label_key: label} for record, label in zip(found, labels, strict=True)]


class StreamStore:
    """Encoded images that can only be read in sequence.

    Args:
        num_examples: N.
        image_shape: (height, width, channels) where all are alike, or None.
        channels: 1 or 3.
        window: Examples in the shuffle buffer.
        parts: Parts that training reads the set in, with a share of the window each, see `data.stream_parts`.
        open_stream: From (start, end, seed) to a dataset of (bytes, label, name). A seed shuffles the order of
            the files; None keeps everything in its place.
    """

    def __init__(
        self,
        num_examples: int,
        image_shape: tuple[int, int, int] | None,
        channels: int,
        window: int,
        parts: int,
        open_stream: Callable[[int, int, int | None], tf.data.Dataset],
    ):
        self.num_examples = num_examples
        self.image_shape = image_shape
        self._channels = channels
        self.parts = parts
        self._window = max(1, window // parts)
        self._open = open_stream

    def stream(
        self,
        start: int,
        end: int,
        *,
        seed: int | None = None,
        skip: int = 0,
        take: int = -1,
        rows: range | None = None,
        batch_size: int = 1,
    ) -> tf.data.Dataset:
        """Yield (image, label, id) of the examples from `start` to `end`.

        Args:
            start: Position of the first example in the set as it was prepared.
            end: Position after the last.
            seed: Shuffle the files and a window of examples with it; None: keep the order.
            skip: Leave out so many examples of the resulting order; they are read but not decoded.
            take: End after so many more; -1: with the last.
            rows: Of every `batch_size` of these leave out all but these rows, which are read but not decoded.
            batch_size: Examples of a batch.

        Returns:
            Images uint8 [height, width, channels], labels int32, and ids int64 hashed from TFDS's names.
        """
        encoded = self._open(start, end, seed)
        if seed is not None:
            encoded = encoded.shuffle(self._window, seed=seed, reshuffle_each_iteration=False)

        encoded = encoded.skip(skip).take(take)
        if rows is not None and len(rows) < batch_size:
            encoded = encoded.enumerate().filter(
                traced(lambda n, _: (rows.start <= n % batch_size) & (n % batch_size < rows.stop))
            )
            encoded = encoded.map(traced(lambda _, example: example))

        def load(
            data: tf.Tensor, label: tf.Tensor, name: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            index = tf.strings.to_hash_bucket_fast(name, 2**63 - 1)
            return decode(data, self._channels, self.image_shape), tf.cast(label, tf.int32), index

        return encoded.map(load, num_parallel_calls=AUTOTUNE, deterministic=True)


Store = ArrayStore | EncodedStore | FileStore | RecordStore | StreamStore
