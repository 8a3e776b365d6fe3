"""One photograph step by step through the operations of a config, as training applies them."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from alexnet_tf import data
from alexnet_tf.config import Config, ConfigError
from alexnet_tf.config.schema import AugmentConfig, MeanKind, PCASource
from alexnet_tf.pages import COLOURS, GREY, STYLE, Picture
from alexnet_tf.visualize.drawing import draw_image
from alexnet_tf.visualize.image_file import read_image

MEAN_COLOUR = [123.675, 116.28, 103.53]
"""Mean RGB of ImageNet's training images, as torchvision has it: for a mean that no training data is at hand for."""
COLUMNS = 4
"""Panels in a row."""
DRAWS = 8
"""Other draws for the same photograph."""


@dataclass(frozen=True, eq=False)
class Step:
    """The photograph after an operation.

    Attributes:
        name: The operation's, or `photograph` before the first.
        image: `[height, width, channels]`, as the next operation gets it.
        shown: uint8 of the same shape: what can be looked at, a mean of 0 as grey and divisors multiplied back.
        cut: What the operation took of the image before: (left, top, right, bottom) in its pixels; None: all of it.
    """

    name: str
    image: np.ndarray
    shown: np.ndarray
    cut: tuple[float, float, float, float] | None = None


def augmentation_steps(image: np.ndarray, config: AugmentConfig, seed: int) -> list[Step]:
    """Apply the operations that are on, in their order and as in training, to one photograph.

    Args:
        image: uint8 `[height, width, 3]`.
        config: The operations; none may need the statistics of a training split (see `without_statistics`).
        seed: What their random choices follow from, with their names.

    Raises:
        ConfigError: An operation does not fit the photograph.
    """
    key = tf.constant([seed, 0], tf.int64)
    places = _grid(image)
    steps = [Step("photograph", image, image)]
    offset, unit = 0.0, np.array(1, np.float32)
    for name in (name for name in config.order if getattr(config, name) is not None):
        settings = getattr(config, name)
        apply = data.OPS[name].build(settings, None, True)
        try:
            image = apply(tf.constant(image), key).numpy()
            cut = None
            if data.OPS[name].frame is not None:
                kept = apply(tf.constant(places), key).numpy()
                cut, places = _bounds(kept), _grid(image)
            elif image.shape[:2] != places.shape[:2]:
                places = _grid(image)
        except (ValueError, ConfigError) as error:
            raise ConfigError(f"augmentation: {' '.join(str(error).split())}") from error
        if name == "subtract_mean":
            offset = 127.5
        elif name == "scale":
            unit = np.array(settings.channel_divisors or settings.divisor, np.float32)
        shown = np.clip(np.round(image * unit + offset), 0, 255).astype(np.uint8)
        steps.append(Step(name, image, shown, cut))
    return steps


def _grid(image: np.ndarray) -> np.ndarray:
    """float32 `[height, width, 3]`: the column and the row of each pixel's middle, and 1 for where the image is."""
    rows, columns = np.indices(image.shape[:2], dtype=np.float32) + 0.5
    return np.stack([columns, rows, np.ones_like(rows)], axis=-1)


