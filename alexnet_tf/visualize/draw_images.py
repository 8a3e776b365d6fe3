"""Drawings that stand on images: what layers answer, patches, evidence, neighbours, mistakes."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from alexnet_tf.pages import COLOURS, WIDTH, Picture, short
from alexnet_tf.visualize.drawing import TITLE, bare, draw_image, drawn_with_names, framed, grid, in_lines

RIGHT, WRONG = COLOURS[2], COLOURS[1]
MAPS = "viridis"
HEAT = "inferno"
LABEL = 8
"""Points of the text at a small image."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """An image with what stands below it; a frame says whether it is right."""

    pixels: np.ndarray
    text: str
    right: bool | None = None


def _labelled(ax: Axes, item: Labelled) -> None:
    draw_image(ax, item.pixels)
    ax.set_xlabel(item.text, fontsize=LABEL, labelpad=2)
    if item.right is not None:
        framed(ax, RIGHT if item.right else WRONG)


# ------------------------------------------------------------------------------------------- activations


@drawn_with_names
def overview_picture(
    pixels: np.ndarray, layers: Sequence[tuple[str, np.ndarray, Sequence[int]]], title: str
) -> Picture:
    """The loudest maps of every layer for one image, a row for each layer.

    Args:
        pixels: uint8 `[S, S, C]`.
        layers: Names, activations `[h, w, units]`, and the units to show, as many of each or fewer.
        title: What the image is.
    """
    across = max(len(units) for _, _, units in layers)
    figure, axes = grid(len(layers) + 1, across, WIDTH, 1.28, hspace=0.1)
    for ax in axes.flat:
        bare(ax)
    draw_image(axes[0, 0], pixels)
    axes[0, 0].set_xlabel("the image", fontsize=LABEL, labelpad=2)
    for row, (name, maps, units) in enumerate(layers, 1):
        low, high = min(0.0, float(maps.min())), float(maps.max())
        for column, unit in enumerate(units):
            ax = axes[row, column]
            draw_image(ax, maps[..., unit], cmap=MAPS, vmin=low, vmax=high)
            ax.set_xlabel(str(unit), fontsize=LABEL - 1, labelpad=1.5)
        height, width, count = maps.shape
        axes[row, 0].set_ylabel(f"{in_lines(name)}\n{height}x{width}x{count}", fontsize=LABEL, labelpad=4)
    _range_bar(figure, MAPS, "Activation, each layer from its smallest (or 0) to its largest", below=0.25)
    text = (
        f"What the layers answer to {title}: of each the {across} maps with the largest mean, the largest first, with their "
        "numbers below. Colours go from the layer's smallest activation, or 0, to its largest."
    )
    return Picture("activations", figure, text, text, photographs=True)


@drawn_with_names
def layer_picture(pixels: np.ndarray, name: str, values: np.ndarray, columns: int, title: str) -> Picture:
    """Every unit of one layer for one image.

    Args:
        pixels: uint8 `[S, S, C]`.
        name: The layer's name.
        values: Activations `[h, w, units]` or `[units]`.
        columns: Blocks of units.
        title: What the image is.
    """
    low, high = min(0.0, float(values.min())), float(values.max())
    maps = values[None, None] if values.ndim == 1 else values
    units = maps.shape[-1] // columns
    across = int(np.ceil(np.sqrt(units * 1.5)))
    rows = -(-units // across)
    figure, axes = grid(columns + 1, 1, WIDTH, rows / across + TITLE / WIDTH)
    draw_image(axes[0, 0], pixels)
    axes[0, 0].set_title(short(title, 60), fontsize=10)
    for block in range(columns):
        part = maps[..., block * units : (block + 1) * units]
        ax = axes[block + 1, 0]
        draw_image(
            ax,
            _sheet(part, across),
            cmap=mpl.colormaps[MAPS].with_extremes(bad="white"),
            vmin=low,
            vmax=high,
            interpolation="nearest",
        )
        place = f"Column {block + 1}: units" if columns > 1 else "Units"
        ax.set_title(f"{place} {block * units} to {(block + 1) * units - 1} of {name}", fontsize=10)
    _range_bar(figure, MAPS, "Activation", (low, high), below=0.3)
    text = (
        f"What every unit of {name} answers to {title}. They are numbered from the left to the right and from the top to the "
        f"bottom, {across} in a row; one scale of colours for all, from {low:.3g} to {high:.3g}."
    )
    return Picture("activations", figure, text, text, photographs=True)


def _sheet(maps: np.ndarray, across: int) -> np.ndarray:
    """Maps `[h, w, units]` side by side, NaN between them."""
    height, width, units = maps.shape
    gap = 0 if height == 1 else 1
    rows = -(-units // across)
    sheet = np.full((rows * (height + gap) - gap, across * (width + gap) - gap), np.nan)
    for unit in range(units):
        top, left = (unit // across) * (height + gap), (unit % across) * (width + gap)
        sheet[top : top + height, left : left + width] = maps[..., unit]
    return sheet


def _range_bar(
    figure: Figure, colours: str, label: str, ends: tuple[float, float] | None = None, *, below: float = 0.65
) -> None:
    """A colour bar so many inches below the axes, from smallest to largest where panels have scales of their own."""
    height = figure.get_figheight()
    place = figure.add_axes((0.15, -below / height, 0.7, 0.12 / height))
    low, high = ends or (0.0, 1.0)
    bar = figure.colorbar(ScalarMappable(Normalize(low, high), colours), cax=place, orientation="horizontal")
    if ends is None:
        bar.set_ticks([0, 1], labels=["smallest", "largest"])
    bar.ax.tick_params(labelsize=LABEL)
    bar.set_label(label, fontsize=LABEL + 1)
    bar.outline.set_visible(False)


# --------------------------------------------------------------------------------------- patches, evidence


@drawn_with_names
def patches_picture(
    rows: Sequence[tuple[int, Sequence[np.ndarray]]], layer: str, field: str, examples: str
) -> Picture:
    """The strongest patches of units, a row for each.

    Args:
        rows: Units and their patches, uint8 `[h, w, C]`, the strongest first.
        layer: The layer's name.
        field: The size of its receptive field.
        examples: What was looked through.
    """
    across = max(len(patches) for _, patches in rows)
    figure, axes = grid(len(rows), across, WIDTH)
    for ax in axes.flat:
        bare(ax)
    for row, (unit, patches) in enumerate(rows):
        for column, patch in enumerate(patches):
            draw_image(axes[row, column], patch)
        axes[row, 0].set_ylabel(f"unit {unit}", fontsize=LABEL, labelpad=4)
    units = "unit" if len(rows) == 1 else "units"
    text = (
        f"The patches that excite {units} {', '.join(str(unit) for unit, _ in rows)} of {layer} most, the strongest on the "
        f"left, one from an image, of {examples}. A unit sees {field}, of which light grey lies beyond the image."
    )
    return Picture("patches", figure, text, text, photographs=True)


@drawn_with_names
def deconvolution_picture(
    patches: Sequence[np.ndarray], projections: Sequence[np.ndarray], layer: str, unit: int
) -> Picture:
    """A unit's strongest patches and what in them excites it.

    Args:
        patches: uint8 `[h, w, C]`.
        projections: Floats `[h, w, C]`, of any scale around 0.
        layer: The layer's name.
        unit: Its number.
    """
    count = len(patches)
    figure, axes = grid(2, max(count, 3), WIDTH, hspace=0.08)
    for ax in axes.flat:
        bare(ax)
    for column, (patch, projection) in enumerate(zip(patches, projections, strict=True)):
        draw_image(axes[0, column], patch)
        largest = float(np.abs(projection).max()) or 1.0
        draw_image(axes[1, column], 127.5 + 127.5 * projection / largest)
    axes[0, 0].set_ylabel("patch", fontsize=LABEL, labelpad=4)
    axes[1, 0].set_ylabel("back", fontsize=LABEL, labelpad=4)
    text = (
        f"Above the patches that excite unit {unit} of {layer} most, below what its activation there becomes when it is led "
        "back to the pixels through the switches of max-pooling, rectified, by transposed filters. Grey is nothing; each is "
        "scaled by itself."
    )
    return Picture("deconvolution", figure, text, text, photographs=True)


@drawn_with_names
def gradcam_picture(
    pixels: np.ndarray, maps: np.ndarray, names: Sequence[str], title: str, layer: str
) -> Picture:
    """An image, and over it the evidence for each class.

    Args:
        pixels: uint8 `[S, S, C]`.
        maps: Floats `[classes, h, w]`, not negative.
        names: What stands below each.
        title: What the image is.
        layer: The layer's name.
    """
    figure, axes = grid(1, len(maps) + 1, WIDTH, 1.0)
    _labelled(axes[0, 0], Labelled(pixels, wrapped(title, 18)))
    height, width = pixels.shape[:2]
    grey = np.repeat(pixels.mean(axis=-1, keepdims=True), 3, axis=-1)
    for ax, heat, name in zip(axes[0, 1:], maps, names, strict=True):
        draw_image(ax, grey)
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        largest = float(heat.max())
        ax.imshow(
            heat / (largest or 1.0),
            cmap=HEAT,
            vmin=0,
            vmax=1,
            alpha=0.6,
            extent=extent,
            interpolation="bilinear",
        )
        ax.set_xlabel(name if largest > 0 else f"{name}\nno evidence", fontsize=LABEL, labelpad=2)
    _range_bar(figure, HEAT, "Evidence, each picture by itself")
    text = (
        f"Grad-CAM: the places in {title} that speak for {'a class' if len(maps) == 1 else 'the classes'} by the maps of "
        f"{layer}, of {maps.shape[1]}x{maps.shape[2]} places, with the probability of each class."
    )
    return Picture("gradcam", figure, text, text, photographs=True)


@drawn_with_names
def saliency_picture(pixels: np.ndarray, maps: Sequence[tuple[str, np.ndarray]], title: str) -> Picture:
    """An image, and the sensitivity of scores to its pixels.

    Args:
        pixels: uint8 `[S, S, C]`.
        maps: What each is of, and floats `[S, S]`.
        title: What the image is.
    """
    figure, axes = grid(1, len(maps) + 1, WIDTH, 1.0)
    _labelled(axes[0, 0], Labelled(pixels, wrapped(title, 18)))
    for ax, (name, values) in zip(axes[0, 1:], maps, strict=True):
        # A few pixels are much larger than all others, which would be black beside them.
        high = float(np.quantile(values, 0.99)) or 1.0
        draw_image(ax, values, cmap=HEAT, vmin=0, vmax=high)
        ax.set_xlabel(name, fontsize=LABEL, labelpad=2)
    _range_bar(figure, HEAT, "Gradient's size, each up to its 99th percentile")
    text = (
        f"The pixels of {title} that {' and '.join(name.splitlines()[0] for name, _ in maps)} are most sensitive to: the "
        "largest absolute gradient over the channels."
    )
    return Picture("saliency", figure, text, text, photographs=True)


# --------------------------------------------------------------------------------------- examples, classes


@drawn_with_names
def neighbours_picture(rows: Sequence[Sequence[Labelled]], features: str, queries: str, base: str) -> Picture:
    """Queries in the first column, and their neighbours beside them.

    Args:
        rows: A query and its neighbours each.
        features: What the distance is of.
        queries: What the queries are from.
        base: What the neighbours are from.
    """
    most = max(map(len, rows)) - 1  # of a query that is in the base there may be one fewer
    lines = max(item.text.count("\n") for items in rows for item in items) + 1
    figure, axes = grid(len(rows), most + 2, WIDTH, 1.1 + 0.2 * lines, hspace=0.12)
    for ax in axes.flat:
        bare(ax)
    for row, items in enumerate(rows):
        axes[row, 1].set_axis_off()  # a gap after the query, which its name may reach into
        for column, item in enumerate(items):
            _labelled(axes[row, column + bool(column)], item)
    text = (
        f"On the left {queries}, and beside each the {most} nearest of {base} by the Euclidean distance of the "
        f"features of {features}. Framed by whether the class is the same."
    )
    return Picture("neighbours", figure, text, text, photographs=True)


@drawn_with_names
def mistakes_picture(items: Sequence[Labelled], examples: str) -> Picture:
    """The most confident mistakes, with both classes."""
    across = 4
    figure, axes = grid(-(-len(items) // across), across, WIDTH, 1.42, hspace=0.12)
    for ax in axes.flat:
        bare(ax)
    for ax, item in zip(axes.flat, items, strict=False):
        _labelled(ax, item)
    text = f"The most confident mistakes of {examples}, with the answer, its probability and the true class."
    return Picture("mistakes", figure, text, text, photographs=True)


def said(answer: str, probability: float, truth: str) -> str:
    """What stands below a mistake."""
    return f"{short(answer, 16)} {100 * probability:.0f} %\nis {short(truth, 16)}"


def wrapped(name: str, width: int = 12) -> str:
    """A name on two lines at most."""
    return "\n".join(textwrap.wrap(short(name, 2 * width), width, max_lines=2, placeholder="…"))
