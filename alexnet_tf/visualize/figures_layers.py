"""What single layers do: activation functions with their gradients, and the masks of dropout."""

from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from alexnet_tf.config import Config
from alexnet_tf.config.schema import StagedModelConfig
from alexnet_tf.model import ACTIVATIONS, Dropout, mask_scope
from alexnet_tf.pages import COLOURS, GREY, STYLE, WIDTH, Picture
from alexnet_tf.visualize.figures_architecture import build_for_figure

REACH = 4.0
"""Inputs of the activations go from -REACH to REACH."""
ROWS, UNITS, STEPS = 10, 40, 12
"""Images of a batch, units of a layer and steps that the picture of dropout shows."""
AVERAGED, TRACED = 200, 8
"""Steps over which it averages masks; units for which it does."""


@dataclass(frozen=True, eq=False)
class Curve:
    """An activation function: float64 arrays of one length."""

    x: np.ndarray
    y: np.ndarray
    gradient: np.ndarray


def activation_curves(points: int = 801) -> dict[str, Curve]:
    """The functions of the builder's table, each with the gradient that TensorFlow computes for training.

    Args:
        points: Inputs from -REACH to REACH; where their number is odd, 0 is among them.
    """
    x = tf.constant(np.linspace(-REACH, REACH, points))
    curves = {}
    for name, function in ACTIVATIONS.items():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.identity(x) if function is None else function(x)
        curves[name] = Curve(x.numpy(), y.numpy(), tape.gradient(y, x).numpy())
    return curves