def _bounds(kept: np.ndarray) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the pixels that an operation kept, from what it made of their grid."""
    inside = kept[kept[..., 2] > 0.99]
    (left, top), (right, bottom) = inside[:, :2].min(axis=0), inside[:, :2].max(axis=0)
    return float(left) - 0.5, float(top) - 0.5, float(right) + 0.5, float(bottom) + 0.5


def without_statistics(config: AugmentConfig) -> tuple[AugmentConfig, list[str]]:
    """The config with published numbers in place of those of a training split, and what was replaced.

    ImageNet's mean colour takes the place of the mean image, and its principal components that of the split's.
    """
    replaced = []
    mean, pca = config.subtract_mean, config.pca
    if mean is not None and "subtract_mean" in config.order and mean.values is None:
        kind = "image" if mean.kind is MeanKind.image else "colour"
        mean = dataclasses.replace(mean, kind=MeanKind.channel, values=MEAN_COLOUR)
        replaced.append(f"ImageNet's mean colour for the training split's mean {kind}")
    if pca is not None and "pca" in config.order and pca.source is PCASource.training:
        pca = dataclasses.replace(pca, source=PCASource.published)
        replaced.append("ImageNet's published components for the training split's")
    return dataclasses.replace(config, subtract_mean=mean, pca=pca), replaced


def augmentation(config: Config, photograph: Path | None) -> Picture:
    """Draw one photograph through the config's operations, and what other draws make of it.

    Args:
        config: Its `augment`, `seed` and `data.max_pixels`.
        photograph: JPEG, PNG, GIF, BMP or WebP in RGB; None: one that scikit-learn brings.

    Raises:
        ConfigError: The photograph cannot be read, or an operation does not fit it.
    """
    image = _photograph(photograph, config.data.max_pixels)
    settings, replaced = without_statistics(config.augment)
    steps = augmentation_steps(image, settings, config.seed)
    others = [augmentation_steps(image, settings, config.seed + draw)[-1] for draw in range(1, DRAWS + 1)]
    rows, more = -(-len(steps) // COLUMNS), -(-DRAWS // COLUMNS)
    with mpl.rc_context({**STYLE, "font.size": 8}):
        figure = Figure(figsize=(7.2, 1.95 * rows + 1.75 * more + 0.4), layout="constrained")
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.95 * rows, 1.75 * more + 0.4])[
            :, 0
        ]
        axes = above.subplots(rows, COLUMNS, squeeze=False).ravel()
        for index, (ax, step) in enumerate(zip(axes, steps, strict=False)):
            _draw_step(ax, index, step, steps[index + 1].cut if index + 1 < len(steps) else None)
        for ax in axes[len(steps) :]:
            ax.set_axis_off()
        below.suptitle("What other draws make of it", fontsize=9, x=0.01, ha="left")
        for ax, step in zip(below.subplots(more, COLUMNS, squeeze=False).ravel(), others, strict=True):
            draw_image(ax, step.shown)
    order = ", ".join(step.name for step in steps[1:])
    used = f" Here: {'; '.join(replaced)}." if replaced else ""
    return Picture(
        "augmentation",
        figure,
        f"One photograph after each of the operations {order}, and the ends of {DRAWS} other draws.",
        f"One photograph through {order} (seed {config.seed}); a frame shows what the next operation cuts out. After a "
        f"mean was subtracted, grey stands for 0; divisors are multiplied back.{used}",
        photographs=True,
        dpi=300,
    )


def _photograph(path: Path | None, max_pixels: int) -> np.ndarray:
    """uint8 `[height, width, 3]`."""
    if path is not None:
        return read_image(path, f"--image {path}", channels=3, max_pixels=max_pixels)
    from sklearn.datasets import load_sample_image

    return np.asarray(load_sample_image("china.jpg"))


def _draw_step(ax: Axes, index: int, step: Step, cut: tuple[float, float, float, float] | None) -> None:
    draw_image(ax, step.shown)
    size = "×".join(map(str, step.image.shape))
    low, high = (f"{value:.3g}".replace("-", "−") for value in (step.image.min(), step.image.max()))
    title = f"{index}  {step.name}" if index else step.name
    ax.set_title(title, fontsize=8.5, fontweight="bold", pad=3)
    ax.set_xlabel(f"{size}\n{low} to {high}", fontsize=7.5, color=GREY, labelpad=2)
    ax.set_anchor("N")
    if cut is not None:
        left, top, right, bottom = (value - 0.5 for value in cut)  # a pixel's middle is a whole number there
        frame: dict[str, Any] = {"fill": False, "linewidth": 1.6, "clip_on": False}
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, edgecolor=COLOURS[1], **frame))
