"""Drawings of the first layer's kernels and of their colour."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from alexnet_tf.pages import COLOURS, GREY, WIDTH, Picture
from alexnet_tf.visualize.drawing import TITLE, draw_image, drawn, grid, tiled
from alexnet_tf.visualize.kernels import Specialisation

ACROSS = {1: 8, 2: 16}
"""Kernels in a row, by whether they are few or many."""
NOISE = 2 / 3
"""The colourfulness of independent noise in three channels."""


@drawn
def kernels_picture(images: np.ndarray, columns: int, layer: str, colour: np.ndarray | None) -> Picture:
    """All kernels, a block for each column.

    Args:
        images: Floats in [0, 1], `[filters, k, k, channels]`.
        columns: Blocks.
        layer: The layer's name.
        colour: The mean colourfulness of each column, where there is one.
    """
    filters, side = images.shape[:2]
    each = filters // columns
    across = ACROSS[1] if each <= 32 else ACROSS[2]
    rows = -(-each // across)
    figure, axes = grid(columns, 1, WIDTH, rows / across + TITLE / WIDTH)
    for column, block in enumerate(np.split(images, columns)):
        ax = axes[column, 0]
        draw_image(ax, tiled(block, across), interpolation="nearest")
        first = column * each
        title = f"kernels {first} to {first + each - 1}"
        title = f"Column {column + 1}: {title}" if columns > 1 else title.capitalize()
        ax.set_title(
            title + (f", colour {100 * colour[column]:.0f} %" if colour is not None else ""), fontsize=10
        )
    blocks = f", in {columns} columns" if columns > 1 else ""
    text = (
        f"The {filters} kernels of {layer}, {side}x{side} pixels{blocks}: grey is 0, and each kernel is scaled to its own "
        "largest weight. They are numbered from the left to the right and from the top to the bottom."
    )
    if colour is not None:
        text += " Colour: the mean share of a kernel's energy that is not grey."
    return Picture("kernels", figure, text, text, photographs=True)


@drawn
def columns_picture(found: Specialisation, layer: str, seed: int = 0) -> Picture:
    """A dot for each kernel's colourfulness, in a row for each column."""
    columns = len(found.colour)
    figure = Figure(figsize=(WIDTH, 1.2 + 0.7 * columns))
    ax = figure.subplots()
    rng = np.random.default_rng(seed)
    for row, values in enumerate(found.colour):
        heights = row + rng.uniform(-0.25, 0.25, len(values))
        ax.plot(values, heights, "o", color=COLOURS[row % len(COLOURS)], alpha=0.7, markersize=5)
        ax.plot([values.mean()] * 2, [row - 0.4, row + 0.4], color=COLOURS[row % len(COLOURS)], linewidth=2.5)
    ax.axvline(NOISE, color=GREY, linewidth=1, linestyle=(0, (4, 2)))
    ax.text(NOISE, -0.55, "noise", color=GREY, ha="center", va="bottom", fontsize=9)
    ax.set_yticks(range(columns), [f"Column {row + 1}" for row in range(columns)])
    ax.set_ylim(columns - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("Colour: share of a kernel's energy that is not grey")
    numbers = "; ".join(f"column {i + 1} {100 * mean:.1f} %" for i, mean in enumerate(found.means))
    alt = f"A dot for each kernel of {layer}, in a row for each column. Means: {numbers}."
    caption = (
        f"How colourful each kernel of {layer} is, by column; the bar is the column's mean. Kernels of noise have two thirds "
        f"in the mean. Means: {numbers}."
    )
    return Picture("columns", figure, alt, caption)
