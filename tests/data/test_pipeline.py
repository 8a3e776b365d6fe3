"""Order, remainder, resume, padding: what the batches of training and evaluation promise."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config.schema import (
    AugmentConfig,
    CropConfig,
    DataConfig,
    FlipConfig,
    PadCropConfig,
    RandomCropConfig,
    ResizeConfig,
    RotateConfig,
    ScaleConfig,
    SubtractMeanConfig,
)
from alexnet_tf.data import (
    DataError,
    DataSource,
    Share,
    Statistics,
    compute_statistics,
    epoch_ids,
    epochs_at_once,
    eval_batches,
    finisher,
    load_source,
    num_train_steps,
    ordered_images,
    preprocess_images,
    probe_ids,
    train_batches,
)

BATCH = 128
RANDOM = AugmentConfig(
    order=["pad_crop", "flip", "scale"],
    pad_crop=PadCropConfig(size=8, padding=2),
    flip=FlipConfig(),
    scale=ScaleConfig(divisor=255.0),
)


def epoch(
    source: DataSource, augment: AugmentConfig, number: int = 1, seed: int = 0, **options: Any
) -> list[np.ndarray]:
    """The images, labels and ids of an epoch, each in one array."""
    options = {"batch_size": BATCH, **options}
    batches = list(train_batches(source, augment, None, seed=seed, epoch=number, **options))
    return [np.concatenate(column) for column in zip(*batches, strict=True)]


def test_elements(digits: DataSource, digits_augment: AugmentConfig, digits_statistics: Statistics) -> None:
    batches = train_batches(digits, digits_augment, digits_statistics, seed=0, epoch=1, batch_size=BATCH)
    assert batches.element_spec == (
        tf.TensorSpec([BATCH, 12, 12, 1], tf.float32),
        tf.TensorSpec([BATCH], tf.int32),
        tf.TensorSpec([BATCH], tf.int64),
    )
    assert len(batches) == num_train_steps(digits, BATCH) == 1438 // BATCH
    evaluated = eval_batches(digits, "validation", digits_augment, digits_statistics, batch_size=BATCH)
    assert evaluated.element_spec == (
        tf.TensorSpec([BATCH, 12, 12, 1], tf.float32),
        tf.TensorSpec([BATCH], tf.int32),
        tf.TensorSpec([BATCH], tf.float32),
    )
    assert len(evaluated) == -(-359 // BATCH)


@pytest.mark.parametrize(
    "order",
    [
        ["pad_crop", "flip", "pca", "subtract_mean", "scale"],
        ["resize", "rotate", "random_crop", "brightness", "flip", "subtract_mean", "scale"],
    ],
)
def test_what_a_device_finishes_is_what_the_host_makes(digits: DataSource, order: list[str]) -> None:
    augment = AugmentConfig(
        order=order,
        pad_crop=PadCropConfig(size=8, padding=2),
        resize=ResizeConfig(size=10),
        rotate=RotateConfig(degrees=5),
        random_crop=RandomCropConfig(size=8),
        subtract_mean=SubtractMeanConfig(values=[7.0]),
        scale=ScaleConfig(divisor=4.0),  # by another, a device may multiply with its reciprocal
    )
    statistics = compute_statistics(digits, augment)
    options = {"seed": 1, "epoch": 2, "batch_size": BATCH}
    whole = train_batches(digits, augment, statistics, **options)
    parts = train_batches(digits, augment, statistics, **options, unfinished=True)
    finish = finisher(digits, augment, statistics)
    for (images, labels, ids), (unfinished, *rest) in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(finish(*unfinished), images)
        np.testing.assert_array_equal(rest[0], labels)
        np.testing.assert_array_equal(rest[1], ids)
    assert len(unfinished) == 4  # the images, and what three operations drew
    assert unfinished[0].dtype == (tf.float32 if "resize" in order else tf.uint8)


def test_epochs_at_once_are_the_epochs_one_by_one(digits: DataSource) -> None:
    share = Share(1, 2)
    together = epoch(digits, RANDOM, 3, first_step=9, epochs=3, share=share)
    alone = [
        epoch(digits, RANDOM, number, first_step=first, share=share)
        for number, first in ((3, 9), (4, 0), (5, 0))
    ]
    for column, parts in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(column, np.concatenate(parts))
    batches = train_batches(digits, RANDOM, None, seed=0, epoch=3, batch_size=BATCH, first_step=9, epochs=3)
    assert len(batches) == 3 * (1438 // BATCH) - 9
    assert epochs_at_once(digits) == 2**20 // 1438


def test_an_epoch_has_each_id_once_but_for_a_changing_remainder(digits: DataSource) -> None:
    everything = set(digits.splits["train"].ids)
    dropped = []
    for number in (1, 2):
        _, _, ids = epoch(digits, RANDOM, number)
        assert len(set(ids)) == len(ids) == 1438 // BATCH * BATCH
        assert set(ids) < everything
        np.testing.assert_array_equal(ids, epoch_ids(digits, 0, number)[: len(ids)])
        dropped.append(everything - set(ids))
    assert len(dropped[0]) == 1438 % BATCH
    assert dropped[0] != dropped[1]


def test_order_and_augmentation_are_functions_of_seed_and_epoch(digits: DataSource) -> None:
    images, labels, ids = epoch(digits, RANDOM)
    for again, first in zip(epoch(digits, RANDOM), (images, labels, ids), strict=True):
        np.testing.assert_array_equal(again, first)
    for other in (epoch(digits, RANDOM, number=2), epoch(digits, RANDOM, seed=1)):
        assert (other[2] != ids).mean() > 0.9
        same = {index: image for image, index in zip(other[0], other[2], strict=True)}
        changed = [
            not np.array_equal(same[i], image) for image, i in zip(images, ids, strict=True) if i in same
        ]
        assert np.mean(changed) > 0.8  # the same image, augmented differently


def test_an_example_looks_the_same_in_any_batch(digits: DataSource) -> None:
    by_large = dict(zip(*(epoch(digits, RANDOM)[i] for i in (2, 0)), strict=True))
    images, _, ids = epoch(digits, RANDOM, batch_size=10)
    for image, index in zip(images, ids, strict=True):
        if index in by_large:
            np.testing.assert_array_equal(image, by_large[index])


@pytest.mark.parametrize("random", [True, False])
def test_first_step_equals_skipping(digits: DataSource, random: bool) -> None:
    augment = RANDOM if random else replace(RANDOM, order=["scale"])
    whole, rest = epoch(digits, augment), epoch(digits, augment, first_step=7)
    for all_of_it, part in zip(whole, rest, strict=True):
        np.testing.assert_array_equal(all_of_it[7 * BATCH :], part)
    steps = num_train_steps(digits, BATCH)
    assert (
        len(list(train_batches(digits, RANDOM, None, seed=0, epoch=1, batch_size=BATCH, first_step=steps)))
        == 0
    )


def test_labels_and_images_belong_to_the_ids(digits: DataSource) -> None:
    images, labels, ids = epoch(digits, replace(RANDOM, order=["scale"]))
    stored_images, stored_labels = digits.splits["train"].store.arrays
    np.testing.assert_array_equal(labels, stored_labels.numpy()[ids])
    np.testing.assert_allclose(images * 255, stored_images.numpy()[ids], atol=1e-4)


def test_gathering_batches_equals_going_one_by_one(
    digits: DataSource, digits_augment: AugmentConfig, digits_statistics: Statistics
) -> None:
    def images(augment: AugmentConfig) -> np.ndarray:
        batches = train_batches(digits, augment, digits_statistics, seed=0, epoch=1, batch_size=BATCH)
        return np.concatenate([batch[0] for batch in batches])

    still = replace(
        digits_augment, order=["resize", "flip", *digits_augment.order[1:]], flip=FlipConfig(probability=0)
    )
    np.testing.assert_allclose(images(digits_augment), images(still), atol=1e-5)


@pytest.mark.parametrize("crop", ["pad_crop", "random_crop"])
@pytest.mark.filterwarnings("ignore:Even though the `tf.config")
def test_batches_are_the_same_where_functions_run_eagerly(digits: DataSource, crop: str) -> None:
    """What is compiled otherwise is then part of the pipeline's own graph."""
    order = [crop, "flip", "scale"]
    augment = replace(RANDOM, order=order, random_crop=RandomCropConfig(size=7))
    compiled = epoch(digits, augment)
    tf.config.run_functions_eagerly(True)
    try:
        plain = epoch(digits, augment)
    finally:
        tf.config.run_functions_eagerly(False)
    for one, other in zip(compiled, plain, strict=True):
        np.testing.assert_array_equal(one, other)


