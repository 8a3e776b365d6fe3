"""The digits, the carving of splits, and the choice of a source by its name."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from alexnet_tf.config.schema import DataConfig
from alexnet_tf.data import DataError, load_source

DIGITS = DataConfig(name="digits", channels=1, validation_fraction=0.2)


def test_digits_are_scikit_learns() -> None:
    source = load_source(replace(DIGITS, validation_fraction=0))
    assert source.class_names == [str(digit) for digit in range(10)]
    assert source.image_shape == (8, 8, 1)
    assert list(source.splits) == ["train"]
    images, labels, ids = source.splits["train"].store.gather(np.arange(1797))
    bunch = load_digits()
    np.testing.assert_allclose(images[..., 0] / 255, bunch.images / 16, atol=0.5 / 255)
    assert images.numpy().max() == 255
    np.testing.assert_array_equal(labels, bunch.target)
    np.testing.assert_array_equal(ids, np.arange(1797))


def test_digits_in_colour_are_grey() -> None:
    images = load_source(replace(DIGITS, channels=3)).splits["train"].store.arrays[0].numpy()
    assert images.shape == (1797, 8, 8, 3)
    assert (images == images[..., :1]).all()


def test_carving_is_disjoint_complete_and_reproducible() -> None:
    first, second = load_source(DIGITS), load_source(DIGITS)
    train, validation = first.splits["train"].ids, first.splits["validation"].ids
    assert first.splits["validation"].num_examples == len(validation) == round(0.2 * 1797)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(1797))
    np.testing.assert_array_equal(train, np.sort(train))
    for name, split in first.splits.items():
        np.testing.assert_array_equal(split.ids, second.splits[name].ids)
    assert first.fingerprint == second.fingerprint


def test_split_seed_and_train_examples_choose() -> None:
    usual, other = load_source(DIGITS), load_source(replace(DIGITS, split_seed=1))
    few = load_source(replace(DIGITS, train_examples=100))
    assert set(usual.splits["validation"].ids) != set(other.splits["validation"].ids)
    np.testing.assert_array_equal(few.splits["validation"].ids, usual.splits["validation"].ids)
    assert set(few.splits["train"].ids) < set(usual.splits["train"].ids)
    assert few.splits["train"].num_examples == 100
    assert len({source.fingerprint for source in (usual, other, few)}) == 3


def test_describe_is_json() -> None:
    described = load_source(DIGITS).describe()
    assert described["splits"] == {"train": 1438, "validation": 359}
    assert described["class_names"][3] == "3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_examples": 1439}, "data.train_examples must be 1 to 1438.*Received 1439"),
        ({"validation_fraction": 1.0}, "data.validation_fraction must be at least 0 and below 1"),
        ({"validation_fraction": 1e-5}, "leaves an empty split"),
        ({"channels": 2}, r"data.channels must be 1 \(grey\) or 3 \(RGB\). Received 2"),
        ({"validation_split": "validation"}, "digits has only a training split"),
        ({"name": "no such name"}, "data.name=no such name must be digits, folder or a TFDS name"),
    ],
)
def test_wrong_use_is_one_clear_line(change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_source(replace(DIGITS, **change))
    assert "\n" not in str(caught.value)


def test_a_missing_split_names_the_choices() -> None:
    with pytest.raises(DataError, match=r"digits has no test split. Expected one of train, validation"):
        load_source(DIGITS).split("test")
