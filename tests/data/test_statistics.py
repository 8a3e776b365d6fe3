"""The statistics against NumPy, their cache and their file."""

import logging
from pathlib import Path

import numpy as np
import pytest

from alexnet_tf.config.schema import (
    AugmentConfig,
    DataConfig,
    MeanKind,
    PadCropConfig,
    PCAConfig,
    ScaleConfig,
    SubtractMeanConfig,
)
from alexnet_tf.data import DataError, DataSource, Statistics, compute_statistics, load_source

MEAN = AugmentConfig(
    order=["pad_crop", "subtract_mean"], pad_crop=PadCropConfig(size=6), subtract_mean=SubtractMeanConfig()
)


@pytest.fixture(scope="module")
def rgb_digits() -> DataSource:
    return load_source(DataConfig(name="digits", channels=3, train_examples=300))


def train_images(source: DataSource) -> np.ndarray:
    split = source.splits["train"]
    return split.store.arrays[0].numpy()[split.ids].astype(np.float64)


def test_statistics_equal_numpys(rgb_digits: DataSource, tmp_path: Path) -> None:
    statistics = compute_statistics(rgb_digits, MEAN, tmp_path)
    assert statistics is not None
    images = train_images(rgb_digits)[:, 1:7, 1:7]  # pad_crop in evaluation is the centre
    assert statistics.count == len(images) == 300
    np.testing.assert_allclose(statistics.mean_image, images.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(statistics.mean_channel, images.mean(axis=(0, 1, 2)), rtol=1e-6)
    covariance = np.cov(images.reshape(-1, 3).T, bias=True)
    np.testing.assert_allclose(statistics.covariance, covariance, rtol=1e-9)
    vectors, values = statistics.eigenvectors, statistics.eigenvalues
    np.testing.assert_allclose(vectors @ np.diag(values) @ vectors.T, covariance, rtol=1e-4)
    assert statistics.covariance.dtype == np.float64
    assert statistics.mean_image is not None
    assert {statistics.mean_image.dtype, values.dtype, vectors.dtype} == {np.dtype(np.float32)}


def test_images_of_different_sizes_have_no_mean_image(tmp_path: Path, write_images) -> None:
    write_images(tmp_path / "images", {"a": 3, "b": 4})
    source = load_source(DataConfig(name="folder", dir=str(tmp_path / "images"), validation_fraction=0))
    augment = AugmentConfig(order=["subtract_mean"], subtract_mean=SubtractMeanConfig(kind=MeanKind.channel))
    statistics = compute_statistics(source, augment, tmp_path / "cache")
    assert statistics is not None
    assert statistics.mean_image is None
    pixels = [np.full([9 + n, 12], 10 * label + n).ravel() for label, k in ((0, 3), (1, 4)) for n in range(k)]
    np.testing.assert_allclose(statistics.mean_channel, np.concatenate(pixels).mean(), rtol=1e-6)
    statistics.save(tmp_path / "saved.npz")
    assert Statistics.load(tmp_path / "saved.npz").mean_image is None


def test_none_where_no_operation_needs_them(digits: DataSource, tmp_path: Path) -> None:
    fixed = AugmentConfig(
        order=["flip", "subtract_mean", "pca"], subtract_mean=SubtractMeanConfig(values=[1.0]), pca=None
    )
    assert compute_statistics(digits, fixed, tmp_path) is None
    assert not list(tmp_path.iterdir())


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_the_cache_is_used_and_a_damaged_one_made_again(
    rgb_digits: DataSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = compute_statistics(rgb_digits, MEAN, tmp_path)
    assert first is not None
    cached = only_file(tmp_path)
    with np.load(cached) as arrays:
        changed = dict(arrays)
    changed["count"] = np.array(77)  # shows that it was read, not computed
    np.savez(cached, **changed)
    again = compute_statistics(rgb_digits, MEAN, tmp_path)
    assert again is not None
    assert again.count == 77
    for damage in (b"", b"no zip file", cached.read_bytes()[:200]):
        cached.write_bytes(damage)
        with caplog.at_level(logging.WARNING):
            restored = compute_statistics(rgb_digits, MEAN, tmp_path)
        assert restored is not None
        assert restored.count == 300
        assert "damaged" in caplog.text
        assert Statistics.load(only_file(tmp_path)).count == 300


def test_the_cache_key_knows_data_and_preceding_operations(
    digits: DataSource, rgb_digits: DataSource, tmp_path: Path
) -> None:
    later = AugmentConfig(
        order=["pad_crop", "subtract_mean", "pca", "scale"],
        pad_crop=MEAN.pad_crop,
        subtract_mean=MEAN.subtract_mean,
        pca=PCAConfig(),
        scale=ScaleConfig(divisor=2.0),
    )
    other = AugmentConfig(
        order=["pad_crop", "subtract_mean"], pad_crop=PadCropConfig(size=5), subtract_mean=MEAN.subtract_mean
    )
    for number, (source, augment) in enumerate([(rgb_digits, MEAN), (rgb_digits, other), (digits, MEAN)], 1):
        compute_statistics(source, augment, tmp_path)
        assert len(list(tmp_path.iterdir())) == number
    compute_statistics(rgb_digits, later, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_the_cache_folder_comes_from_the_environment(
    rgb_digits: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALEXNET_CACHE_DIR", str(tmp_path))
    compute_statistics(rgb_digits, MEAN)
    assert only_file(tmp_path / "statistics").suffix == ".npz"


def test_a_cache_that_cannot_be_written_does_no_harm(rgb_digits: DataSource, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    statistics = compute_statistics(rgb_digits, MEAN, tmp_path / "file")
    assert statistics is not None
    assert statistics.count == 300


def test_save_and_load(rgb_digits: DataSource, tmp_path: Path) -> None:
    statistics = compute_statistics(rgb_digits, MEAN, tmp_path / "cache")
    assert statistics is not None
    statistics.save(tmp_path / "statistics.npz")
    loaded = Statistics.load(tmp_path / "statistics.npz")
    for name, value in vars(statistics).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    whole = (tmp_path / "statistics.npz").read_bytes()
    for damage in (None, b"", b"no zip file", whole[:200], whole[: len(whole) // 2] + whole[-300:]):
        if damage is not None:
            (tmp_path / "other.npz").write_bytes(damage)
        with pytest.raises(DataError, match=rf"^{tmp_path}/other\.npz is no statistics file: ") as caught:
            Statistics.load(tmp_path / "other.npz")
        assert caught.value.exit_status == 2
        assert "\n" not in str(caught.value)
    np.save(tmp_path / "other.npy", np.zeros(1))
    with pytest.raises(DataError, match=r"no statistics file"):
        Statistics.load(tmp_path / "other.npy")
    with pytest.raises(FileNotFoundError):
        Statistics.load(tmp_path / "none.npz")
