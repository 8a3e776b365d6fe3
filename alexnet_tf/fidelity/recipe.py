"""What a recipe does: built optimizer, schedule and image operations, driven by hand and watched."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.config import REST, Config
from alexnet_tf.data import OPS, Statistics
from alexnet_tf.data.preprocessing import active_ops
from alexnet_tf.data.stores import traced
from alexnet_tf.fidelity.sampled import Sampled
from alexnet_tf.training.optimizer import (
    frozen_groups,
    group_rates,
    make_optimizer,
    set_frozen_groups,
    set_group_rates,
)
from alexnet_tf.training.schedule import Schedule, make_schedule

ILSVRC_EXAMPLES = 1_281_167
"""Training images of ILSVRC-2012."""
DEVIATIONS = (19.72, 37.09, 121.78)
"""Of ILSVRC-2012's colours along their principal axes, in units of 0-255: what the authors' code has."""
DRAWS = 2000
"""Images that a random operation is tried on: each of 33 offsets comes up but for one chance in 10**25."""
MOST_CHANGES = 12
"""Of the rate that are looked at: more than any source has, fewer than a smooth schedule."""
SEED = 2012
NO_SEED = np.zeros(2, np.int64)


@dataclass(frozen=True)
class Recipe:
    """A composed config and the variables of the network that it trains."""

    config: Config
    paths: tuple[str, ...]
    """Such as `conv1/kernel`."""

    @property
    def steps_per_epoch(self) -> int:
        """On ILSVRC-2012, as training counts them: the last partial batch is dropped."""
        return ILSVRC_EXAMPLES // self.config.training.batch_size

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.config.training.steps or self.config.training.epochs * self.steps_per_epoch

    def schedule(self) -> Schedule:
        """A new schedule."""
        optimizer = self.config.optimizer
        lengths = self.steps_per_epoch, self.total_steps
        return make_schedule(self.config.schedule, group_rates(optimizer), *lengths, frozen_groups(optimizer))

    def state(self, step: int) -> tuple[dict[str, float], frozenset[str]]:
        """Rates and frozen groups of the step that follows `step` finished ones."""
        schedule = self.schedule()
        return schedule.rates(step), schedule.frozen(step)

    def drive(self, start: float, gradients: list[float], at: list[int] | None = None) -> np.ndarray:
        """Drive a new optimizer and variables of one number each, with the network's paths.

        Args:
            start: The variables' first value.
            gradients: One for each step, for all of them.
            at: How many steps of the schedule are finished at each; None: none.

        Returns:
            float64 `[steps + 1, variables]`: the values before and after each step.
        """
        variables = [_stand_in(path, start) for path in self.paths]
        optimizer = make_optimizer(self.config.optimizer)
        optimizer.build(variables)
        values = [[start] * len(variables)]
        for gradient, step in zip(gradients, at or [0] * len(gradients), strict=True):
            rates, frozen = self.state(step)
            set_group_rates(optimizer, rates)
            set_frozen_groups(optimizer, frozen)
            optimizer.apply([tf.constant([gradient], tf.float64)] * len(variables), variables)
            values.append([float(variable.numpy()[0]) for variable in variables])
        return np.array(values)

    def op(self, name: str) -> Callable[[Any, Any], tf.Tensor] | None:
        """An operation as training has it, from (image, seed) to image; None if the recipe is without."""
        configs = dict(active_ops(self.config.augment))
        return OPS[name].build(configs[name], _statistics(), True) if name in configs else None


def measure_recipe(config: Config, paths: Sequence[str], names: Iterable[str]) -> dict[str, Any]:
    """The facts of these names that are the recipe's, as `Facts` has them; `paths` are the trained variables'."""
    recipe = Recipe(config, tuple(paths))
    wanted = set(names)
    return {name: measure(recipe) for name, measure in MEASURES.items() if name in wanted}


def _stand_in(path: str, value: float) -> keras.Variable:
    """A variable of one number that has a network's variable's path."""
    *scopes, name = path.split("/")
    with keras.name_scope("/".join(scopes)):
        variable = keras.Variable([value], dtype="float64", name=name)
    assert variable.path == path, f"{variable.path} stands in for {path}"
    return variable


def _statistics() -> Statistics:
    """Of images of 256x256 whose red, green and blue deviate by `DEVIATIONS`, with a mean image that is not flat."""
    variances = np.square(DEVIATIONS)
    mean_image = np.linspace(0, 255, 256 * 256 * 3, dtype=np.float32).reshape(256, 256, 3)
    return Statistics(
        mean_image=mean_image,
        mean_channel=np.array([124, 117, 104], np.float32),
        covariance=np.diag(variances),
        eigenvalues=variances.astype(np.float32),
        eigenvectors=np.eye(3, dtype=np.float32),
        count=1,
    )


# --------------------------------------------------------------------------------- the optimizer and its rates


def _by_kind(recipe: Recipe, values: np.ndarray) -> dict[str, float]:
    """One number for all kernels and one for all biases; nan where they differ."""
    ends = {"weights": "kernel", "biases": "bias"}
    kinds = {kind: [path.endswith(end) for path in recipe.paths] for kind, end in ends.items()}
    return {kind: _one(values[chosen]) for kind, chosen in kinds.items()}


def _one(values: np.ndarray) -> float:
    """The value that all have but for rounding, nan if they do not."""
    return float(values[0]) if np.allclose(values, values[0], rtol=1e-6) else math.nan


def _rates_at(recipe: Recipe, step: int) -> np.ndarray:
    """From a weight of 0, whose first step is -lr g, or none if it is frozen."""
    return -recipe.drive(0.0, [1.0], [step])[1]


def _rate(recipe: Recipe) -> dict[str, float]:
    return _by_kind(recipe, _rates_at(recipe, 0))


def _decay(recipe: Recipe) -> dict[str, float]:
    """From a weight of 1 without a gradient, whose first step is -decay lr."""
    with np.errstate(invalid="ignore"):  # nan where nothing moves
        return _by_kind(recipe, (1 - recipe.drive(1.0, [0.0])[1]) / _rates_at(recipe, 0))


def _momentum(recipe: Recipe) -> float:
    """From a variable at 0 pushed once: the part of the first step that the second repeats, beside the decay."""
    first, second = np.diff(recipe.drive(0.0, [1.0, 0.0]), axis=0)
    decay_step = 1 - recipe.drive(1.0, [0.0])[1]  # of a weight of 1; the weight is at `first` here
    with np.errstate(invalid="ignore"):
        return _one((second + decay_step * first) / first)


def _update(recipe: Recipe) -> list[float]:
    """The steps of the first kernel from 100 under gradients of 1, -2 and 0.5."""
    kernel = next(index for index, path in enumerate(recipe.paths) if path.endswith("kernel"))
    return [float(step) for step in np.diff(recipe.drive(100.0, [1.0, -2.0, 0.5])[:, kernel])]


# ----------------------------------------------------------------------------------------------- the schedule


def _rate_by_epoch(recipe: Recipe) -> dict[str, dict[int, float]]:
    length = recipe.steps_per_epoch
    starts = range(0, recipe.total_steps, length)
    steps = [step for last, step in pairwise(starts) if recipe.state(last) != recipe.state(step)]
    return {
        path: {step // length + 1: rate for step, rate in rates.items()}
        for path, rates in _rate_changes(recipe, steps).items()
    }


def _rate_by_iteration(recipe: Recipe) -> dict[str, dict[int, float]]:
    """Looked for every 500 iterations, then to the very one by halving."""
    steps = []
    for low, high in pairwise(range(0, recipe.total_steps, 500)):
        if recipe.state(low) != recipe.state(high):
            steps.append(
                bisect_left(range(low, high), True, key=lambda step: recipe.state(step) != recipe.state(low))
                + low
            )
    return _rate_changes(recipe, steps)


def _rate_changes(recipe: Recipe, steps: list[int]) -> dict[str, dict[int, float]]:
    """The rate of each variable at the first step and wherever it has changed; of `steps` the first few."""
    changes: dict[str, dict[int, float]] = {path: {} for path in recipe.paths}
    for step in [0, *steps[:MOST_CHANGES]]:
        for (path, rates), rate in zip(changes.items(), _rates_at(recipe, step), strict=True):
            if not rates or not math.isclose(rate, list(rates.values())[-1], rel_tol=1e-6):
                changes[path][step] = float(rate)
    return changes


def _rate_by_plateau(recipe: Recipe) -> list[float]:
    """The rate through a run whose validation error never improves, until the schedule ends it."""
    schedule = recipe.schedule()
    rates = [schedule.rates(0)[REST]]
    for _ in range(recipe.config.training.epochs):
        if schedule.after_epoch(0.5):
            break
        if schedule.rates(0)[REST] != rates[-1]:
            rates.append(schedule.rates(0)[REST])
    return rates


def _frozen_at_end(recipe: Recipe) -> list[str]:
    """The variables that the last step leaves where they are, although they have momentum."""
    before, after = recipe.drive(0.0, [1.0, 1.0], [0, recipe.total_steps - 1])[1:]
    return sorted(path for path, frozen in zip(recipe.paths, before == after, strict=True) if frozen)


def _left_out(recipe: Recipe) -> dict[int, list[str]]:
    schedule, length = recipe.schedule(), recipe.steps_per_epoch
    starts = range(0, recipe.total_steps, length)
    return {
        step // length + 1: sorted(schedule.augment_off(step) - schedule.augment_off(last))
        for last, step in pairwise(starts)
        if schedule.augment_off(step) != schedule.augment_off(last)
    }


# ------------------------------------------------------------------------------------------------- the images


def _image(height: int, width: int, value: float = 0.0) -> tf.Tensor:
    """Float32 `[height, width, 3]` of one grey."""
    return tf.fill([height, width, 3], tf.constant(value, tf.float32))


def _draw(apply: Callable[[Any, Any], tf.Tensor], image: np.ndarray) -> np.ndarray:
    """The upper left pixel of an image after each of many draws: float32 `[DRAWS, channels]`."""
    pixels = tf.data.Dataset.range(DRAWS).map(
        traced(lambda draw: tf.cast(apply(tf.constant(image), tf.stack([draw, SEED]))[0, 0], tf.float32))
    )
    return np.array(list(pixels.as_numpy_iterator()))


def _side_after(recipe: Recipe, name: str) -> int | None:
    """The shorter side that an operation gives an image of 600x500."""
    apply = recipe.op(name)
    return apply and min(apply(_image(600, 500), NO_SEED).shape[:2])


def _crop(recipe: Recipe) -> int | None:
    return _side_after(recipe, "random_crop") or _side_after(recipe, "random_resized_crop")


def _crop_offsets(recipe: Recipe) -> int | None:
    """How many rows of an image of 256x256, each pixel of which says its row and column, a crop can begin with."""
    if not (apply := recipe.op("random_crop")):
        return None
    places = np.moveaxis(np.indices((256, 256)), 0, -1).astype(np.float32)
    rows, columns = (len(np.unique(found)) for found in _draw(apply, places).T)
    return rows if rows == columns else -1


def _mirrored(recipe: Recipe) -> Sampled | None:
    """Of images with a black and a white half, the share that begin with the other."""
    if not (apply := recipe.op("flip")):
        return None
    mirrored = _draw(apply, np.array([[[0.0], [1.0]]], np.float32))
    return Sampled(mirrored.mean(), error=mirrored.std() / math.sqrt(DRAWS))


def _colour_noise(recipe: Recipe) -> list[Sampled] | None:
    """Deviations along the noise's own axes, before any division."""
    if not (apply := recipe.op("pca")):
        return None
    noise = _draw(apply, np.zeros((1, 1, 3), np.float32)) * _divisor(apply)
    deviations = np.sqrt(np.linalg.eigvalsh(noise.T @ noise / DRAWS))
    return [Sampled(value, error=value / math.sqrt(2 * DRAWS)) for value in deviations]


