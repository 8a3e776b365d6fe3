"""Drawings of measures: maps of features, saturation, distributions over the training, gradients by depth."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from alexnet_tf.pages import COLOURS, GREY, WIDTH, Picture, short
from alexnet_tf.visualize.activity import FLAT, Saturation
from alexnet_tf.visualize.drawing import drawn, drawn_with_names, in_lines
from alexnet_tf.visualize.features import PlaneMaps
from alexnet_tf.visualize.gradients import Histograms

NAMED = 10
"""Classes with a colour of their own."""
STEPS = "viridis"


@drawn_with_names
def map_picture(
    maps: PlaneMaps, labels: np.ndarray, names: Sequence[str], features: str, examples: str
) -> Picture:
    """Points by class, in both maps.

    Args:
        maps: Of N points.
        labels: Integers `[N]`.
        names: Of the classes.
        features: What the points are.
        examples: What they are of.
    """
    counts = np.bincount(labels, minlength=len(names))
    named = [int(index) for index in np.sort(np.argsort(-counts, kind="stable")[:NAMED]) if counts[index]]
    colours = [mpl.colormaps["tab10"](index) for index in range(NAMED)]
    figure = Figure(figsize=(WIDTH, 2 * WIDTH * 0.8), layout="constrained")
    axes = figure.subplots(2, 1)
    for ax, points in zip(axes, (maps.pca, maps.tsne), strict=True):
        others = ~np.isin(labels, named)
        if others.any():
            ax.plot(*points[others].T, ".", color="#bbbbbb", markersize=3, label="others")
        for colour, index in zip(colours, named, strict=False):
            own = points[labels == index]
            ax.plot(*own.T, ".", color=colour, markersize=4.5, alpha=0.75, label=short(names[index]))
        ax.grid(visible=False)
    axes[0].set_title("PCA", fontsize=11)
    axes[0].set_xlabel(f"1st component, {100 * maps.explained[0]:.0f} % of the variance")
    axes[0].set_ylabel(f"2nd component, {100 * maps.explained[1]:.0f} %")
    axes[1].set_title(f"t-SNE, perplexity {maps.perplexity:.0f}", fontsize=11)
    axes[1].set_xticks([])
    axes[1].set_yticks([])
    axes[1].set_xlabel("Only who is near whom means something")
    handles, texts = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, texts, loc="outside upper center", ncols=4, markerscale=2.5, columnspacing=1, handletextpad=0
    )
    text = (
        f"The features of {features} of {examples} in a plane: above by their first two principal components, below by t-SNE. "
        f"A point for each example, coloured by its class{f'; the {NAMED} largest classes' if len(named) < len(names) else ''}."
    )
    return Picture("map", figure, text, text)


@drawn
def saturation_picture(layers: Sequence[Saturation], images: int) -> Picture:
    """Bars for each layer: flat activations and dead units."""
    figure = Figure(figsize=(WIDTH, 1.4 + 0.42 * len(layers)), layout="constrained")
    ax = figure.subplots()
    places = np.arange(len(layers))
    for offset, key, name, colour in (
        (-0.2, "flat", "flat activations", COLOURS[0]),
        (0.2, "dead", "dead units", COLOURS[1]),
    ):
        values = [getattr(layer, key) for layer in layers]
        ax.barh(places + offset, values, 0.38, color=colour, label=name)
        for place, value in zip(places, values, strict=True):
            ax.text(value + 0.01, place + offset, f"{100 * value:.1f} %", va="center", fontsize=8, color=GREY)
    ax.set_yticks(places, [layer.layer for layer in layers])
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.set_xlim(0, 1.12)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("Share")
    figure.legend(loc="outside upper center", ncols=2)
    numbers = "; ".join(
        f"{each.layer}: {100 * each.flat:.1f} % flat, {100 * each.dead:.1f} % dead" for each in layers
    )
    caption = (
        f"Over {images:,} images: the share of activations where the nonlinearity's slope is below {100 * FLAT:.0f} % of its "
        "steepest, so that next to no gradient passes (of ReLU those that are 0), and the share of units that are so on "
        "every image and everywhere in their map."
    )
    return Picture("saturation", figure, f"Two bars for each layer. {numbers}.", caption)


@drawn
def histograms_picture(layers: Sequence[Histograms], steps: Sequence[int], probe: int) -> Picture:
    """Distributions of weights on the left and gradients on the right, a row for each layer, a line for each step."""
    figure = Figure(figsize=(WIDTH, 0.9 + 1.15 * len(layers)), layout="constrained")
    axes = figure.subplots(len(layers), 2, squeeze=False)
    colours = ScalarMappable(Normalize(steps[0], steps[-1]), STEPS)
    for row, layer in enumerate(layers):
        _lines(axes[row, 0], layer.weights, layer.weight_edges, steps, colours)
        _lines(axes[row, 1], layer.gradients, layer.gradient_edges, steps, colours)
        axes[row, 0].set_ylabel(in_lines(layer.layer), fontsize=10)
        if layer.zeros[-1] > 0.005:
            axes[row, 1].text(
                0.02,
                0.82,
                f"{100 * layer.zeros[-1]:.0f} % are 0",
                fontsize=8,
                color=GREY,
                transform=axes[row, 1].transAxes,
            )
        axes[row, 1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"$10^{{{value:.3g}}}$"))
        axes[row, 1].xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes[row, 0].xaxis.set_major_locator(MaxNLocator(4))
    axes[0, 0].set_title("Weights", fontsize=11)
    axes[0, 1].set_title("Gradients' size", fontsize=11)
    bar = figure.colorbar(colours, ax=axes, location="bottom", aspect=40, pad=0.02, fraction=0.03)
    bar.set_label("Step")
    bar.locator = MaxNLocator(6, integer=True)
    bar.update_ticks()
    text = (
        f"The distributions of each layer's weights, and of the absolute gradients of the loss on {probe} training images "
        f"without augmentation and dropout (log scale; zeros are left out, and the share of them at the end stands beside), at steps {', '.join(map(str, steps))}: before the "
        "training dark, at its end bright."
    )
    return Picture("histograms", figure, text, text)


def _lines(
    ax: Axes, shares: np.ndarray, edges: np.ndarray, steps: Sequence[int], colours: ScalarMappable
) -> None:
    """A line for each step, later ones on top."""
    middles = (edges[1:] + edges[:-1]) / 2
    for values, step in zip(shares, steps, strict=True):
        ax.plot(middles, values, color=colours.to_rgba(np.array(step)), linewidth=1.1)
    ax.set_ylim(0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="x", labelsize=8)


@drawn
def gradients_picture(names: Sequence[str], norms: Mapping[str, Sequence[float]], probe: int) -> Picture:
    """The gradient's norm by layer, a line for each nonlinearity."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    ax = figure.subplots()
    for index, (activation, values) in enumerate(norms.items()):
        ax.plot(
            range(len(names)),
            values,
            "os^"[index % 3] + "-",
            color=COLOURS[index],
            linewidth=2,
            label=activation,
        )
    if all(value > 0 for values in norms.values() for value in values):
        ax.set_yscale("log")
        ax.set_ylabel("L2 norm of the gradient (log scale)")
    else:
        ax.set_yscale("symlog", linthresh=1e-12)
        ax.set_ylabel("L2 norm of the gradient (log scale, 0 below)")
    ax.set_xticks(range(len(names)), names, rotation=45 if len(names) > 6 else 0)
    figure.legend(loc="outside upper center", ncols=3)
    spoken = "; ".join(
        f"{activation} {values[0]:.2g} in {names[0]} and {values[-1]:.2g} in {names[-1]}"
        for activation, values in norms.items()
    )
    caption = (
        f"The norm of the loss's gradient with respect to each layer's kernel, from the image on the left to the logits on the "
        f"right, before training: the same network, seed and {probe} training images with each nonlinearity."
    )
    return Picture("gradients", figure, f"A line for each nonlinearity over the layers: {spoken}.", caption)
