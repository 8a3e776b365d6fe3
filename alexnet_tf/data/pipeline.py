"""From a data source to batches for training and evaluation.

Order and augmentation are functions of (seed, epoch, example): an epoch's permutation comes from Philox with the
key (seed, epoch), and an example draws with a seed made of (seed, epoch, its id). So an epoch can be entered at
any step, and neither batch size, threads nor what ran before changes what an example looks like.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import tensorflow as tf

from alexnet_tf.config.schema import AugmentConfig
from alexnet_tf.data.preprocessing import Preprocessing, make_preprocessing
from alexnet_tf.data.splits import DataSource, Split, generator
from alexnet_tf.data.statistics import Statistics
from alexnet_tf.data.stores import AUTOTUNE, ArrayStore, DataError, StreamStore, traced

NO_SEED = np.zeros(2, np.int64)
IDS_AT_ONCE = 2**20


@dataclass(frozen=True)
class Share:
    """What one worker loads of every batch: the rows of part `index` of `count` equal, contiguous ones."""

    index: int = 0
    count: int = 1

    def rows(self, batch_size: int) -> range:
        """The rows of a batch of `batch_size`, a multiple of `count`."""
        size = batch_size // self.count
        return range(self.index * size, (self.index + 1) * size)

    def of(self, ids: np.ndarray, batch_size: int) -> np.ndarray:
        """Of ids in the order of batches those that are loaded; the last batch may be incomplete."""
        rows = self.rows(batch_size)
        place = np.arange(len(ids)) % batch_size
        return ids[(rows.start <= place) & (place < rows.stop)]


WHOLE = Share()


def num_train_steps(source: DataSource, batch_size: int) -> int:
    """Return the steps of an epoch: whole batches only.

    Raises:
        DataError: The training split has fewer examples than one batch.
    """
    examples = source.split("train").num_examples
    if not 0 < batch_size <= examples:
        raise DataError(
            f"training.batch_size must be 1 to {examples}, the training examples of {source.name}. "
            f"Received {batch_size}."
        )
    return examples // batch_size


def epoch_ids(source: DataSource, seed: int, epoch: int) -> np.ndarray:
    """Return all training ids (int64) in the order of an epoch.

    For a streamed set, whose order is known only by reading it, these are the positions 0, 1, ... instead.
    """
    split = source.split("train")
    if split.ids is None:
        return np.arange(split.num_examples)
    return generator(seed, epoch).permutation(split.ids)


def probe_ids(source: DataSource, examples: int, seed: int) -> np.ndarray:
    """Return ids (int64, ascending) of a fixed seeded choice of training examples, for `eval_batches`.

    For a streamed set these are positions, not ids: 0 to `examples`, the head of the training split.

    Args:
        source: The data set.
        examples: How many; all there are if that is fewer.
        seed: The run's seed.
    """
    split = source.split("train")
    if split.ids is None:
        return np.arange(min(examples, split.num_examples))
    return np.sort(generator(seed, "probe").permutation(split.ids)[:examples])


def train_batches(
    source: DataSource,
    augment: AugmentConfig,
    statistics: Statistics | None,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    first_step: int = 0,
    epochs: int = 1,
    share: Share = WHOLE,
    unfinished: bool = False,
) -> tf.data.Dataset:
    """Return the batches of an epoch of training, or of several that follow on one another.

    What does not fill a batch is dropped, other examples each epoch. Streamed sets are shuffled by the order of
    their files and in a window of `data.shuffle_window`; there, skipped steps must be read. So must the rows of other
    workers, unless `data.stream_parts` gives each worker files of its own.

    Args:
        source: The data set.
        augment: Operations, in their training form.
        statistics: Of the training split, where an operation needs them.
        seed: The run's seed.
        epoch: Decides the order and the augmentation.
        batch_size: Examples of a global batch.
        first_step: Start at this step of the epoch.
        epochs: How many, see `epochs_at_once`.
        share: The rows of each batch to load.
        unfinished: Whether to leave what `finisher` does to it.

    Returns:
        A dataset of images float32 [B, size, size, channels], labels int32 [B] and ids int64 [B], where B are the rows
        of the share. Unfinished, instead of the images a tuple: images, uint8 where nothing has made floats of them,
        and what was drawn for each of them.

    Raises:
        DataError: The training split has fewer examples than one batch, or cannot be streamed in such parts.
        ValueError: The operations are wrong.
    """
    steps = num_train_steps(source, batch_size)
    split = source.split("train")
    chain = _chain(source, split, augment, statistics, training=True, portable=unfinished)
    rows = len(share.rows(batch_size))
    if split.ids is None:
        if epochs != 1:
            raise ValueError(f"{source.name} is streamed: expected one epoch at a time. Received {epochs}.")
        stream_seed = int(generator(seed, epoch).integers(2**31))
        examples = _stream_in_parts(split, stream_seed, batch_size, range(first_step, steps), share)
        keys = _same_key(_augment_key(seed, epoch))
        batches = _batch_examples(examples, keys, chain, rows, unfinished=unfinished)
    else:
        ids, key_of_each = [], []
        for number in range(epoch, epoch + epochs):
            begin = first_step if number == epoch else 0
            order = epoch_ids(source, seed, number)[begin * batch_size : steps * batch_size]
            ids.append(share.of(order, batch_size))
            key_of_each.append(np.full(len(ids[-1]), _augment_key(seed, number)))
        chosen = np.concatenate(ids), np.concatenate(key_of_each)
        batches = _batches(split, *chosen, chain, rows, unfinished=unfinished)
    batches = batches.apply(tf.data.experimental.assert_cardinality(max(0, epochs * steps - first_step)))
    return _finish(batches.map(traced(lambda *batch: _static(batch, rows))))


def epochs_at_once(source: DataSource) -> int:
    """How many epochs `train_batches` had best give at once, so that they follow on one another without a pause.

    To make the batches' graph takes up to half a second, in which nothing is trained. The ids of all these epochs are
    in memory, at most `IDS_AT_ONCE` unless one epoch has more.
    """
    split = source.split("train")
    return 1 if split.ids is None else max(1, IDS_AT_ONCE // split.num_examples)


def finisher(
    source: DataSource, augment: AugmentConfig, statistics: Statistics | None
) -> Callable[..., tf.Tensor]:
    """What finishes images of `train_batches` that are not: a `tf.function` for any device, from all that is in the tuple.

    The same float32 [B, size, size, channels] come out as from the host, up to the rounding of the device.
    """
    chain = _chain(source, source.split("train"), augment, statistics, training=True, portable=True)
    return tf.function(traced(lambda images, *drawn: chain.per_batch(images, drawn)))


def eval_batches(
    source: DataSource,
    split_name: str,
    augment: AugmentConfig,
    statistics: Statistics | None,
    *,
    batch_size: int,
    ids: np.ndarray | None = None,
    views: int = 1,
    share: Share = WHOLE,
) -> tf.data.Dataset:
    """Return every example of a split once, in order, unaugmented.

    Args:
        source: The data set.
        split_name: `train`, `validation` or `test`.
        augment: Operations, in their evaluation form.
        statistics: Of the training split, where an operation needs them.
        batch_size: Rows of a batch, of the last one too: it is filled up with rows of zeros of weight 0.
        ids: Only these examples, in this order, such as `probe_ids` returns; None: all.
        views: Crops of each image: 1 (the evaluation crop), 5 or 10, see `geometry.crop_views`.
        share: The rows of each batch to load; all shares have as many batches.

    Returns:
        A dataset of images float32 [B, size, size, channels], or [B, views, size, size, channels] with several
        views, labels int32 [B] and weights float32 [B], 1 for an example and 0 for padding.

    Raises:
        ConfigError: Several views cannot be cut with these operations.
        DataError: There is no such split, or no such ids in it.
        ValueError: The operations are wrong.
    """
    split = source.split(split_name)
    chain = _chain(source, split, augment, statistics, training=False, views=views)
    total, rows = split.num_examples if ids is None else len(ids), share.rows(batch_size)
    if split.ids is None:
        if ids is not None and not np.array_equal(ids, np.arange(min(len(ids), split.num_examples))):
            raise DataError(f"{source.name} is streamed: only its first examples can be chosen.")
        examples = _stream(split, take=total, rows=rows, batch_size=batch_size)
        batches = _batch_examples(examples, _same_key(0), chain, len(rows))
    else:
        if ids is not None and not np.isin(ids, split.ids).all():
            raise DataError(f"Some of the ids are not in the {split_name} split of {source.name}.")
        own = share.of(split.ids if ids is None else ids, batch_size)
        batches = _batches(split, own, np.zeros_like(own), chain, len(rows))
    whole, rest = divmod(total, batch_size)
    batches = batches.apply(tf.data.experimental.assert_cardinality(whole + (rest > rows.start)))
    batches = batches.map(traced(lambda *batch: _static(_pad(batch, len(rows)), len(rows))))
    if 0 < rest <= rows.start:
        # Nothing of the last batch is this worker's, who takes part in it all the same.
        nothing = tuple(tf.zeros(spec.shape, spec.dtype) for spec in batches.element_spec)
        batches = batches.concatenate(tf.data.Dataset.from_tensors(nothing))
    return _finish(batches)


def ordered_images(source: DataSource, split_name: str, augment: AugmentConfig) -> tf.data.Dataset:
    """Return the images of a split one by one, in order, after operations that need no statistics.

    Args:
        source: The data set.
        split_name: `train`, `validation` or `test`.
        augment: Operations, in their evaluation form.

    Returns:
        A dataset of float32 [height, width, channels]; its static shape says whether they are all alike.
    """
    split = source.split(split_name)
    chain = make_preprocessing(augment, None, training=False)

    @traced
    def apply(image: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        image = image if chain.per_example is None else chain.per_example(image, NO_SEED)
        return chain.per_batch(image)

    return _examples(split).map(apply, num_parallel_calls=AUTOTUNE, deterministic=True)


def augmented_images(
    source: DataSource,
    augment: AugmentConfig,
    statistics: Statistics | None,
    *,
    seed: int,
    epoch: int,
    ids: np.ndarray,
) -> np.ndarray:
    """Return training examples as they look in an epoch of training.

    Args:
        source: The data set.
        augment: Operations, in their training form.
        statistics: Of the training split, where an operation needs them.
        seed: The run's seed.
        epoch: Decides the augmentation.
        ids: Which; of a streamed set its first examples, as many as these are.

    Returns:
        float32 [n, size, size, channels].
    """
    split = source.split("train")
    chain = _chain(source, split, augment, statistics, training=True)
    keys = _same_key(_augment_key(seed, epoch))
    batches = _batch_examples(_examples(split, ids), keys, chain, len(ids))
    return next(batches.as_numpy_iterator())[0]


def raw_examples(source: DataSource, split_name: str, ids: np.ndarray | None = None) -> tf.data.Dataset:
    """Return (image uint8 [height, width, channels], label, id) of a split in order, as it is stored.

    Args:
        source: The data set.
        split_name: `train`, `validation` or `test`.
        ids: Only these; of a streamed set its first examples, as many as these are. None: all.
    """
    return _examples(source.split(split_name), ids)


def preprocess_images(
    images: tf.Tensor, augment: AugmentConfig, statistics: Statistics | None, *, views: int = 1
) -> tf.Tensor:
    """Preprocess raw images as evaluation does, for export and prediction; traceable with unknown N and sizes.

    Args:
        images: uint8 [N, height, width, channels].
        augment: Operations, in their evaluation form.
        statistics: Of the training split, where an operation needs them.
        views: Crops of each image: 1, 5 or 10, see `eval_batches`.

    Returns:
        float32 [N, size, size, channels], or [N, views, size, size, channels] with several views.

    Raises:
        ConfigError: Several views cannot be cut with these operations.
        ValueError: The operations are wrong.
    """
    preprocessing = make_preprocessing(augment, statistics, training=False, fixed_size=True, views=views)
    return preprocessing.per_batch(tf.convert_to_tensor(images))


# --------------------------------------------------------------------------------------------------- pieces


def _chain(
    source: DataSource,
    split: Split,
    augment: AugmentConfig,
    statistics: Statistics | None,
    *,
    training: bool,
    views: int = 1,
    portable: bool = False,
) -> Preprocessing:
    return make_preprocessing(
        augment,
        statistics,
        training=training,
        fixed_size=split.store.image_shape is not None,
        shorter_side=source.shorter_side,
        views=views,
        portable=portable,
    )


def _augment_key(seed: int, epoch: int) -> int:
    """Return a number of 62 bits for (seed, epoch); with an example's id it is the example's seed."""
    purpose = generator(seed, "augment").integers(2**62)
    return int(generator(int(purpose), epoch).integers(2**62))


def _stream(split: Split, **options: Any) -> tf.data.Dataset:
    store = cast("StreamStore", split.store)
    return store.stream(split.start, split.start + split.num_examples, **options)


def _stream_in_parts(split: Split, seed: int, batch_size: int, steps: range, share: Share) -> tf.data.Dataset:
    """Return (image, label, id) of a share's rows of some steps.

    Each of `data.stream_parts` consecutive parts of the split is shuffled by itself and fills its own rows of every
    batch. So the result is the same for any number of workers, and a worker reads only the parts that are its own.
    """
    store, n = cast("StreamStore", split.store), split.num_examples
    parts, rows = store.parts, share.rows(batch_size)
    if batch_size % parts or (parts > 1 and parts % share.count):
        raise DataError(
            f"data.stream_parts={parts}: expected a divisor of training.batch_size={batch_size} and a multiple of the "
            f"workers ({share.count}), or 1."
        )
    size = batch_size // parts
    options: dict[str, Any] = {"skip": steps.start * size, "take": len(steps) * size}
    if parts == 1:
        return _stream(split, seed=seed, rows=rows, batch_size=batch_size, **options)
    bounds = [split.start + n * part // parts for part in range(parts + 1)]
    own = range(rows.start // size, rows.stop // size)
    streams = [store.stream(bounds[part], bounds[part + 1], seed=seed + part, **options) for part in own]
    turns = tf.data.Dataset.from_tensor_slices(np.repeat(np.arange(len(own), dtype=np.int64), size))
    return tf.data.Dataset.choose_from_datasets(streams, turns.repeat())


def _examples(split: Split, ids: np.ndarray | None = None) -> tf.data.Dataset:
    """Return (image, label, id) of a split in order, all or those of `ids`, see `raw_examples`."""
    if split.ids is None:
        return _stream(split, take=-1 if ids is None else len(ids))
    chosen = split.ids if ids is None else ids
    return cast("ArrayStore", split.store).examples(tf.data.Dataset.from_tensor_slices(chosen))


def _batches(
    split: Split,
    ids: np.ndarray,
    keys: np.ndarray,
    chain: Preprocessing,
    batch_size: int,
    *,
    unfinished: bool = False,
) -> tf.data.Dataset:
    """Return (images, labels, ids) of given ids; arrays are gathered by the batch if nothing is per example."""
    both, store = (np.asarray(ids, np.int64), np.asarray(keys, np.int64)), split.store
    assert not isinstance(store, StreamStore)  # it has no ids
    if not isinstance(store, ArrayStore) or chain.per_example is not None:
        ids_of, keys_of = map(tf.data.Dataset.from_tensor_slices, both)
        return _batch_examples(store.examples(ids_of), keys_of, chain, batch_size, unfinished=unfinished)
    _ = store.arrays
    finish = _finish_batch(chain, unfinished=unfinished)

    @traced
    def load(ids: tf.Tensor, keys: tf.Tensor) -> tuple[Any, ...]:
        return finish(store.gather(ids), keys)

    return _slices(both, batch_size).map(load, num_parallel_calls=AUTOTUNE, deterministic=True)


def _slices(arrays: tuple[np.ndarray, ...], size: int) -> tf.data.Dataset:
    """Batches of the rows of arrays, the last one perhaps smaller; to cut rows one by one takes three times as long."""
    whole = len(arrays[0]) // size * size
    full = tuple(array[:whole].reshape(-1, size) for array in arrays)
    batches = tf.data.Dataset.from_tensor_slices(full)
    rest = tuple(array[whole:] for array in arrays)
    return batches.concatenate(tf.data.Dataset.from_tensors(rest)) if len(rest[0]) else batches


def _batch_examples(
    examples: tf.data.Dataset,
    keys: tf.data.Dataset,
    chain: Preprocessing,
    batch_size: int,
    *,
    unfinished: bool = False,
) -> tf.data.Dataset:
    """Preprocess (image, label, id), each with its epoch's key, and make batches of them."""
    keyed, per_example = tf.data.Dataset.zip(examples, keys), chain.per_example
    if per_example is not None:

        @traced
        def apply(example: tuple[tf.Tensor, ...], key: tf.Tensor) -> tuple[Any, ...]:
            image, label, index = example
            return (per_example(image, tf.stack([key, index])), label, index), key

        keyed = keyed.map(apply, num_parallel_calls=AUTOTUNE, deterministic=True)
    finish = traced(_finish_batch(chain, unfinished=unfinished))
    return keyed.batch(batch_size).map(finish, num_parallel_calls=AUTOTUNE, deterministic=True)