def activations() -> Picture:
    """Draw every activation function of the table with its gradient."""
    curves = activation_curves()
    columns = 4
    rows = -(-(len(curves) + 1) // columns)
    with mpl.rc_context({**STYLE, "font.size": 8}):
        figure = Figure(figsize=(7.2, 1.95 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True).flat
        for ax, (name, curve) in zip(axes, curves.items(), strict=False):
            ax.plot(curve.x, curve.y, color=COLOURS[0], linewidth=1.8)
            ax.plot(
                curve.x, _broken(curve.gradient), color=COLOURS[1], linewidth=1.8, linestyle=(0, (4, 1.5))
            )
            ax.set_title(name.replace("_", " "), fontsize=9)
            ax.set(xlim=(-REACH, REACH), ylim=(-1.35, 2.6), xticks=(-4, -2, 0, 2, 4), yticks=(-1, 0, 1, 2))
            ax.axhline(0, color=GREY, linewidth=0.6)
            ax.axvline(0, color=GREY, linewidth=0.6)
        rest = axes[len(curves) :]
        for ax in rest:
            ax.set_axis_off()
        styles: tuple[tuple[str, Any, str], ...] = (
            (COLOURS[0], "-", "output"),
            (COLOURS[1], (0, (4, 1.5)), "gradient"),
        )
        handles = [
            Line2D([], [], color=colour, linestyle=dash, linewidth=1.8, label=label)
            for colour, dash, label in styles
        ]
        rest[0].legend(handles=handles, loc="center", fontsize=9, handlelength=3)
    ends = "; ".join(
        f"{name}: gradient {curve.gradient[0]:.2g} at {-REACH:g} and {curve.gradient[-1]:.2g} at {REACH:g}"
        for name, curve in curves.items()
    )
    return Picture(
        "activations",
        figure,
        f"Curves of {', '.join(curves)} and their gradients. {ends}.",
        "Activation functions (solid) and their gradients (dashed). Where the gradient of a saturating function comes "
        "close to 0, so does what the layers below it learn from.",
        dpi=300,
    )


def _broken(gradient: np.ndarray) -> np.ndarray:
    """The curve without the line that would join the two sides of a jump."""
    jumps = np.flatnonzero(np.abs(np.diff(gradient)) > 0.5)
    broken = gradient.copy()
    broken[jumps + 1] = np.nan
    return broken


# ------------------------------------------------------------------------------------------------- dropout


@dataclass(frozen=True, eq=False)
class Masks:
    """What dropout does to inputs of one.

    Attributes:
        rate: Fraction that is dropped.
        batch: float32 `[rows, units]`: every image of the batch in the first step.
        image: float32 `[steps, units]`: the first image in every step.
        mean: float64 `[steps, units]`: the mean over the steps so far of what each unit yields for the first image.
    """

    rate: float
    batch: np.ndarray
    image: np.ndarray
    mean: np.ndarray


def dropout_masks(
    layer: Dropout, seed: int, *, rows: int = ROWS, units: int = UNITS, steps: int = AVERAGED
) -> Masks:
    """Apply a network's layer to ones in the first steps of a training run.

    Args:
        layer: Of a built network; its name and its width are part of what decides the masks.
        seed: The run's.
        rows: Images of the batch.
        units: How many of the layer's units are kept.
        steps: Steps.
    """
    ones = tf.ones([rows, *layer.output.shape[1:]])
    outputs = []
    for step in range(steps):
        with mask_scope(seed, step, global_rows=rows):
            outputs.append(tf.reshape(layer(ones, training=True), [rows, -1])[:, :units].numpy())
    found = np.stack(outputs)
    image = found[:, 0]
    mean = np.cumsum(image, axis=0, dtype=float) / np.arange(1, steps + 1)[:, np.newaxis]
    return Masks(layer.rate, found[0], image, mean)


def has_dropout(config: Config) -> bool:
    """Whether the network is one of stages with dropout."""
    network = config.model
    return isinstance(network, StagedModelConfig) and any(stage.dropout for stage in network.stages.values())


def dropout(config: Config) -> Picture:
    """Draw the masks of the network's first layer of dropout.

    Args:
        config: Its network and seed; see `has_dropout`.
    """
    model = build_for_figure(config)
    layer = next(layer for layer in model.layers if isinstance(layer, Dropout))
    masks = dropout_masks(layer, config.seed)
    shown = masks.image[:STEPS]
    with mpl.rc_context({**STYLE, "font.size": 8, "axes.grid": False}):
        figure = Figure(figsize=(WIDTH, 5.4), layout="constrained")
        top, middle, bottom = figure.subplots(
            3, 1, gridspec_kw={"height_ratios": [ROWS + 4, STEPS + 4, ROWS + 4]}
        )
        _draw_mask(top, masks.batch, "Image of the batch", f"Step 1: {_kept(masks.batch)}")
        _draw_mask(middle, shown, "Step", f"Image 1, steps 1 to {STEPS}: {_kept(shown)}")
        middle.set_xlabel(f"Unit (the first {UNITS})")
        _draw_mean(bottom, masks, layer)
        handles = [
            Patch(facecolor=COLOURS[0], label=f"kept: the input times {masks.batch.max():g}"),
            Patch(facecolor="white", edgecolor=GREY, label="dropped: 0"),
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return Picture(
        "dropout",
        figure,
        f"Masks of {layer.name} at a rate of {layer.rate:g}: over the images of a batch {_kept(masks.batch)}, over "
        f"{STEPS} steps {_kept(shown)}; averaged over {AVERAGED} steps inputs of 1 yield {masks.mean[-1].mean():.3f}.",
        f"Dropout ({layer.name}, rate {layer.rate:g}, scaling at {layer.scaling} time): each image has a mask of its own, "
        "and in every step another one, so that each step trains another thinned network. "
        f"Below, what {TRACED} units yield for inputs of 1, averaged over the steps so far, and what the layer yields in inference.",
        dpi=300,
    )


def _kept(outputs: np.ndarray) -> str:
    count = int(np.count_nonzero(outputs))
    return f"{count} of {outputs.size} kept ({100 * count / outputs.size:.0f} %)"


def _draw_mask(ax: Axes, outputs: np.ndarray, label: str, title: str) -> None:
    rows, units = outputs.shape
    ax.pcolormesh(
        outputs > 0,
        cmap=ListedColormap(["white", COLOURS[0]]),
        edgecolor="#d5d5d5",
        linewidth=0.4,
        rasterized=False,
    )
    ax.invert_yaxis()
    ax.set_title(title, fontsize=9, loc="left")
    ax.set_ylabel(label)
    ax.set_yticks(np.arange(rows) + 0.5, [str(row + 1) for row in range(rows)])
    places = [0, *range(9, units, 10)]
    ax.set_xticks(np.array(places) + 0.5, [str(place + 1) for place in places])
    ax.tick_params(length=0)


def _draw_mean(ax: Axes, masks: Masks, layer: Dropout) -> None:
    inference = float(layer(tf.ones([1, 1]), training=False).numpy()[0, 0])
    steps = np.arange(1, len(masks.mean) + 1)
    ax.plot(steps, masks.mean[:, :TRACED], color=COLOURS[0], linewidth=0.9, alpha=0.7)
    ax.axhline(inference, color=COLOURS[1], linewidth=1.2, linestyle=(0, (4, 2)))
    text: dict[str, Any] = {"fontsize": 8, "ha": "right"}
    ax.annotate(
        f"inference: {inference:g}",
        (steps[-1], inference),
        (0, -20),
        textcoords="offset points",
        color=COLOURS[1],
        **text,
    )
    ax.set_title(f"Outputs of {TRACED} units averaged over the steps so far", fontsize=9, loc="left")
    ax.set(xlabel="Steps", xlim=(1, steps[-1]), ylabel="Output")
    ax.set_ylim(0, masks.batch.max() * 1.02)
    ax.grid(visible=True)
