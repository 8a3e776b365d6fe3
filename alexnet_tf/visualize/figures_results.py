"""Measured results: what each augmentation does, how training converges, and the history of ILSVRC."""

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from alexnet_tf.config import from_run, to_dict
from alexnet_tf.pages import COLOURS, GREY, STYLE, Picture
from alexnet_tf.runs import CONFIG, RunError, RunFolder, SweepFolder
from alexnet_tf.studies.measures import Effect, paired_difference
from alexnet_tf.studies.plots import run_pictures
from alexnet_tf.studies.results import RunResult, differences, load_jobs, load_run
from alexnet_tf.studies.study import TUNE

NOT_COMPARED = ("augment.", "data.dir")
"""Beginnings of the config keys in which the runs of `augmentation_effect` may differ."""


@dataclass(frozen=True, eq=False)
class Arm:
    """The runs with one augmentation; errors at the end in per cent, by seed.

    Attributes:
        label: The operations that it has beside those that all arms share.
        training: On training images: the probe's, if every run has one, else that of the last epoch of training.
        validation: On the validation split.
        change: Of the validation error against the first arm's, in percentage points over the seeds that they share.
    """

    label: str
    training: dict[int, float]
    validation: dict[int, float]
    change: Effect


def compare_augmentations(sweeps: Sequence[Path]) -> tuple[list[Arm], str]:
    """The finished runs of sweeps or studies by their augmentation, the fewest operations first.

    Args:
        sweeps: Folders; a run with the augmentation and seed of one that came before does not count.

    Returns:
        The arms, and the split of their training error: `probe` or `train`.

    Raises:
        RunError: If there are no two arms, or the runs differ in more than their augmentation.
    """
    runs = [run for path in sweeps for run in _finished(SweepFolder.open(path))]
    names = ", ".join(map(str, sweeps))
    configs = {str(run.folder.path): _full_config(run) for run in runs}
    keys = differences(configs)
    if others := [key for key in keys if not key.startswith(NOT_COMPARED)]:
        raise RunError(
            f"augmentation_effect: expected runs that differ in augment alone, those of {names} differ in "
            f"{', '.join(others[:5])}"
        )
    groups: dict[str, dict[int, RunResult]] = {}
    for run in runs:
        operations = json.dumps(_operations(configs[str(run.folder.path)]))
        groups.setdefault(operations, {}).setdefault(run.seed, run)
    if len(groups) < 2:
        raise RunError(
            f"augmentation_effect: expected finished runs of two augmentations or more, {names} has "
            f"{len(groups)}: {len(runs)} finished runs"
        )
    split = "train" if any(run.curve("probe").empty for run in runs) else "probe"
    found = [(json.loads(key), by_seed) for key, by_seed in groups.items()]
    found.sort(key=lambda item: len(item[0]))  # stable: else in the order of the sweep
    labels = _labels([operations for operations, _ in found])
    training = [_last(by_seed, split) for _, by_seed in found]
    validation = [_last(by_seed, "validation") for _, by_seed in found]
    rows = zip(labels, training, validation, strict=True)
    return [Arm(*row, paired_difference(row[2], validation[0])) for row in rows], split


def _finished(sweep: SweepFolder) -> list[RunResult]:
    jobs = [job for job in sweep.jobs if job.phase != TUNE]
    return load_jobs(sweep, jobs, splits=["validation"])[0]


def _full_config(run: RunResult) -> dict[str, Any]:
    """The run's config with the keys that are younger than it."""
    return to_dict(from_run(run.folder.path / CONFIG, run.config))


def _last(runs: dict[int, RunResult], split: str) -> dict[int, float]:
    return {seed: 100 * run.last(split, "top1_error") for seed, run in sorted(runs.items())}


def _operations(config: dict[str, Any]) -> dict[str, Any]:
    """The operations that are on, in their order, each with its settings."""
    augment = config["augment"]
    return {name: augment[name] for name in augment["order"] if augment[name] is not None}


def _labels(arms: list[dict[str, Any]]) -> list[str]:
    """For each arm the operations that not all have, with the settings that tell it from one of the same names."""
    labels = []
    for operations in arms:
        own = []
        for name, settings in operations.items():
            others = [other.get(name) for other in arms]
            if all(other == settings for other in others):
                continue
            rivals = [other[name] for other in arms if list(other) == list(operations)]
            differing = {key for rival in rivals for key in settings if rival[key] != settings[key]}
            said = ", ".join(f"{key}={settings[key]}" for key in settings if key in differing)
            own.append(f"{name} ({said})" if said else name)
        labels.append(" + ".join(own) or "none of them")
    if len({*labels}) < len(labels):  # the same operations in another order
        return [", ".join(operations) for operations in arms]
    return labels


