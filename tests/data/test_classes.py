"""`data.classes`: part of a set's classes, wherever the set comes from."""

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config import ConfigError, compose
from alexnet_tf.config.schema import DataConfig
from alexnet_tf.data import DataError, load_source, raw_examples
from alexnet_tf.data.stores import EncodedStore, RecordStore


def digits(*classes: str, **values) -> DataConfig:
    return DataConfig(name="digits", channels=1, classes=list(classes) or None, **values)


def examples(source, split="train"):
    return [(image, int(label)) for image, label, _ in raw_examples(source, split).as_numpy_iterator()]


def test_only_the_chosen_are_there_under_new_labels():
    everything = load_source(digits(validation_fraction=0.0))
    some = load_source(digits("7", "1", validation_fraction=0.0))
    assert some.class_names == ["7", "1"]
    expected = [(image, [7, 1].index(label)) for image, label in examples(everything) if label in (7, 1)]
    found = examples(some)
    assert [label for _, label in found] == [label for _, label in expected]
    assert all((one == other).all() for (one, _), (other, _) in zip(found, expected, strict=True))


def test_a_slice_is_of_the_list_of_names():
    assert load_source(digits("::2")).class_names == list("02468")
    assert load_source(digits("1::2", "0")).class_names == list("135790")
    assert load_source(digits("-3:")).class_names == list("789")


def test_carving_and_train_examples_count_the_chosen():
    source = load_source(digits("::2", validation_fraction=0.2, train_examples=50))
    assert source.split("train").num_examples == 50
    assert source.split("validation").num_examples == round(0.2 * 891)
    train = set(source.split("train").ids)
    assert not train & set(source.split("validation").ids)


def test_the_fingerprint_knows_the_classes_and_only_where_there_are_some():
    prints = [load_source(digits(*classes)).fingerprint for classes in ((), ("0", "1"), ("1", "0"), ("0:2",))]
    assert len(set(prints)) == 4
    assert prints[0] == "15a072590b799e1ef97cb868"  # as before there was a choice: runs go on


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            ["0", "x"],
            r"data.classes=\[0, x\]: 'x' is no class of digits. Expected a slice such as ::2, or one of 0, 1",
        ),
        (["0", ":2"], "expected each class once, came twice: 0"),
        (["3"], "expected at least 2 classes of digits, came 1"),
        (["20:"], "'20:' has none of the 10 classes"),
        (["::0"], "'::0' is no class"),
    ],
)
def test_a_wrong_choice_is_one_line(classes, message):
    with pytest.raises(DataError, match=message) as caught:
        load_source(digits(*classes))
    assert "\n" not in str(caught.value)


def test_an_empty_or_repeated_list_is_found_before_tensorflow_loads():
    for classes in ("[]", "[cat,cat]"):
        with pytest.raises(
            ConfigError, match=r"data.classes=.*expected at least one name or slice, each once"
        ):
            compose([f"data.classes={classes}"])
    assert compose(["data.classes=[1,3]"]).data.classes == ["1", "3"]


def test_of_a_folder_other_classes_are_not_even_looked_at(tmp_path, write_images):
    write_images(tmp_path / "train", {"ant": 3, "bee": 4, "cat": 5})
    write_images(tmp_path / "val", {"ant": 1, "bee": 2, "cat": 1})
    (tmp_path / "train" / "bee" / "0.png").write_bytes(b"no picture")
    source = load_source(DataConfig(name="folder", dir=str(tmp_path), classes=["cat", "ant"]))
    assert source.class_names == ["cat", "ant"]
    assert {name: split.num_examples for name, split in source.splits.items()} == {
        "train": 8,
        "validation": 2,
    }
    assert [(image[0, 0, 0] // 10, label) for image, label in examples(source)] == [(2, 0)] * 5 + [(0, 1)] * 3
    with pytest.raises(
        DataError, match=r"'dog' is no class of folder\. Expected a slice such as ::2, or one of ant, bee"
    ):
        load_source(DataConfig(name="folder", dir=str(tmp_path), classes=["cat", "dog"]))


class Records(list):
    """A data source of TFDS."""

    def __getitems__(self, ids):
        return [self[index] for index in ids]


def test_encoded_images_and_records_choose_alike():
    images = [tf.io.encode_png(np.full([2, 2, 1], number, np.uint8)).numpy() for number in range(8)]
    labels = [0, 1, 2, 0, 1, 2, 2, 0]
    records = Records({"image": image, "label": label} for image, label in zip(images, labels, strict=True))
    stores = [
        EncodedStore(8, (2, 2, 1), 1, lambda: (images, labels)),
        RecordStore(records, ("image", "label"), (2, 2, 1), 1),
    ]
    for store in stores:
        chosen = store.choose([2, 0])
        assert chosen.num_examples == 6
        ids = tf.data.Dataset.from_tensor_slices(np.arange(6))
        found = [(image[0, 0, 0], label) for image, label, _ in chosen.examples(ids).as_numpy_iterator()]
        assert found == [(0, 1), (2, 0), (3, 1), (5, 0), (6, 0), (7, 1)]
