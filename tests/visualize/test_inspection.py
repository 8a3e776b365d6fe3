"""Looking at a data set: counts, sizes, repeated images, and a contact sheet of what training sees."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import data
from alexnet_tf.config import compose
from alexnet_tf.visualize import contact_sheet, difference_hash, inspect_data


def photo(seed: int, height: int = 40, width: int = 50) -> np.ndarray:
    """A smooth picture: uint8 [height, width, 3]."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3)).astype(np.float32)
    return tf.cast(
        tf.clip_by_value(tf.image.resize(small, [height, width], "bicubic"), 0, 255), tf.uint8
    ).numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes; an image of the first stands twice in it, once in validation, and once there at half the size."""
    root = tmp_path_factory.mktemp("<b>photos")
    numbers = {
        "train/a": [0, 1, 2, 0],
        "train/b": [3, 4],
        "train/<i>c": [5],
        "val/a": [0],
        "val/b": [6],
        "val/<i>c": [7],
    }
    for place, seeds in numbers.items():
        (root / place).mkdir(parents=True)
        for index, seed in enumerate(seeds):
            image = photo(seed) if seed != 4 else photo(seed)[..., :1]
            (root / place / f"{index}.png").write_bytes(tf.io.encode_png(image).numpy())
    half = tf.image.resize(photo(1), [20 * 2, 25 * 2], antialias=True)
    half = tf.cast(tf.round(tf.image.resize(half, [32, 40], antialias=True)), tf.uint8)
    (root / "val/b/half.png").write_bytes(tf.io.encode_png(half).numpy())
    return root


def config(folder, *overrides):
    sizes = ["augment=cifar", "augment.pad_crop.size=32", "model=cifar_quick"]
    resize = [
        "augment.order=[resize,center_crop,subtract_mean,flip,pca,scale]",
        "augment.center_crop.size=32",
    ]
    return compose(["data=folder", f"data.dir='{folder}'", *sizes, *resize, *overrides])


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "page"
    return inspect_data(config(folder), out, samples=3, draws=2), out


def test_it_says_what_there_is(page):
    said, _ = page
    assert said.answers == [
        "train: 7 images, 1 to 4 of each of 3 classes, all of 50x40 pixels, 1 without colour.",
        "validation: 4 images, 1 to 2 of each of 3 classes, of 2 sizes, 0 without colour.",
        "2 images repeat another one, equal to the pixel; 1 such groups are in several splits.",
        "3 images repeat another one, nearly alike (equal difference hashes); 2 such groups are in several splits.",
    ]
    repeated = next(table for table in said.details if "repeat" in table.caption)
    assert list(repeated.rows) == [
        ("equal", "train a/0.png, train a/3.png, validation a/0.png"),
        ("alike", "train a/1.png, validation b/half.png"),
    ]
    counts = next(table for table in said.details if "each class" in table.caption)
    assert list(counts.rows) == [("<i>c", "1", "1"), ("a", "4", "1"), ("b", "2", "2")]


def test_the_page_stands_alone_and_escapes_names(page):
    _, out = page
    html = (out / "index.html").read_text()
    assert html.count('src="data:image/png;base64,') == 1  # photographs are pixels,
    assert html.count('src="data:image/svg+xml;base64,') == 2  # drawings are not
    assert "&lt;i&gt;c" in html
    assert "<i>c" not in html
    names = sorted(path.name for path in (out / "plots").iterdir())
    assert names == [
        f"{name}.{kind}" for name in ("classes", "contact_sheet", "sizes") for kind in ("png", "svg")
    ]


def test_the_sheet_shows_what_training_sees(folder):
    settings = config(folder, "seed=5")
    source = data.load_source(settings.data)
    order = ["resize", "center_crop", "flip", "pca"]
    ops = dataclasses.replace(settings.augment, order=order)
    statistics = data.compute_statistics(source, settings.augment)
    batch = next(iter(data.train_batches(source, ops, statistics, seed=5, epoch=1, batch_size=7)))
    seen = dict(zip(batch[2].numpy().tolist(), batch[0].numpy(), strict=True))
    ids = np.sort(data.probe_ids(source, 3, 5))
    sheet = contact_sheet(source, settings.augment, seed=5, samples=3, draws=2)
    shown = [axes.images[0].get_array() for axes in sheet.figure.axes]
    for row, index in enumerate(ids.tolist()):
        np.testing.assert_array_equal(shown[3 * row + 2], np.clip(np.round(seen[index]), 0, 255))
    paths = source.split("train").store.paths
    first = tf.io.decode_png(paths[ids[0]].read_bytes(), channels=3)
    np.testing.assert_array_equal(shown[0], first)
    assert "left out: subtract_mean, scale" in sheet.caption


def test_a_damaged_image_is_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "0.png").write_bytes(tf.io.encode_png(photo(1)).numpy())
    broken = tmp_path / "photos" / "b" / "1.png"
    broken.write_bytes(tf.io.encode_png(photo(2)).numpy()[:300])
    with pytest.raises(data.DataError, match=f"Cannot read the image {broken}: "):
        inspect_data(config(tmp_path / "photos", "data.validation_fraction=0"), tmp_path / "out")


def test_a_part_is_spread_over_the_split(folder, tmp_path):
    said = inspect_data(config(folder), tmp_path, samples=1, draws=1, limit=3)
    assert said.answers[0].startswith("train: 7 images, of which 3 were read, 1 to 1 of each of 3 classes")


def test_the_hash_survives_scaling_and_differs_between_pictures():
    image = photo(3, 240, 300)
    smaller = tf.cast(tf.image.resize(image, [120, 150], antialias=True), tf.uint8)
    assert (difference_hash(image).numpy() == difference_hash(smaller).numpy()).mean() > 0.95
    others = [
        (difference_hash(image).numpy() == difference_hash(photo(seed, 240, 300)).numpy()).mean()
        for seed in range(4, 9)
    ]
    assert max(others) < 0.85


def test_the_command(alexnet_here, tmp_path):
    result = alexnet_here("inspect", "data=digits", "data.train_examples=40", "--samples=2")
    assert result.returncode == 0, result.stderr
    assert "train: 40 images" in result.stdout
    assert (tmp_path / "inspections" / "digits" / "index.html").is_file()
