"""Where the preprocessing is cut in two for formats that cannot resize: a frame of one size goes in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from alexnet_tf.config import ConfigError, view_crop
from alexnet_tf.config.checks import CROPS
from alexnet_tf.config.schema import AugmentConfig
from alexnet_tf.data import Statistics, preprocess_images
from alexnet_tf.data.preprocessing import active_ops

RESIZES = ("resize", "random_resized_crop")
GEOMETRY = ("resize", *CROPS)


@dataclass(frozen=True)
class Frame:
    """A square of pixels between the operations that its maker does and those that a model does.

    Attributes:
        size: Side in pixels.
        before: The operations that make a frame of an image: resizing and central crops.
        inside: The others.
        statistics: Of the training split.
    """

    size: int
    before: AugmentConfig
    inside: AugmentConfig
    statistics: Statistics | None

    def cut(self, images: np.ndarray) -> np.ndarray:
        """Frames float32 `[N, size, size, C]`, values 0-255, of images uint8 `[N, H, W, C]`."""
        return preprocess_images(images, self.before, self.statistics).numpy()

    def preprocess(self, frames: tf.Tensor, views: int) -> tf.Tensor:
        """What the network takes, from frames `[N, size, size, C]`; `[N, views, ...]` with several views."""
        return preprocess_images(frames, self.inside, self.statistics, views=views)


def make_frame(
    augment: AugmentConfig, statistics: Statistics | None, shape: Sequence[int] | None, views: int = 1
) -> Frame:
    """Find the first place after the last resizing where all images have one size.

    Elementwise operations before it, which subtract or divide by colour, commute with a crop and come after it.

    Args:
        augment: The run's operations.
        statistics: Of the training split, where an operation needs them.
        shape: Height, width and channels of the run's stored images, where all are alike.
        views: Crops of each image that are cut inside.

    Raises:
        ConfigError: If there is no such place before the operation that cuts the views.
    """
    cutting = view_crop(augment, views)
    active = active_ops(augment)
    resized = max((place + 1 for place, (name, _) in enumerate(active) if name in RESIZES), default=0)
    size = shape[0] if shape and shape[0] == shape[1] else None
    before = []
    for place, (name, op) in enumerate(active):
        if size is not None and place >= resized:
            break
        if name in GEOMETRY:
            if name == cutting:
                raise ConfigError(
                    f"--views {views}: expected images of one size before augment.{name} cuts them, such as by center_crop "
                    f"in augment.order, {list(augment.order)}; --format savedmodel takes any"
                )
            before.append(name)
            kept = name == "resize" and op.keep_aspect and size is None
            size = None if kept else op.size
    assert size is not None  # what the network takes has one size
    inside = [name for name, _ in active if name not in before]
    return Frame(size, _with_order(augment, before), _with_order(augment, inside), statistics)


def _with_order(augment: AugmentConfig, order: Sequence[str]) -> AugmentConfig:
    return replace(augment, order=list(order))
