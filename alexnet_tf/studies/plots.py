"""The report's pictures; each arm has a colour and a dash pattern. Imports no TensorFlow."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from alexnet_tf.pages import COLOURS, GREY, STYLE, WIDTH, Picture
from alexnet_tf.studies import wording
from alexnet_tf.studies.measures import Reading, summarize
from alexnet_tf.studies.results import Measure, RunResult
from alexnet_tf.studies.study import Arm, StudyResult

DASHES: tuple[Any, ...] = (
    "-",
    (0, (6, 2)),
    (0, (6, 2, 1, 2)),
    (0, (1, 1.5)),
    (0, (3, 1.5)),
    (0, (8, 2, 1, 2, 1, 2)),
)


def study_pictures(study: StudyResult) -> list[Picture]:
    """The pictures of a study; none while no run has finished."""
    arms = [arm for arm in study.arms if arm.runs]
    if not arms:
        return []
    styles = {arm.name: _style(index) for index, arm in enumerate(study.arms)}
    measures = study.measures
    with mpl.rc_context(STYLE):
        pictures = []
        if all(not run.curve("probe").empty for run in study.finished):
            pictures.append(
                _error_picture(arms, styles, [race for race in study.races if race.split == "probe"])
            )
        pictures += [_dots_picture(arms, styles, measure, study.races) for measure in measures]
        if any(len(run.curve("validation")) > 1 for run in study.finished):
            pictures.append(_epoch_picture(arms, styles))
    return pictures


def run_pictures(results: Sequence[RunResult]) -> list[Picture]:
    """Loss and top-1 error of single runs by epoch, training solid and validation dashed."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 6.2))
        axes = figure.subplots(2, 1, sharex=True)
        panels = zip(axes, (("loss", "Loss"), ("top1_error", "Top-1 error")), strict=True)
        for ax, (column, label) in panels:
            for index, run in enumerate(results):
                colour = _run_colour(index, len(results))
                _line(ax, run, "train", column, color=colour, linestyle="-")
                _line(ax, run, "validation", column, color=colour, linestyle=(0, (4, 2)))
            ax.set_ylabel(label)
            _from_zero(ax)
        _percent_axis(axes[1])
        _epoch_axis(axes[1])
        _run_legend(figure, results)
    names = ", ".join(run.name for run in results)
    numbers = "; ".join(
        f"{run.name}: training error {wording.percent(run.last('train', 'top1_error'))}, "
        f"validation error {wording.percent(run.last('validation', 'top1_error'))} at the end"
        for run in results
    )
    alt = f"Two charts over epochs, loss above and top-1 error below, for {names}. {numbers}."
    caption = (
        "Loss and top-1 error by epoch: solid on the training split (averaged over the epoch, with augmentation "
        "and dropout), dashed on the validation split at the epoch's end."
    )
    return [Picture("learning_curves", figure, alt, caption)]