def test_evaluation_has_each_example_once_and_pads_with_weight_zero(digits: DataSource) -> None:
    scale = AugmentConfig(order=["scale"], scale=ScaleConfig(divisor=1.0))
    batches = list(eval_batches(digits, "validation", scale, None, batch_size=100))
    images, labels, weights = (np.concatenate(column) for column in zip(*batches, strict=True))
    assert len(weights) == 400
    np.testing.assert_array_equal(weights, np.arange(400) < 359)
    split = digits.splits["validation"]
    stored_images, stored_labels, _ = split.store.gather(split.ids)
    np.testing.assert_array_equal(images[:359], stored_images)
    np.testing.assert_array_equal(labels[:359], stored_labels)
    assert not images[359:].any()
    assert not labels[359:].any()


def test_the_probe_is_a_fixed_choice_of_training_examples(digits: DataSource) -> None:
    ids = probe_ids(digits, 150, seed=3)
    np.testing.assert_array_equal(ids, probe_ids(digits, 150, seed=3))
    assert len(set(ids)) == 150
    assert set(ids) < set(digits.splits["train"].ids)
    assert set(ids) != set(probe_ids(digits, 150, seed=4))
    assert len(probe_ids(digits, 10**6, seed=3)) == 1438
    batches = list(eval_batches(digits, "train", RANDOM, None, batch_size=100, ids=ids))
    labels = np.concatenate([batch[1][batch[2] > 0] for batch in batches])
    np.testing.assert_array_equal(labels, digits.splits["train"].store.arrays[1].numpy()[ids])
    with pytest.raises(DataError, match=r"not in the validation split of digits"):
        eval_batches(digits, "validation", RANDOM, None, batch_size=100, ids=ids)


