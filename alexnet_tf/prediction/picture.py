"""Pictures over bars of their most probable classes, as in the paper's Figure 4 (left)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_tf.data.stores import decode
from alexnet_tf.pages import COLOURS, Picture, short
from alexnet_tf.prediction.classifier import Prediction

SHOWN = 8
"""Pictures in the figure, as in the paper's."""
ACROSS = 4
SIDE = 320
"""Pixels of the longer side in the figure."""
LETTERS = 24
"""Letters of a label or name that have room."""


def draw_predictions(predictions: Sequence[Prediction], labels: list[str], most: int) -> Picture:
    """Draw the first pictures, and under each its most probable classes with bars.

    Args:
        predictions: Of at most `SHOWN` pictures, which are read again.
        labels: The class names.
        most: How many classes under each.
    """
    shown, most = predictions[:SHOWN], min(most, len(labels))
    columns = min(ACROSS, len(shown))
    rows = -(-len(shown) // ACROSS)
    bars = 0.24 * most
    figure = Figure(figsize=(2.3 * columns, rows * (2.35 + bars)), layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[2.0, bars + 0.1] * rows)
    for axes in grid.flat:
        axes.set_axis_off()
    for place, prediction in enumerate(shown):
        row, column = divmod(place, columns)
        _draw_photograph(grid[2 * row, column], prediction.path)
        _draw_bars(grid[2 * row + 1, column], prediction, labels, most)
    best = ", ".join(f"{one.path.name}: {labels[one.top(1)[0]]}" for one in shown)
    return Picture(
        name="predictions",
        figure=figure,
        alt=f"Pictures with bars of their most probable classes. {best}",
        caption="The most probable classes of each picture; a bar as wide as the picture is a probability of 1.",
        photographs=True,
    )


def _draw_photograph(axes: Axes, path: Path) -> None:
    image = decode(tf.constant(path.read_bytes()), 3)
    height, width = image.shape[:2]
    size = [max(1, round(SIDE * side / max(height, width))) for side in (height, width)]
    enlarged = max(height, width) < SIDE
    small = tf.image.resize(image, size, "nearest" if enlarged else "bilinear", antialias=not enlarged)
    axes.imshow(np.clip(np.rint(small.numpy()), 0, 255).astype(np.uint8))
    axes.set_anchor("S")  # next to its bars
    axes.set_title(short(path.name, LETTERS), fontsize=9, parse_math=False)


def _draw_bars(axes: Axes, prediction: Prediction, labels: list[str], most: int) -> None:
    best = prediction.top(most)
    probabilities = [float(prediction.probabilities[index]) for index in best]
    axes.barh(range(most), probabilities, height=0.8, color=COLOURS[5])
    axes.barh(range(most), [1 - value for value in probabilities], 0.8, probabilities, color="#eeeeee")
    for place, (index, probability) in enumerate(zip(best, probabilities, strict=True)):
        text: dict[str, Any] = {"va": "center", "fontsize": 8, "parse_math": False}
        axes.text(0.02, place, short(labels[index], LETTERS), **text)
        axes.text(0.98, place, f"{100 * probability:.0f} %", ha="right", **text)
    axes.set_xlim(0, 1)
    axes.set_ylim(most - 0.5, -0.5)
