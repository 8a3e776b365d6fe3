"""The network as a picture: maps as boxes, kernels as windows on them, columns beside each other, all from a built model."""

import itertools
import math
from dataclasses import dataclass, replace

import keras
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from alexnet_tf.config import Config
from alexnet_tf.model import ColumnConv2D, Dropout, Pool2D, build, layer_table, total
from alexnet_tf.pages import COLOURS, GREY, STYLE, Picture

SPOKEN = {
    "relu": "ReLU",
    "leaky_relu": "leaky ReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "norm": "LRN",
    "map_norm": "map norm",
}
"""How the field writes what the builder calls its layers by; others stand as they are."""
IMAGE, CONV, POOL, DENSE = "image", "conv", "pool", "dense"

PITCH, GAP = 0.70, 0.27
"""Inches from one box to the next, at least, and of air between two."""
SIDE, THICKNESS, HEIGHT = 1.6, 0.36, 2.3
"""Inches of the largest map's side, of the most channels, and of the most units."""
SLANT = np.array([0.27, 0.20])
"""Where the maps' second axis goes in the drawing, per inch of their side."""
TEXT, LINE = 6.5, 0.135
"""Points of the table's text; inches between its lines."""


@dataclass(frozen=True)
class Block:
    """What the figure draws as one box: the image, or a layer with weights or pooling and what follows it.

    Attributes:
        name: The layer's.
        label: How the table calls it: the name, or the kind of pooling.
        kind: `image`, `conv`, `pool` or `dense`.
        shape: Of its output without the batch: (height, width, channels) or (units,).
        window: Side of its kernels or pooling windows in pixels; 0: it has none.
        stride: Pixels between windows.
        columns: Columns that its kernels are divided into.
        parameters: Weights and biases.
        then: What follows before the next block, in order, such as `ReLU`.
    """

    name: str
    label: str
    kind: str
    shape: tuple[int, ...]
    window: int = 0
    stride: int = 1
    columns: int = 1
    parameters: int = 0
    then: tuple[str, ...] = ()

    @property
    def output(self) -> str:
        """The shape as the figure writes it."""
        return "×".join(map(str, self.shape))


def blocks_of(model: keras.Model) -> list[Block]:
    """The blocks of a built network of stages, with the shapes that its layers have.

    Args:
        model: As `build` makes it from a `StagedModelConfig`.
    """
    blocks: list[Block] = []
    stage = ""
    for layer in model.layers:
        if isinstance(layer, ColumnConv2D | keras.layers.Dense):
            stage = layer.name
        shape = tuple(layer.output.shape[1:])
        if isinstance(layer, keras.layers.InputLayer):
            blocks.append(Block(layer.name, "image", IMAGE, shape))
        elif isinstance(layer, ColumnConv2D):
            geometry = (layer.kernel_size, layer.strides, layer.columns, layer.count_params())
            blocks.append(Block(layer.name, layer.name, CONV, shape, *geometry))
        elif isinstance(layer, Pool2D):
            blocks.append(Block(layer.name, f"{layer.kind} pool", POOL, shape, layer.size, layer.stride))
        elif isinstance(layer, keras.layers.Dense):
            blocks.append(Block(layer.name, layer.name, DENSE, shape, parameters=layer.count_params()))
        elif not isinstance(layer, keras.layers.Flatten):
            blocks[-1] = replace(blocks[-1], then=(*blocks[-1].then, _spoken(layer, stage)))
    return blocks


def _spoken(layer: keras.layers.Layer, stage: str) -> str:
    """What a layer that follows the weights of a stage is called."""
    if isinstance(layer, Dropout):
        return f"dropout {layer.rate:g}"
    if isinstance(layer, keras.layers.BatchNormalization):
        return "BatchNorm"
    if isinstance(layer, keras.layers.AdaptiveAveragePooling2D):
        return f"mean {layer.output.shape[1]}×{layer.output.shape[2]}"
    part = layer.name.removeprefix(f"{stage}_")
    return SPOKEN.get(part, part)


def build_for_figure(config: Config) -> keras.Model:
    """The config's network, for 1000 classes and three channels unless the config says otherwise."""
    network = config.model
    classes, channels = network.num_classes or 1000, network.input_channels or 3
    return build(replace(network, num_classes=classes, input_channels=channels))


def architecture(config: Config) -> Picture:
    """Draw the network of a config.

    Args:
        config: Its network consists of stages: blocks with shortcuts do not stand in a row.
    """
    model = build_for_figure(config)
    blocks, parameters = blocks_of(model), total(layer_table(model)).parameters
    with mpl.rc_context(STYLE):
        figure = _draw(blocks, f"{model.name}: {parameters:,} parameters")
    columns = max(block.columns for block in blocks)
    chain = ", ".join(f"{block.name} {block.output}" for block in blocks)
    rows = (
        f" The convolutions' maps lie in {columns} columns; lines go from a kernel's window to the maps that it makes, "
        "across where its kernels see all columns."
        if columns > 1
        else " Lines go from a kernel's window to the maps that it makes."
    )
    return Picture(
        f"architecture_{model.name}",
        figure,
        f"The network {model.name} with {parameters:,} parameters. Outputs: {chain}.",
        f"The network {model.name}, {parameters:,} parameters.{rows} Pooled maps are pale. Sides, thickness and height "
        "are drawn by the square roots of pixels, channels and units.",
        dpi=300,
    )