def _training_divisor(recipe: Recipe) -> float:
    """What all operations on colour divide by together."""
    found = [recipe.op(name) for name in ("pca", "scale")]
    return math.prod(_divisor(apply) for apply in found if apply)


def _divisor(apply: Callable[[Any, Any], tf.Tensor]) -> float:
    black, white = (float(apply(_image(1, 1, value), NO_SEED)[0, 0, 0]) for value in (0, 1000))
    return 1000 / (white - black)


def _mean(recipe: Recipe) -> str | None:
    """Which mean a black image of 256x256 is left with."""
    if not (apply := recipe.op("subtract_mean")):
        return None
    subtracted = -np.asarray(apply(_image(256, 256), NO_SEED))
    means = {"image": _statistics().mean_image, "channel": _statistics().mean_channel}
    return next((name for name, mean in means.items() if (subtracted == mean).all()), "values")


def _channel_values(recipe: Recipe) -> tuple[list[float], list[float]] | None:
    """Mean and deviation of each channel of RGB in [0, 1], from what a black and a white pixel become."""
    subtract, divide = recipe.op("subtract_mean"), recipe.op("scale")
    if not (subtract and divide) or _mean(recipe) == "image":
        return None
    pixels = [_image(1, 1, value) for value in (0, 255)]
    black, white = (
        np.asarray(divide(subtract(pixel, NO_SEED), NO_SEED), np.float64)[0, 0] for pixel in pixels
    )
    deviation = 1 / (white - black)
    return list(-black * deviation), list(deviation)


