"""What all drawings share: an image in its axes, a grid of axes, names that fit."""

import re
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_tf.pages import LITERAL, STYLE

TITLE = 0.36
"""Inches that a title above an image takes."""
drawn = mpl.rc_context(STYLE)
"""Decorator: let a function draw in the project's style."""
drawn_with_names = mpl.rc_context(LITERAL)
"""Decorator: the same for a drawing that users' names stand in, which are no formulas."""


def grid(rows: int, columns: int, width: float, aspect: float = 1.0, **spaces: float) -> tuple[Figure, Any]:
    """A figure of so many inches with rows and columns of axes, each `aspect` times as high as wide."""
    side = width / columns
    figure = Figure(figsize=(width, rows * side * aspect))
    spaces = {"wspace": 0.06, "hspace": 0.06, **spaces}
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=spaces)
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1)
    return figure, axes


def draw_image(ax: Axes, image: np.ndarray, **options: Any) -> None:
    """Draw pixels without axes.

    Args:
        ax: Where.
        image: uint8 or floats in 0-255 `[H, W, C]` of one or three channels, or a map `[H, W]` for `options`.
        **options: Of `imshow`.
    """
    if image.ndim == 3:
        image = np.clip(np.round(image), 0, 255).astype(np.uint8)
        image = image[..., 0] if image.shape[-1] == 1 else image
        options = {"cmap": "gray", "vmin": 0, "vmax": 255, **options}
    ax.imshow(image, **options)
    bare(ax)


def bare(ax: Axes) -> None:
    """Take ticks, grid and spines away."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def framed(ax: Axes, colour: str) -> None:
    """Draw a frame around a bare image."""
    for spine in ax.spines.values():
        spine.set(visible=True, color=colour, linewidth=2)


def in_lines(name: str, length: int = 12) -> str:
    """A layer's name for the side of a row, in lines of at most `length` letters where its underscores allow."""
    first, *parts = re.findall(r"[^_]*_+|[^_]+", name)
    lines = [first]
    for part in parts:
        if len(lines[-1] + part) <= length:
            lines[-1] += part
        else:
            lines.append(part)
    return "\n".join(lines)


def tiled(images: np.ndarray, across: int, gap: int = 1) -> np.ndarray:
    """Images side by side in rows of `across`, white between them.

    Args:
        images: Floats in [0, 1], `[N, h, w, C]`.
        across: Of a row.
        gap: Pixels between.

    Returns:
        Floats in 0-255, `[H, W, C]`.
    """
    count, height, width, channels = images.shape
    rows = -(-count // across)
    sheet = np.ones((rows * (height + gap) - gap, across * (width + gap) - gap, channels))
    for index, image in enumerate(images):
        top, left = (index // across) * (height + gap), (index % across) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return 255 * sheet
