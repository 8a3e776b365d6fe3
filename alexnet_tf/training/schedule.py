"""Learning-rate schedules: plain Python objects that say the rate of every step and when to stop.

A schedule gives a factor; the rate of each group of variables is its base rate times that factor.
"""

import math
from collections.abc import Mapping
from typing import Any

from alexnet_tf.config.schema import ConstantConfig, CosineConfig, PlateauConfig, ScheduleConfig, StepsConfig


class Schedule:
    """One rate throughout, after a linear warm-up.

    Args:
        config: The schedule's section of the config.
        base_rates: The full rate of each group.
        steps_per_epoch: Steps of one epoch.
        total_steps: Steps of the whole run.
    """

    def __init__(
        self, config: ScheduleConfig, base_rates: Mapping[str, float], steps_per_epoch: int, total_steps: int
    ) -> None:
        self.config: Any = config
        self.base_rates = dict(base_rates)
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_steps
        self.warmup_steps = round(config.warmup_epochs * steps_per_epoch)

    def rates(self, step: int) -> dict[str, float]:
        """The rate of each group for the step that follows `step` finished ones."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        factor = warmup * self.factor(step)
        return {group: rate * factor for group, rate in self.base_rates.items()}

    def factor(self, step: int) -> float:
        """The fraction of the full rate, without the warm-up."""
        del step
        return 1.0

    def after_epoch(self, validation_error: float | None) -> str | None:
        """Take note of a validation error (fraction, 0-1); the reason to end the run, or None to go on."""
        del validation_error
        return None

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        del state


class Plateau(Schedule):
    """Divide the rate when the validation error has stopped improving, and at last stop (paper, section 5)."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.best = math.inf
        self.waited = 0
        self.reductions = 0

    def factor(self, step: int) -> float:
        """`1 / divisor` for every reduction so far."""
        del step
        return self.config.divisor**-self.reductions

    def after_epoch(self, validation_error: float | None) -> str | None:
        """Count the epochs without improvement."""
        if validation_error is None:
            return None
        if validation_error < self.best - self.config.min_delta:
            self.best, self.waited = validation_error, 0
            return None
        self.waited += 1
        if self.waited < self.config.patience:
            return None
        if self.reductions == self.config.reductions:
            return f"plateau after {self.reductions} reductions of the rate"
        self.reductions, self.waited = self.reductions + 1, 0
        return None

    def state(self) -> dict[str, Any]:
        """Best error, epochs waited and reductions made."""
        return {"best": self.best, "waited": self.waited, "reductions": self.reductions}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.best, self.waited, self.reductions = state["best"], state["waited"], state["reductions"]


class Steps(Schedule):
    """Divide the rate at the start of given epochs, counted from 1."""

    def factor(self, step: int) -> float:
        """`1 / divisor` for every given epoch that has begun."""
        epoch = step // self.steps_per_epoch + 1
        return self.config.divisor ** -sum(start <= epoch for start in self.config.epochs)


class Cosine(Schedule):
    """Half a cosine over the steps after the warm-up (Loshchilov and Hutter, 2017, without restarts)."""

    def factor(self, step: int) -> float:
        """From 1 down to `final_fraction`."""
        progress = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        wave = (1 + math.cos(math.pi * min(1.0, max(0.0, progress)))) / 2
        return self.config.final_fraction + (1 - self.config.final_fraction) * wave


SCHEDULES: dict[type[ScheduleConfig], type[Schedule]] = {
    ConstantConfig: Schedule,
    PlateauConfig: Plateau,
    StepsConfig: Steps,
    CosineConfig: Cosine,
}


def make_schedule(
    config: ScheduleConfig, base_rates: Mapping[str, float], steps_per_epoch: int, total_steps: int
) -> Schedule:
    """The schedule that a config describes."""
    return SCHEDULES[type(config)](config, base_rates, steps_per_epoch, total_steps)