def _resized_crop(recipe: Recipe, low: str, high: str) -> list[float] | None:
    """Two bounds of the random resized crop, as its config has them."""
    config = dict(active_ops(recipe.config.augment)).get("random_resized_crop")
    return config and [getattr(config, low), getattr(config, high)]


MEASURES: dict[str, Callable[[Recipe], Any]] = {
    "batch": lambda recipe: recipe.config.training.batch_size,
    "epochs": lambda recipe: recipe.config.training.epochs,
    "iterations": lambda recipe: recipe.total_steps,
    "rate": _rate,
    "decay": _decay,
    "momentum": _momentum,
    "update": _update,
    "rate_by_epoch": _rate_by_epoch,
    "rate_by_iteration": _rate_by_iteration,
    "rate_by_plateau": _rate_by_plateau,
    "frozen_at_end": _frozen_at_end,
    "left_out": _left_out,
    "shorter_side": lambda recipe: _side_after(recipe, "resize"),
    "center_crop": lambda recipe: _side_after(recipe, "center_crop"),
    "crop": _crop,
    "crop_offsets": _crop_offsets,
    "crop_area": lambda recipe: _resized_crop(recipe, "min_area", "max_area"),
    "crop_aspect": lambda recipe: _resized_crop(recipe, "min_ratio", "max_ratio"),
    "mirrored": _mirrored,
    "colour_noise": _colour_noise,
    "training_divisor": _training_divisor,
    "mean": _mean,
    "channel_mean": lambda recipe: (_channel_values(recipe) or (None,))[0],
    "channel_std": lambda recipe: (_channel_values(recipe) or (None,))[-1],
}
"""How each fact of a recipe is measured, by its field of `Facts`."""
