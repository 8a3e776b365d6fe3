"""From a data source to batches for training and evaluation.

Order and augmentation are functions of (seed, epoch, example): an epoch's permutation comes from Philox with the
key (seed, epoch), and an example draws with a seed made of (seed, epoch, its id). So an epoch can be entered at
any step, and neither batch size, threads nor what ran before changes what an example looks like.
"""

from typing import cast

import numpy as np
import tensorflow as tf

from alexnet_tf.config.schema import AugmentConfig
from alexnet_tf.data.preprocessing import Preprocessing, make_preprocessing
from alexnet_tf.data.splits import DataSource, Split, generator
from alexnet_tf.data.statistics import Statistics
from alexnet_tf.data.stores import AUTOTUNE, ArrayStore, DataError, StreamStore, traced

NO_SEED = np.zeros(2, np.int64)


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
) -> tf.data.Dataset:
    """Return the batches of one epoch of training.

    What does not fill a batch is dropped, other examples each epoch. Streamed sets are shuffled by the order of
    their files and in a window of `data.shuffle_window`; there, skipped steps must be read.

    Args:
        source: The data set.
        augment: Operations, in their training form.
        statistics: Of the training split, where an operation needs them.
        seed: The run's seed.
        epoch: Decides the order and the augmentation.
        batch_size: Examples of a batch.
        first_step: Start at this step of the epoch.

    Returns:
        A dataset of images float32 [B, size, size, channels], labels int32 [B] and ids int64 [B].

    Raises:
        DataError: The training split has fewer examples than one batch.
        ValueError: The operations are wrong.
    """
    steps = num_train_steps(source, batch_size)
    split = source.split("train")
    chain = _chain(split, augment, statistics, training=True)
    used = slice(first_step * batch_size, steps * batch_size)
    if split.ids is None:
        stream_seed = int(generator(seed, epoch).integers(2**31))
        examples = _stream(split, seed=stream_seed, skip=used.start).take(max(0, used.stop - used.start))
        batches = _batch_examples(examples, chain, batch_size, _augment_key(seed, epoch))
    else:
        order = epoch_ids(source, seed, epoch)[used]
        batches = _batches(split, order, chain, batch_size, _augment_key(seed, epoch))
    batches = batches.apply(tf.data.experimental.assert_cardinality(max(0, steps - first_step)))
    return _finish(batches.map(traced(lambda *batch: _static(batch, batch_size))))


def eval_batches(
    source: DataSource,
    split_name: str,
    augment: AugmentConfig,
    statistics: Statistics | None,
    *,
    batch_size: int,
    ids: np.ndarray | None = None,
    views: int = 1,
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

    Returns:
        A dataset of images float32 [B, size, size, channels], or [B, views, size, size, channels] with several
        views, labels int32 [B] and weights float32 [B], 1 for an example and 0 for padding.

    Raises:
        ConfigError: Several views cannot be cut with these operations.
        DataError: There is no such split, or no such ids in it.
        ValueError: The operations are wrong.
    """
    split = source.split(split_name)
    chain = _chain(split, augment, statistics, training=False, views=views)
    if split.ids is None:
        examples = _stream(split)
        if ids is not None:
            if not np.array_equal(ids, np.arange(min(len(ids), split.num_examples))):
                raise DataError(f"{source.name} is streamed: only its first examples can be chosen.")
            examples = examples.take(len(ids))
        batches = _batch_examples(examples, chain, batch_size, 0)
    else:
        if ids is not None and not np.isin(ids, split.ids).all():
            raise DataError(f"Some of the ids are not in the {split_name} split of {source.name}.")
        batches = _batches(split, split.ids if ids is None else ids, chain, batch_size, 0)
    total = split.num_examples if ids is None else len(ids)
    batches = batches.apply(tf.data.experimental.assert_cardinality(-(-total // batch_size)))
    return _finish(batches.map(traced(lambda *batch: _static(_pad(batch, batch_size), batch_size))))


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
    split: Split, augment: AugmentConfig, statistics: Statistics | None, *, training: bool, views: int = 1
) -> Preprocessing:
    fixed_size = split.store.image_shape is not None
    return make_preprocessing(augment, statistics, training=training, fixed_size=fixed_size, views=views)


def _augment_key(seed: int, epoch: int) -> int:
    """Return a number of 62 bits for (seed, epoch); with an example's id it is the example's seed."""
    purpose = generator(seed, "augment").integers(2**62)
    return int(generator(int(purpose), epoch).integers(2**62))


def _stream(split: Split, *, seed: int | None = None, skip: int = 0) -> tf.data.Dataset:
    store = cast("StreamStore", split.store)
    return store.stream(split.start, split.start + split.num_examples, seed=seed, skip=skip)


def _examples(split: Split) -> tf.data.Dataset:
    """Return all (image, label, id) of a split in order."""
    if split.ids is None:
        return _stream(split)
    return cast("ArrayStore", split.store).examples(tf.data.Dataset.from_tensor_slices(split.ids))


def _batches(
    split: Split, ids: np.ndarray, chain: Preprocessing, batch_size: int, key: int
) -> tf.data.Dataset:
    """Return (images, labels, ids) of given ids; arrays are gathered by the batch if nothing is per example."""
    dataset = tf.data.Dataset.from_tensor_slices(np.asarray(ids, np.int64))
    store = split.store
    assert not isinstance(store, StreamStore)  # it has no ids
    if not isinstance(store, ArrayStore) or chain.per_example is not None:
        return _batch_examples(store.examples(dataset), chain, batch_size, key)
    _ = store.arrays

    @traced
    def load(batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        images, labels, _ = store.gather(batch)
        return chain.per_batch(images), labels, batch

    return dataset.batch(batch_size).map(load, num_parallel_calls=AUTOTUNE, deterministic=True)


def _batch_examples(
    examples: tf.data.Dataset, chain: Preprocessing, batch_size: int, key: int
) -> tf.data.Dataset:
    """Preprocess (image, label, id) and make batches of them."""
    per_example = chain.per_example
    if per_example is not None:

        @traced
        def apply(image: tf.Tensor, label: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return per_example(image, tf.stack([tf.constant(key, tf.int64), index])), label, index

        examples = examples.map(apply, num_parallel_calls=AUTOTUNE, deterministic=True)
    return examples.batch(batch_size).map(
        traced(lambda images, labels, ids: (chain.per_batch(images), labels, ids)),
        num_parallel_calls=AUTOTUNE,
        deterministic=True,
    )


def _pad(batch: tuple[tf.Tensor, ...], batch_size: int) -> tuple[tf.Tensor, ...]:
    """Fill (images, labels, ids) up to `batch_size` rows; return (images, labels, weights)."""
    images, labels, _ = batch
    missing = batch_size - tf.shape(labels)[0]
    weights = tf.pad(tf.ones_like(labels, tf.float32), [[0, missing]])
    rest = [[0, 0]] * (len(images.shape) - 1)
    return tf.pad(images, [[0, missing], *rest]), tf.pad(labels, [[0, missing]]), weights


def _static(batch: tuple[tf.Tensor, ...], batch_size: int) -> tuple[tf.Tensor, ...]:
    return tuple(tf.ensure_shape(tensor, [batch_size, *tensor.shape[1:]]) for tensor in batch)


def _finish(batches: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # The tuner's thread sleeps between its rounds, up to half a minute, and an iterator that is let go waits for it:
    # with it an epoch of 20 s was followed by up to 20 s of nothing. Parallelism is then the number of cores.
    options.autotune.enabled = False
    return batches.with_options(options).prefetch(AUTOTUNE)
