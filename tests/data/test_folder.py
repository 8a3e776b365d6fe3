"""Folders of images that are made by hand, good and bad."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config.schema import AugmentConfig, CropConfig, DataConfig, OnError
from alexnet_tf.data import DataError, DataSource, eval_batches, explain_error, load_source

CROP = AugmentConfig(order=["center_crop"], center_crop=CropConfig(size=8))
Write = Callable[..., None]


def load(folder: Path, **options: object) -> DataSource:
    return load_source(DataConfig(name="folder", dir=str(folder), **options))


def values(source: DataSource, split: str) -> list[tuple[int, int]]:
    """The (colour, label) of every image of a split."""
    result = []
    for images, labels, weights in eval_batches(source, split, CROP, None, batch_size=4):
        colours = images[:, 0, 0, 0].numpy().round().astype(int)
        result += [(int(c), int(k)) for c, k, w in zip(colours, labels, weights, strict=True) if w]
    return result


def test_flat_folder_is_carved(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path, {"ants": 6, "bees": 4})
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "ants" / ".hidden.png").write_bytes(b"")
    (tmp_path / "ants" / "notes.txt").write_text("no image")
    source = load(tmp_path, validation_fraction=0.3)
    assert source.class_names == ["ants", "bees"]
    assert source.image_shape is None
    assert {name: split.num_examples for name, split in source.splits.items()} == {
        "train": 7,
        "validation": 3,
    }
    both = values(source, "train") + values(source, "validation")
    assert sorted(both) == [(n, 0) for n in range(6)] + [(10 + n, 1) for n in range(4)]


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_train_and_validation_folders(tmp_path: Path, write_images: Write, validation: str) -> None:
    write_images(tmp_path / "train", {"b": 2, "a": 3})
    write_images(tmp_path / validation, {"a": 1, "b": 2})
    write_images(tmp_path / "test", {"a": 1, "b": 1})
    source = load(tmp_path)
    assert source.class_names == ["a", "b"]
    assert sorted(source.splits) == ["test", "train", "validation"]
    assert values(source, "validation") == [(0, 0), (10, 1), (11, 1)]
    assert "test" not in load(tmp_path, test_split=None).splits


def test_named_validation_folder(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path / "train", {"a": 2, "b": 1})
    write_images(tmp_path / "held_out", {"a": 2, "b": 1})
    assert load(tmp_path, validation_split="held_out").splits["validation"].num_examples == 3
    with pytest.raises(DataError, match=r"validation_split=other is not a folder.*held_out, train"):
        load(tmp_path, validation_split="other")


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".JPEG", ".PNG"])
@pytest.mark.parametrize("channels", [1, 3])
def test_formats_and_grey_images(tmp_path: Path, write_images: Write, suffix: str, channels: int) -> None:
    write_images(tmp_path, {"grey": 2}, suffix, channels=1)
    write_images(tmp_path, {"rgb": 2}, suffix, channels=3)
    source = load(tmp_path, validation_fraction=0, channels=channels)
    (batch,) = eval_batches(source, "train", CROP, None, batch_size=4)
    assert batch[0].shape == [4, 8, 8, channels]
    expected = np.array([0, 1, 0, 1], np.float32)[:, np.newaxis, np.newaxis, np.newaxis]
    np.testing.assert_allclose(batch[0], np.broadcast_to(expected, batch[0].shape), atol=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_gif_bmp_webp(tmp_path: Path, channels: int) -> None:
    image = pytest.importorskip("PIL.Image").new("RGB", (12, 10), (90, 90, 90))
    for name, suffix in (("a", "gif"), ("a", "bmp"), ("b", "webp")):
        (tmp_path / name).mkdir(exist_ok=True)
        image.save(tmp_path / name / f"image.{suffix}")
    source = load(tmp_path, validation_fraction=0, channels=channels)
    ((images, _, _),) = eval_batches(source, "train", CROP, None, batch_size=3)
    np.testing.assert_allclose(images, np.full([3, 8, 8, channels], 90), atol=2)


def test_the_fingerprint_follows_the_files_not_the_place(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path / "one", {"a": 3, "b": 3})
    write_images(tmp_path / "two", {"a": 3, "b": 3})
    first = load(tmp_path / "one").fingerprint
    assert load(tmp_path / "two").fingerprint == first
    (tmp_path / "two" / "a" / "0.png").rename(tmp_path / "two" / "a" / "00.png")
    assert load(tmp_path / "two").fingerprint != first


# ------------------------------------------------------------------------------------------------ bad files


@pytest.fixture
def with_truncated(tmp_path: Path, write_images: Write) -> tuple[Path, Path]:
    """A folder of ten images, one of which begins well and then ends."""
    write_images(tmp_path, {"a": 5, "b": 5})
    bad = tmp_path / "b" / "2.png"
    bad.write_bytes(bad.read_bytes()[:40])
    return tmp_path, bad


@pytest.mark.parametrize("content", [b"", b"this is no image at all"])
def test_what_is_no_image_fails_at_once_by_name(tmp_path: Path, write_images: Write, content: bytes) -> None:
    write_images(tmp_path, {"a": 3, "b": 3})
    bad = tmp_path / "a" / "1.png"
    bad.write_bytes(content)
    with pytest.raises(DataError, match=rf"Cannot read the image {bad}.*data.on_error=skip"):
        load(tmp_path)


def test_a_damaged_image_is_explained_by_name(with_truncated: tuple[Path, Path]) -> None:
    folder, bad = with_truncated
    source = load(folder, validation_fraction=0)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        values(source, "train")
    explained = explain_error(caught.value, source)
    assert isinstance(explained, DataError)
    assert str(bad) in str(explained)
    assert "\n" not in str(explained)
    bad.unlink()
    with pytest.raises(tf.errors.NotFoundError) as missing:
        values(source, "train")
    assert str(bad) in str(explain_error(missing.value, source))


def test_errors_that_have_another_cause_are_not_explained(
    digits: DataSource, tmp_path: Path, write_images: Write
) -> None:
    write_images(tmp_path, {"a": 2, "b": 2})
    error = tf.errors.InvalidArgumentError(None, None, "something else")
    assert explain_error(error, digits) is None
    assert explain_error(error, load(tmp_path, validation_fraction=0)) is None
    assert explain_error(ValueError("something else"), digits) is None


def test_skip_leaves_out_unreadable_images_and_counts_them(
    with_truncated: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder, bad = with_truncated
    (folder / "a" / "0.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        source = load(folder, validation_fraction=0, on_error=OnError.skip, max_skipped=0.2)
    assert "Left out 2 of 10 images" in caplog.text
    assert source.splits["train"].num_examples == 8
    assert values(source, "train") == [(n, 0) for n in range(1, 5)] + [(10 + n, 1) for n in (0, 1, 3, 4)]
    assert str(bad) not in caplog.text  # only the first is named


def test_images_of_another_size_than_configured(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path, {"a": 2, "b": 1})  # 9 x 12 and 10 x 12
    source = load(tmp_path, validation_fraction=0, image_size=12)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        values(source, "train")
    assert "0.png" in str(explain_error(caught.value, source))


# ----------------------------------------------------------------------------------------------- bad layout


def test_missing_and_empty_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALEXNET_DATA_DIR", raising=False)
    with pytest.raises(
        DataError, match=r"data.dir is not set, nor is ALEXNET_DATA_DIR.*Expected class folders of images"
    ):
        load_source(DataConfig(name="folder"))
    with pytest.raises(DataError, match=rf"data.dir={tmp_path}/none must be a folder, found nothing there"):
        load(tmp_path / "none")
    with pytest.raises(DataError, match=r"has no folders in it, found nothing. Expected class folders"):
        load(tmp_path)
    (tmp_path / "image.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"has no folders in it, found image.png"):
        load(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "stray.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"train has no class folders, found stray.png"):
        load(tmp_path)
    (tmp_path / "train" / "a").mkdir()
    with pytest.raises(DataError, match=r"No images in the class folders a of .*\.webp"):
        load(tmp_path)


def test_the_folder_comes_from_the_environment(
    tmp_path: Path, write_images: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "mine", {"a": 2, "b": 2})
    write_images(tmp_path / "other", {"c": 1, "d": 1})
    monkeypatch.setenv("ALEXNET_DATA_DIR", str(tmp_path / "mine"))
    assert load_source(DataConfig(name="folder", validation_fraction=0)).class_names == ["a", "b"]
    assert load(tmp_path / "other", validation_fraction=0).class_names == ["c", "d"]
    monkeypatch.setenv("ALEXNET_DATA_DIR", str(tmp_path / "none"))
    with pytest.raises(
        DataError, match=rf"^ALEXNET_DATA_DIR={tmp_path}/none must be a folder, found nothing"
    ):
        load_source(DataConfig(name="folder"))


def test_one_class_is_refused(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path, {"only": 3})
    with pytest.raises(
        DataError, match=rf"^Expected at least 2 class folders in {tmp_path}\. Found 1: only\.$"
    ):
        load(tmp_path, validation_fraction=0)


def test_a_class_that_skipping_has_emptied_is_refused(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path, {"a": 3, "b": 1})
    (tmp_path / "b" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=rf"^No images in the class folders b of {tmp_path}\."):
        load(tmp_path, validation_fraction=0, on_error=OnError.skip, max_skipped=0.5)


@pytest.mark.parametrize("place", [b"a/\xff.png", b"\xff"])
def test_names_that_are_no_utf8(tmp_path: Path, write_images: Write, place: bytes) -> None:
    write_images(tmp_path, {"a": 1, "b": 1})
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + place))
    try:
        shutil.copytree(tmp_path / "a", path) if not path.suffix else shutil.copy(
            tmp_path / "a" / "0.png", path
        )
    except OSError:
        pytest.skip("the file system takes only UTF-8")
    with pytest.raises(DataError, match=r"expected names in UTF-8, found b'.*\\xff") as caught:
        load(tmp_path, validation_fraction=0)
    str(caught.value).encode()


def test_validation_classes_must_be_the_training_classes(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path / "train", {"a": 1, "b": 1})
    write_images(tmp_path / "val", {"a": 1, "c": 1})
    with pytest.raises(DataError, match=r"validation folder .*: missing b, additional c"):
        load(tmp_path)


def test_a_validation_folder_needs_a_training_folder(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path, {"a": 2, "b": 2})
    with pytest.raises(DataError, match=r"validation_split=val needs the folders train and val.*Found a, b"):
        load(tmp_path, validation_split="val")