def band(
    curves: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, minimum and maximum of curves over their common range.

    Args:
        curves: For each seed (x ascending, y). Curves that end early cut the range: beyond it the mean would
            be over fewer seeds and jump.

    Returns:
        x (every point of any curve in the common range), mean, minimum and maximum, each of one length.
    """
    start, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.unique(np.concatenate([np.asarray(x, float) for x, _ in curves]))
    grid = grid[(grid >= start) & (grid <= end)]
    values = np.array([np.interp(grid, x, y) for x, y in curves])
    return grid, values.mean(axis=0), values.min(axis=0), values.max(axis=0)


def _error_picture(arms: Sequence[Arm], styles: Mapping[str, Any], races: Sequence[Measure]) -> Picture:
    figure = Figure(figsize=(WIDTH, 4.4))
    ax = figure.subplots()
    for arm in arms:
        _draw_arm(ax, arm, styles[arm.name], "probe", "step", "top1_error")
    for race in races:
        ax.axhline(race.threshold, color=GREY, linewidth=1.2, linestyle=(0, (2, 2)))
        ax.annotate(
            f"threshold\n{wording.threshold_text(race.threshold)}",
            (1, race.threshold),  # beside the axes, where no curve can be
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            ha="left",
            va="center",
            color=GREY,
            fontsize=9,
        )
    ax.set_xlabel("Iterations")
    ax.set_ylabel("Training error (probe)")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set_xlim(left=0)
    _from_zero(ax)
    _percent_axis(ax)
    _arm_legend(figure, arms, styles)
    ends = "; ".join(f"{arm.name} ends at {wording.percent(arm.mean_last('probe'))}" for arm in arms)
    alt = f"Chart of training error against iterations for {', '.join(arm.name for arm in arms)}. {ends}."
    caption = (
        "Training error (on a fixed subset of training images, without augmentation or dropout) against iterations. "
        "Thick line: mean over seeds; band: minimum to maximum; thin lines: single seeds. Mean and band end where "
        "the first seed ends."
    )
    return Picture("training_error", figure, alt, caption)


def _draw_arm(ax: Axes, arm: Arm, style: Any, split: str, x: str, y: str) -> None:
    colour, dash = style
    tables = [run.curve(split, y) for run in arm.runs.values()]
    curves = [(table[x].tolist(), table[y].tolist()) for table in tables if not table.empty]
    if not curves:
        return
    grid, mean, low, high = band(curves)
    if len(curves) > 1:
        for xs, ys in curves:
            ax.plot(xs, ys, color=colour, linewidth=0.7, alpha=0.45)
        ax.fill_between(grid, low, high, color=colour, alpha=0.16, linewidth=0)
    marker = "o" if len(grid) == 1 else None
    ax.plot(grid, mean, color=colour, linestyle=dash, linewidth=2.2, marker=marker, markersize=5)


def _dots_picture(
    arms: Sequence[Arm], styles: Mapping[str, Any], measure: Measure, races: Sequence[Measure]
) -> Picture:
    figure = Figure(figsize=(WIDTH, 1.3 + 0.62 * len(arms)))
    ax = figure.subplots()
    spoken = []
    for row, arm in enumerate(arms):
        points = list(arm.readings(measure).values())
        offsets = np.linspace(-0.24, 0.24, len(points)) if len(points) > 1 else [0.0]
        for point, offset in zip(points, offsets, strict=True):
            _dot(ax, point, row + float(offset), styles[arm.name][0])
        if not any(point.censored for point in points):
            mean = float(np.mean([point.value for point in points]))
            ax.plot([mean, mean], [row - 0.36, row + 0.36], color=styles[arm.name][0], linewidth=2)
        spoken.append(f"{arm.name} {wording.summary(summarize(points), wording.unit_of(measure))}")
    _dots_axes(ax, arms, measure)
    name = wording.measure_name(measure)
    alt = f"Dots for the {name} of each seed. Mean and range: {'; '.join(spoken)}."
    caption = f"{wording.capitalized(name)}, a dot for each seed; the bar is their mean."
    if any(point.censored for arm in arms for point in arm.readings(measure).values()):
        caption += " A hollow arrow is a run that ended there without reaching it."
    if measure.is_time:
        file = "iterations" if len(races) == 1 else f"iterations_{races.index(measure) + 1}"
    else:
        views = f"_{measure.views}views" if measure.views else ""
        file = f"{measure.metric}_{measure.split}{views}"
    return Picture(file, figure, alt, caption)


def _dot(ax: Axes, point: Reading, height: float, colour: str) -> None:
    fill = "none" if point.censored else colour
    marker = ">" if point.censored else "o"
    ax.plot(
        [point.value],
        [height],
        marker=marker,
        markersize=8 if point.censored else 7,
        markerfacecolor=fill,
        markeredgecolor=colour,
        markeredgewidth=1.6,
        linestyle="none",
        clip_on=False,
    )


def _dots_axes(ax: Axes, arms: Sequence[Arm], measure: Measure) -> None:
    values = [point.value for arm in arms for point in arm.readings(measure).values()]
    ax.set_yticks(range(len(arms)), [_text(arm.name) for arm in arms])
    ax.set_ylim(len(arms) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    label = wording.capitalized(wording.measure_name(measure))
    if not measure.is_time:  # small differences between errors count: the axis need not start at 0
        ax.margins(x=0.08)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    elif min(values) > 0 and max(values) > 10 * min(values):
        ax.set_xscale("log")
        ax.set_xlim(min(values) / 1.4, max(values) * 1.25)
        ax.xaxis.set_minor_formatter(NullFormatter())
        label += " (log scale)"
    else:
        ax.set_xlim(0, max([*values, 1.0]) * 1.06)
    if measure.is_time:
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set_xlabel(label)


def _epoch_picture(arms: Sequence[Arm], styles: Mapping[str, Any]) -> Picture:
    figure = Figure(figsize=(WIDTH, 6.2))
    axes = figure.subplots(2, 1, sharex=True)
    for arm in arms:
        _draw_arm(axes[0], arm, styles[arm.name], "train", "epoch", "loss")
        _draw_arm(axes[1], arm, styles[arm.name], "validation", "epoch", "top1_error")
    axes[0].set_ylabel("Training loss")
    axes[1].set_ylabel("Validation error")
    for ax in axes:
        _from_zero(ax)
    _percent_axis(axes[1])
    _epoch_axis(axes[1])
    _arm_legend(figure, arms, styles)
    ends = "; ".join(f"{arm.name} ends at {wording.percent(arm.mean_last('validation'))}" for arm in arms)
    alt = f"Two charts over epochs: training loss above, validation error below. Validation error: {ends}."
    caption = (
        "Training loss and top-1 validation error by epoch. Thick line: mean over seeds; band: minimum to maximum; "
        "thin lines: single seeds."
    )
    return Picture("epochs", figure, alt, caption)


def _line(ax: Axes, run: RunResult, split: str, column: str, **style: Any) -> None:
    table = run.curve(split, column)
    marker = "o" if len(table) == 1 else None
    ax.plot(table["epoch"], table[column], linewidth=1.8, marker=marker, markersize=5, **style)


def _style(index: int) -> tuple[str, Any]:
    return COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]


def _run_colour(index: int, count: int) -> Any:
    """A colour of the palette; for more runs than it has, a shade between dark and light in their order."""
    return COLOURS[index] if count <= len(COLOURS) else mpl.colormaps["viridis"](0.92 * index / (count - 1))


def _text(name: str) -> str:
    """A user's name as matplotlib text: no mathematics, and not too long for a label."""
    short = name if len(name) <= 40 else f"{name[:24]}…{name[-15:]}"
    return short.replace("$", r"\$")


def _arm_legend(figure: Figure, arms: Sequence[Arm], styles: Mapping[str, Any]) -> None:
    handles = [
        Line2D([], [], color=styles[arm.name][0], linestyle=styles[arm.name][1], linewidth=2.2)
        for arm in arms
    ]
    _legend(
        figure, handles, [f"{_text(arm.name)} ({wording.counted(len(arm.runs), 'seed')})" for arm in arms]
    )


def _run_legend(figure: Figure, results: Sequence[RunResult]) -> None:
    handles = [Line2D([], [], color=GREY, linestyle=dash, linewidth=1.8) for dash in ("-", (0, (4, 2)))]
    labels = ["training", "validation"]
    if len(results) > 1:
        handles += [
            Line2D([], [], color=_run_colour(i, len(results)), linewidth=4) for i in range(len(results))
        ]
        labels += [_text(run.name) for run in results]
    _legend(figure, handles, labels)


def _legend(figure: Figure, handles: list[Line2D], labels: list[str]) -> None:
    """A legend above the axes, which can hide no curve; the saved picture grows to hold it."""
    figure.tight_layout()
    columns = 1 if max(map(len, labels)) > 32 else 2
    figure.legend(
        handles,
        labels,
        loc="lower center",
        bbox_to_anchor=(0.5, 0.99),
        ncols=columns,
        handlelength=3.2,
        borderaxespad=0,
    )


def _from_zero(ax: Axes) -> None:
    ax.set_ylim(bottom=0)


def _percent_axis(ax: Axes) -> None:
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def _epoch_axis(ax: Axes) -> None:
    ax.set_xlabel("Epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