def _same_key(key: int) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(np.int64(key)).repeat()


def _finish_batch(chain: Preprocessing, *, unfinished: bool) -> Callable[..., tuple[Any, ...]]:
    """From ((images, labels, ids), keys) to (images, labels, ids) after what the chain does on batches.

    Unfinished, with what it needs to instead.
    """

    def finish(batch: tuple[tf.Tensor, ...], keys: tf.Tensor) -> tuple[Any, ...]:
        images, labels, ids = batch
        drawn = chain.draw(images, tf.stack([keys, ids], axis=1))
        return (images, *drawn) if unfinished else chain.per_batch(images, drawn), labels, ids

    return finish


def _pad(batch: tuple[tf.Tensor, ...], batch_size: int) -> tuple[tf.Tensor, ...]:
    """Fill (images, labels, ids) up to `batch_size` rows; return (images, labels, weights)."""
    images, labels, _ = batch
    missing = batch_size - tf.shape(labels)[0]
    weights = tf.pad(tf.ones_like(labels, tf.float32), [[0, missing]])
    rest = [[0, 0]] * (len(images.shape) - 1)
    return tf.pad(images, [[0, missing], *rest]), tf.pad(labels, [[0, missing]]), weights


def _static(batch: tuple[Any, ...], batch_size: int) -> tuple[Any, ...]:
    return tf.nest.map_structure(lambda part: tf.ensure_shape(part, [batch_size, *part.shape[1:]]), batch)


def _finish(batches: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # The tuner's thread sleeps between its rounds, up to half a minute, and an iterator that is let go waits for it:
    # with it an epoch of 20 s was followed by up to 20 s of nothing. Parallelism is then the number of cores.
    options.autotune.enabled = False
    return batches.with_options(options).prefetch(AUTOTUNE)
