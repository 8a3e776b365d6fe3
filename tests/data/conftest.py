"""Small data sets of every kind, made by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config.schema import AugmentConfig, DataConfig, ResizeConfig, ScaleConfig, SubtractMeanConfig
from alexnet_tf.data import DataSource, Statistics, compute_statistics, load_source


@pytest.fixture(scope="session")
def digits() -> DataSource:
    return load_source(DataConfig(name="digits", channels=1, validation_fraction=0.2))


@pytest.fixture(scope="session")
def digits_augment() -> AugmentConfig:
    return AugmentConfig(
        order=["resize", "subtract_mean", "scale"],
        resize=ResizeConfig(size=12),
        subtract_mean=SubtractMeanConfig(),
        scale=ScaleConfig(divisor=64.0),
    )


@pytest.fixture(scope="session")
def digits_statistics(
    digits: DataSource, digits_augment: AugmentConfig, tmp_path_factory: pytest.TempPathFactory
) -> Statistics:
    statistics = compute_statistics(digits, digits_augment, tmp_path_factory.mktemp("statistics"))
    assert statistics is not None
    return statistics


@pytest.fixture
def photo() -> np.ndarray:
    """A noisy uint8 image of 20 x 30 pixels."""
    return np.random.default_rng(0).integers(0, 256, [20, 30, 3], np.uint8)


@pytest.fixture(scope="session")
def write_images() -> Callable[..., None]:
    def write(folder: Path, classes: dict[str, int], suffix: str = ".png", channels: int = 3) -> None:
        """Write as many images per class; each is of one colour, 10 * class + number."""
        for label, (name, count) in enumerate(classes.items()):
            (folder / name).mkdir(parents=True)
            for number in range(count):
                image = np.full([9 + number, 12, channels], 10 * label + number, np.uint8)
                jpeg = suffix.lower() in (".jpg", ".jpeg")
                data = tf.io.encode_jpeg(image, quality=100) if jpeg else tf.io.encode_png(image)
                (folder / name / f"{number}{suffix}").write_bytes(data.numpy())

    return write