def augmentation_effect(sweeps: Sequence[Path]) -> Picture:
    """Draw training and validation error of runs that differ in their augmentation.

    Raises:
        RunError: As `compare_augmentations`.
    """
    arms, split = compare_augmentations(sweeps)
    with mpl.rc_context({**STYLE, "font.size": 9}):
        figure = Figure(figsize=(7.2, 1.2 + 0.6 * len(arms)), layout="constrained")
        ax = figure.subplots()
        for row, arm in enumerate(arms):
            _draw_arm(ax, row, arm)
        ax.set_yticks(range(len(arms)), [textwrap.fill(arm.label, 26) for arm in arms])
        ax.set_ylim(len(arms) - 0.5, -0.6)
        ax.grid(visible=False, axis="y")
        ax.tick_params(axis="y", length=0)
        ax.margins(x=0.06)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        ax.set_xlabel("Top-1 error at the end")
        _draw_numbers(ax, arms)
        where = "training images" if split == "probe" else "augmented training images"
        handles = [_marker(COLOURS[0], where), _marker(COLOURS[1], "validation images")]
        figure.legend(handles=handles, loc="outside upper left", ncols=2)
    spoken = "; ".join(
        f"{arm.label}: training {_mean(arm.training):.1f} %, validation {_mean(arm.validation):.1f} %"
        for arm in arms
    )
    seeds = max(len(arm.validation) for arm in arms)
    return Picture(
        "augmentation_effect",
        figure,
        f"Training and validation error for each augmentation. {spoken}.",
        f"Top-1 error at the end of training with more and more augmentation, a dot for each of up to {seeds} seeds, a bar "
        "for their mean. At the right, in percentage points: the gap between the means, which is overfitting, and the change of "
        "the validation error against the first row, over common seeds with its 95 % interval.",
        dpi=300,
    )


def _draw_arm(ax: Axes, row: int, arm: Arm) -> None:
    means = [_mean(arm.training), _mean(arm.validation)]
    ax.plot(means, [row, row], color="#bbbbbb", linewidth=4, solid_capstyle="butt", zorder=1)
    for values, colour in ((arm.training, COLOURS[0]), (arm.validation, COLOURS[1])):
        errors = list(values.values())
        ax.plot(
            errors,
            [row] * len(errors),
            "o",
            color=colour,
            markersize=5,
            alpha=0.65,
            markeredgewidth=0,
            zorder=3,
        )
        ax.plot([_mean(values)] * 2, [row - 0.22, row + 0.22], color=colour, linewidth=1.8, zorder=2)


def _draw_numbers(ax: Axes, arms: Sequence[Arm]) -> None:
    """Beside the axes, what the dots say: the gap of overfitting, and the change against the first row."""
    place: dict[str, Any] = {"va": "center", "fontsize": 8, "textcoords": "offset points"}
    gaps = [f"{_mean(arm.validation) - _mean(arm.training):+.1f}" for arm in arms]
    changes = ["", *(_change(arm.change) for arm in arms[1:])]
    for points, head, texts in ((10, "gap", gaps), (44, "change", changes)):
        for row, text in ((-0.55, head), *enumerate(texts)):
            colour = GREY if row < 0 else "black"
            ax.annotate(
                _signed(text), (1, row), (points, 0), ("axes fraction", "data"), color=colour, **place
            )


def _change(change: Effect) -> str:
    if change.value is None:
        return "no common seed"
    interval = "" if change.low is None else f"\n[{change.low:+.1f}, {change.high:+.1f}]"
    return f"{change.value:+.1f}{interval}"


def _signed(text: str) -> str:
    return text.replace("-", "−")  # as wide as a plus


def _marker(colour: str, label: str) -> Line2D:
    return Line2D([], [], color=colour, marker="o", linestyle="none", markersize=5, label=label)


def _mean(values: dict[int, float]) -> float:
    return float(np.mean(list(values.values())))


def convergence(runs: Sequence[Path]) -> Picture:
    """Draw loss and error by epoch of one run, or of several beside each other.

    Raises:
        RunError: If one has measured nothing yet or is damaged.
    """
    results = [load_run(RunFolder.open(path)) for path in runs]
    (picture,) = run_pictures(results)
    return dataclasses.replace(picture, name="convergence", dpi=300)


# -------------------------------------------------------------------------------------------------- ILSVRC

HUMAN = 5.1
"""Top-5 error in per cent of annotator A1 on 1,500 test images: Russakovsky et al. (2015), "ImageNet Large Scale Visual
Recognition Challenge", section 6.4."""