# ------------------------------------------------------------------------------------------------- drawing


@dataclass(frozen=True)
class _Box:
    """A block's place: the front's left edge and thickness, the map's side, and the middles of its rows (inches)."""

    block: Block
    x: float
    thickness: float
    side: float
    rows: tuple[float, ...]

    @property
    def right(self) -> float:
        return self.x + self.thickness + (0.0 if self.block.kind == DENSE else SLANT[0] * self.side)

    @property
    def height(self) -> float:
        return self.side * (1.0 if self.block.kind == DENSE else 1 + SLANT[1])

    @property
    def middle(self) -> float:
        return (self.x + self.right) / 2

    def on_map(self, row: float, across: float, up: float) -> tuple[float, float]:
        """A point of the map at the right end of a row; the coordinates go from 0 to 1."""
        corner = np.array([self.x + self.thickness, row - (1 + SLANT[1]) * self.side / 2])
        return tuple(corner + across * self.side * SLANT + np.array([0, up * self.side]))

    def target(self, row: float) -> tuple[float, float]:
        """The middle of the front's left edge."""
        return self.x, row - SLANT[1] * self.side / 2


def _draw(blocks: list[Block], title: str) -> Figure:
    boxes = _place(blocks)
    reach = max(abs(row) + box.height / 2 for box in boxes for row in box.rows)
    floor = -reach - (0.35 if len(boxes[1].rows) > 1 else 0.12)  # the columns' names
    bottom = floor - LINE * (5.5 + max(1, *(len(block.then) for block in blocks)))
    right = boxes[-1].middle + PITCH / 2
    left = boxes[0].middle - PITCH / 2 - 0.75
    figure = Figure(figsize=(right - left, 0.2 - floor - bottom))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(left, right), ylim=(bottom, 0.2 - floor))
    ax.set_axis_off()
    ax.text(left, 0.2 - floor, title, fontsize=9, va="top", fontweight="bold")
    for before, box in itertools.pairwise(boxes):
        _connect(ax, before, box)
    columns = max(block.columns for block in blocks)
    for box in boxes:
        _draw_box(ax, box, columns)
    if columns > 1:
        _name_columns(ax, boxes)
    _draw_table(ax, boxes, floor, left)
    return figure


def _place(blocks: list[Block]) -> list[_Box]:
    """Where the boxes stand, from the left to the right."""
    columns = max(block.columns for block in blocks)
    largest = max(block.shape[0] for block in blocks if block.kind != DENSE)
    most = max((block.shape[-1] for block in blocks if block.kind in (CONV, POOL)), default=1)
    units = max((block.shape[0] for block in blocks if block.kind == DENSE), default=1)
    highest = max((block.shape[0] for block in blocks if block.kind in (CONV, POOL)), default=1)
    apart = (1 + SLANT[1]) * SIDE * math.sqrt(highest / largest) + 0.25
    boxes: list[_Box] = []
    for block in blocks:
        rows = (0.0,)
        if block.kind == DENSE:
            thickness, side = 0.1, HEIGHT * math.sqrt(block.shape[0] / units)
        else:
            share = block.shape[-1] // (1 if block.kind == IMAGE else columns)
            thickness = max(0.02, THICKNESS * math.sqrt(share / most))
            side = SIDE * math.sqrt(block.shape[0] / largest)
        if block.kind in (CONV, POOL):
            rows = tuple((columns - 1) / 2 * apart - apart * index for index in range(columns))
        box = _Box(block, 0.0, thickness, side, rows)
        if boxes:
            last = boxes[-1]
            x = max(last.right + GAP, last.middle + PITCH - box.middle)
            box = replace(box, x=x)
        boxes.append(box)
    return boxes


def _connect(ax: Axes, before: _Box, box: _Box) -> None:
    """What goes from one box to the next: windows of kernels, arrows of pooling, all to all."""
    if box.block.kind == DENSE:
        for row in before.rows:
            _fan(ax, before, row, box)
        return
    divided = box.block.columns > 1 or box.block.kind == POOL
    for index, row in enumerate(before.rows):
        targets = [box.rows[index]] if divided and len(before.rows) > 1 else box.rows
        if box.block.kind == POOL:
            start, end = before.on_map(row, 0.5, 0.5), box.target(targets[0])
            style = {"arrowstyle": "-|>", "color": GREY, "linewidth": 0.7, "mutation_scale": 6, "shrinkA": 0}
            ax.annotate("", end, start, arrowprops={**style, "shrinkB": 1}, zorder=4)
        else:
            _window(ax, before, row, box, targets)