def test_overfitting_batches_can_be_had_unaugmented(digits: DataSource) -> None:
    ids = epoch_ids(digits, 0, 0)[: 2 * BATCH]
    batches = list(eval_batches(digits, "train", RANDOM, None, batch_size=BATCH, ids=ids))
    _, _, order = epoch(digits, RANDOM, number=0)
    stored = digits.splits["train"].store.arrays[1].numpy()
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches]), stored[order[: 2 * BATCH]])


def test_preprocess_images_is_what_evaluation_does(
    digits: DataSource, digits_augment: AugmentConfig, digits_statistics: Statistics
) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 1], tf.uint8)])
    def served(images: tf.Tensor) -> tf.Tensor:
        return preprocess_images(images, digits_augment, digits_statistics)

    split = digits.splits["validation"]
    raw = split.store.gather(split.ids[:50])[0]
    ((expected, _, _),) = eval_batches(
        digits, "validation", digits_augment, digits_statistics, batch_size=50, ids=split.ids[:50]
    )
    np.testing.assert_allclose(served(raw), expected, atol=1e-5)
    np.testing.assert_allclose(preprocess_images(raw, digits_augment, digits_statistics), expected, atol=1e-5)


def test_preprocess_images_of_any_size() -> None:
    augment = AugmentConfig(
        order=["resize", "center_crop", "subtract_mean", "random_crop"],
        subtract_mean=SubtractMeanConfig(values=[1.0, 2.0, 3.0]),
        center_crop=CropConfig(size=12),
        random_crop=RandomCropConfig(size=10),
    )
    assert augment.resize is not None
    augment = replace(augment, resize=replace(augment.resize, size=12))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
    def served(images: tf.Tensor) -> tf.Tensor:
        return preprocess_images(images, augment, None)

    assert served.get_concrete_function().output_shapes == [None, 10, 10, 3]
    for size in ([20, 30], [9, 9]):
        result = served(tf.fill([2, *size, 3], tf.constant(100, tf.uint8)))
        np.testing.assert_allclose(result, np.full([2, 10, 10, 3], 100) - [1, 2, 3], atol=1e-3)


def test_ordered_images(digits: DataSource) -> None:
    images = ordered_images(digits, "validation", AugmentConfig(order=[]))
    assert images.element_spec == tf.TensorSpec([8, 8, 1], tf.float32)
    split = digits.splits["validation"]
    np.testing.assert_array_equal(list(images), split.store.gather(split.ids)[0])


def test_it_runs_under_a_mirrored_strategy() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        source = load_source(DataConfig(name="digits", channels=1))
        batches = train_batches(source, RANDOM, None, seed=0, epoch=1, batch_size=BATCH)
        distributed = strategy.experimental_distribute_dataset(batches)
    ids = np.concatenate([batch[2] for batch in distributed])
    np.testing.assert_array_equal(ids, epoch_ids(source, 0, 1)[: len(ids)])
    assert len(ids) > 0


def test_a_batch_larger_than_the_split(digits: DataSource) -> None:
    with pytest.raises(DataError, match=r"training.batch_size must be 1 to 1438.*Received 1439"):
        train_batches(digits, RANDOM, None, seed=0, epoch=1, batch_size=1439)


def test_statistics_are_of_the_carved_split(digits: DataSource, tmp_path) -> None:
    other = load_source(DataConfig(name="digits", channels=1, validation_fraction=0.2, split_seed=1))
    augment = AugmentConfig(order=["subtract_mean"], subtract_mean=SubtractMeanConfig())
    means = [compute_statistics(source, augment, tmp_path).mean_channel for source in (digits, other)]
    assert means[0] != means[1]


def test_preprocessing_takes_arrays_that_need_no_resize() -> None:
    config = AugmentConfig(
        order=["resize", "scale"], resize=ResizeConfig(size=8), scale=ScaleConfig(divisor=2.0)
    )
    images = np.full((2, 8, 8, 1), 10, np.uint8)
    np.testing.assert_array_equal(preprocess_images(images, config, None), np.full((2, 8, 8, 1), 5.0))
