"""Schedules: plain Python objects that say the rates of every step, what is frozen or left out, and when to stop.

Most give a factor: the rate of each group of variables is its base rate times that. A table gives each its own rate.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from alexnet_tf.config.schema import (
    ConstantConfig,
    CosineConfig,
    PhaseConfig,
    PlateauConfig,
    ScheduleConfig,
    StepsConfig,
    TableConfig,
)


class Schedule:
    """One rate throughout, after a linear warm-up.

    Args:
        config: The schedule's section of the config.
        base_rates: The full rate of each group.
        steps_per_epoch: Steps of one epoch.
        total_steps: Steps of the whole run.
        base_frozen: The groups that the optimizer's config freezes.
        freeze_until: The network's part up to which layers stand still.
    """

    def __init__(
        self,
        config: ScheduleConfig,
        base_rates: Mapping[str, float],
        steps_per_epoch: int,
        total_steps: int,
        base_frozen: Collection[str] = (),
        freeze_until: str | None = None,
    ) -> None:
        self.config: Any = config
        self.base_rates = dict(base_rates)
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_steps
        self.base_frozen = frozenset(base_frozen)
        self.freeze_until = freeze_until
        self.warmup_steps = round(config.warmup_epochs * steps_per_epoch)

    def rates(self, step: int) -> dict[str, float]:
        """The rate of each group for the step that follows `step` finished ones."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return {group: rate * warmup for group, rate in self.full_rates(step).items()}

    def full_rates(self, step: int) -> dict[str, float]:
        """The rates without the warm-up."""
        factor = self.factor(step)
        return {group: rate * factor for group, rate in self.base_rates.items()}

    def factor(self, step: int) -> float:
        """The fraction of the full rate, without the warm-up."""
        del step
        return 1.0

    def frozen(self, step: int) -> frozenset[str]:
        """The groups that do not move in the step that follows `step` finished ones."""
        del step
        return self.base_frozen

    def frozen_until(self, step: int) -> str | None:
        """The part up to which layers stand still in the step that follows `step` finished ones; None: nowhere."""
        epoch = step // self.steps_per_epoch + 1
        begun = [until for start, until in sorted(self.config.unfreeze.items()) if start <= epoch]
        return begun[-1] if begun else self.freeze_until

    def augment_off(self, step: int) -> frozenset[str]:
        """The operations that are left out in the epoch of the step that follows `step` finished ones."""
        del step
        return frozenset()

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
    """Divide the rate at the start of given epochs, counted from 1, and after given iterations."""

    def factor(self, step: int) -> float:
        """`1 / divisor` for every given epoch that has begun and every given iteration that is done."""
        epoch = step // self.steps_per_epoch + 1
        begun = sum(start <= epoch for start in self.config.epochs)
        return self.config.divisor ** -(begun + sum(done <= step for done in self.config.iterations))


class Cosine(Schedule):
    """Half a cosine over the steps after the warm-up (Loshchilov and Hutter, 2017, without restarts)."""

    def factor(self, step: int) -> float:
        """From 1 down to `final_fraction`."""
        progress = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        wave = (1 + math.cos(math.pi * min(1.0, max(0.0, progress)))) / 2
        return self.config.final_fraction + (1 - self.config.final_fraction) * wave


class Table(Schedule):
    """Phases by epoch: what one sets holds until a later one sets it anew."""

    def phases(self, step: int) -> Iterator[PhaseConfig]:
        """The phases that have begun after `step` finished steps, the earliest first."""
        epoch = step // self.steps_per_epoch + 1
        for phase in sorted(self.config.phases.values(), key=lambda phase: phase.epoch):
            if phase.epoch <= epoch:
                yield phase

    def full_rates(self, step: int) -> dict[str, float]:
        """Each group's rate in the last phase that names it, else its base rate."""
        rates = dict(self.base_rates)
        for phase in self.phases(step):
            rates.update(phase.rates)
        return rates

    def frozen(self, step: int) -> frozenset[str]:
        """The groups that are not trainable in the last phase that names them."""
        trainable = dict.fromkeys(self.base_frozen, False)
        for phase in self.phases(step):
            trainable.update(phase.trainable)
        return frozenset(group for group, moves in trainable.items() if not moves)

    def augment_off(self, step: int) -> frozenset[str]:
        """What any phase so far has switched off."""
        return frozenset(name for phase in self.phases(step) for name in phase.augment_off)


SCHEDULES: dict[type[ScheduleConfig], type[Schedule]] = {
    ConstantConfig: Schedule,
    PlateauConfig: Plateau,
    StepsConfig: Steps,
    CosineConfig: Cosine,
    TableConfig: Table,
}


def make_schedule(
    config: ScheduleConfig,
    base_rates: Mapping[str, float],
    steps_per_epoch: int,
    total_steps: int,
    base_frozen: Collection[str] = (),
    freeze_until: str | None = None,
) -> Schedule:
    """The schedule that a config describes; the arguments are those of `Schedule`."""
    kind = SCHEDULES[type(config)]
    return kind(config, base_rates, steps_per_epoch, total_steps, base_frozen, freeze_until)