@dataclass(frozen=True)
class Winner:
    """The winner of a year's classification task.

    Attributes:
        year: Of the challenge.
        error: Top-5 error on the test set in per cent.
        team: As the challenge names it.
        method: The network, or what it was before networks.
        network: Whether it was a convolutional network.
    """

    year: int
    error: float
    team: str
    method: str
    network: bool = True


ILSVRC = (
    Winner(2010, 28.2, "NEC-UIUC", "SIFT and LBP", network=False),
    Winner(2011, 25.8, "XRCE", "Fisher vectors", network=False),
    Winner(2012, 16.4, "SuperVision", "AlexNet"),
    Winner(2013, 11.7, "Clarifai", "after ZFNet"),
    Winner(2014, 6.7, "GoogLeNet", "Inception"),
    Winner(2015, 3.6, "MSRA", "ResNet"),
    Winner(2016, 3.0, "Trimps-Soushen", "ensemble"),
    Winner(2017, 2.3, "WMW", "SENet"),
)
"""The classification task's winners without data from elsewhere.

- 2010, 28.2: Lin et al. (2011), "Large-scale image classification: fast feature extraction and SVM training"; in the table of
  Russakovsky et al. (2015), "ImageNet Large Scale Visual Recognition Challenge", as all up to 2014.
- 2011, 25.8: Sanchez and Perronnin (2011), "High-dimensional signature compression for large-scale image classification".
- 2012, 16.4: Krizhevsky et al. (2012), section 6: five networks; with two that saw the release of autumn 2011 as well 15.3.
- 2013, 11.7: Clarifai, by Zeiler; the network is described by Zeiler and Fergus (2013), "Visualizing and Understanding
  Convolutional Networks". With data from elsewhere 11.2.
- 2014, 6.7: Szegedy et al. (2014), "Going Deeper with Convolutions": 6.67.
- 2015, 3.6: He et al. (2015), "Deep Residual Learning for Image Recognition": 3.57.
- 2016, 3.0: Trimps-Soushen, the challenge's results page of 2016: 2.99.
- 2017, 2.3: Hu et al. (2017), "Squeeze-and-Excitation Networks": 2.25.
"""


def ilsvrc() -> Picture:
    """Draw the winners' top-5 errors by year, with the human's; the sources stand at `ILSVRC` and `HUMAN`."""
    with mpl.rc_context({**STYLE, "font.size": 9}):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        ax = figure.subplots()
        for index, winner in enumerate(ILSVRC):
            colour = COLOURS[1] if winner.method == "AlexNet" else COLOURS[0] if winner.network else "#999999"
            ax.bar(index, winner.error, 0.7, color=colour)
            inside = winner.error < HUMAN  # above it the human's line would cross the number
            height, va, ink = (
                (winner.error / 2, "center", "white") if inside else (winner.error + 0.4, "bottom", "black")
            )
            text = f"{winner.error:.1f} %"
            ax.text(index, height, text, color=ink, ha="center", va=va, fontweight="bold")
        ax.set_xticks(
            range(len(ILSVRC)),
            [f"{winner.year}\n{winner.team}\n{winner.method}" for winner in ILSVRC],
            fontsize=7.5,
        )
        ax.axhline(HUMAN, color=COLOURS[2], linewidth=1.4, linestyle=(0, (5, 2)), zorder=3)
        ax.text(7.45, HUMAN + 0.35, f"one human: {HUMAN:g} %", ha="right", color=COLOURS[2])
        ax.set(ylabel="Top-5 error", ylim=(0, 31), xlim=(-0.5, 7.5))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        ax.grid(visible=False, axis="x")
        ax.tick_params(axis="x", length=0)
        _legend(ax)
    spoken = "; ".join(
        f"{winner.year} {winner.team} ({winner.method}) {winner.error:g} %" for winner in ILSVRC
    )
    return Picture(
        "ilsvrc",
        figure,
        f"Bars of the top-5 test error of the winners of ILSVRC. {spoken}; a human {HUMAN:g} %.",
        "Top-5 test error of the winners of ILSVRC's classification task without data from elsewhere, and of a human who "
        "had practised (Russakovsky et al., 2015).",
        dpi=300,
    )


def _legend(ax: Axes) -> None:
    shown = (
        ("#999999", "features by hand"),
        (COLOURS[1], "AlexNet"),
        (COLOURS[0], "later convolutional networks"),
    )
    handles = [Line2D([], [], color=colour, linewidth=7, label=label) for colour, label in shown]
    ax.legend(handles=handles, loc="upper right", handlelength=1)