def _window(ax: Axes, before: _Box, row: float, box: _Box, targets: list[float] | tuple[float, ...]) -> None:
    """A kernel's window on a map, to scale in the map's own coordinates, and lines to what it makes."""
    half = min(1.0, box.block.window / before.block.shape[0]) / 2
    low, high = 0.5 - half, 0.5 + half
    corners = [before.on_map(row, *place) for place in ((low, low), (high, low), (high, high), (low, high))]
    ax.add_patch(Polygon(corners, facecolor="white", edgecolor="black", linewidth=0.6, alpha=0.9, zorder=4))
    for target in targets:
        end = box.target(target)
        for start in corners:
            ax.plot(*zip(start, end, strict=True), color=GREY, linewidth=0.45, zorder=4)


def _fan(ax: Axes, before: _Box, row: float, box: _Box) -> None:
    """A pale surface from a row to all units of a dense layer."""
    if before.block.kind == DENSE:
        left = [(before.right, before.side / 2), (before.right, -before.side / 2)]
    else:
        left = [before.on_map(row, 1, 1), before.on_map(row, 1, 0)]
    right = [(box.x, -box.side / 2), (box.x, box.side / 2)]
    ax.add_patch(Polygon([*left, *right], facecolor=GREY, alpha=0.13, linewidth=0, zorder=1))


def _draw_box(ax: Axes, box: _Box, columns: int) -> None:
    block = box.block
    if block.kind == DENSE:
        half = box.side / 2
        corners = [(box.x, -half), (box.right, -half), (box.right, half), (box.x, half)]
        ax.add_patch(Polygon(corners, facecolor=COLOURS[2], edgecolor="black", linewidth=0.6, zorder=3))
        return
    for index, row in enumerate(box.rows):
        colour = "#999999" if block.kind == IMAGE else _colour(index)
        _draw_cuboid(ax, box, row, colour, pale=block.kind == POOL)
        if columns > 1 and block.kind != IMAGE:
            share = f"{block.shape[-1] / columns:g}"
            low = box.target(row)[1] - box.side / 2 - 0.03
            x = box.x + box.thickness / 2
            ax.text(x, low, share, fontsize=TEXT - 0.5, ha="center", va="top", color=GREY)


def _draw_cuboid(ax: Axes, box: _Box, row: float, colour: str, *, pale: bool) -> None:
    """The front, the upper side, and at the right end the map."""
    back = np.array([box.thickness, 0])
    near_low, far_low, far_high, near_high = (
        np.array(box.on_map(row, *place)) for place in ((0, 0), (1, 0), (1, 1), (0, 1))
    )
    faces = (
        ([near_low - back, near_low, near_high, near_high - back], 0.0),
        ([near_high - back, near_high, far_high, far_high - back], 0.25),
        ([near_low, far_low, far_high, near_high], 0.45),
    )
    for corners, white in faces:
        shade = _lighter(colour, white + (1 - white) * (0.55 if pale else 0.15))
        ax.add_patch(Polygon(corners, facecolor=shade, edgecolor="black", linewidth=0.5, zorder=3))


def _colour(column: int) -> str:
    return COLOURS[column % len(COLOURS)]


def _lighter(colour: str, white: float) -> tuple[float, ...]:
    return tuple(channel + (1 - channel) * white for channel in to_rgb(colour))


def _name_columns(ax: Axes, boxes: list[_Box]) -> None:
    first = next(box for box in boxes if box.block.kind == CONV)
    for index, row in enumerate(first.rows):
        above = index < len(first.rows) - 1
        y = first.on_map(row, 1, 1)[1] + 0.05 if above else first.on_map(row, 0, 0)[1] - 0.16
        va = "bottom" if above else "top"
        ax.text(first.x, y, f"column {index + 1}", fontsize=TEXT + 0.5, color=_colour(index), va=va)


def _draw_table(ax: Axes, boxes: list[_Box], top: float, left: float) -> None:
    """What stands below each box: name, output, window, stride, parameters and what follows."""
    deepest = max(len(box.block.then) for box in boxes)
    labels = ["layer", "output", "kernel", "stride", "parameters", "then", *[""] * (deepest - 1)]
    for line, label in enumerate(labels):
        ax.text(left, top - LINE * (line + 1), label, fontsize=TEXT, color=GREY, va="center")
    for box in boxes:
        block = box.block
        size = f"{block.window}×{block.window}" if block.window else ""
        lines = [
            block.label,
            block.output,
            size,
            str(block.stride) if block.window else "",
            f"{block.parameters:,}" if block.parameters else "",
            *block.then,
        ]
        for line, text in enumerate(lines):
            weight = "bold" if line == 0 and block.kind != POOL else "normal"
            y = top - LINE * (line + 1)
            ax.text(box.middle, y, text, fontsize=TEXT, fontweight=weight, ha="center", va="center")
