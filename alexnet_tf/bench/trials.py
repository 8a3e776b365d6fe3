"""Trials in turns: every contender runs once in each round, so that what disturbs the machine disturbs all of them."""

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alexnet_tf.bench.contender import Contender
from alexnet_tf.bench.process import BenchError, Process

Told = Callable[[int, int], None]
"""Hears (turns done, turns in all)."""


@dataclass
class Measurement:
    """What one contender did.

    Attributes:
        contender: Who.
        seconds: Of one repetition, a value for each round.
        work: See `Subject`.
        items: See `Subject`.
        peak_bytes: The most memory that its process had.
        facts: See `Subject`.
        failure: Why there is nothing, or nothing more; empty: there is all of it.
    """

    contender: Contender
    seconds: list[float] = field(default_factory=list)
    work: float = 0.0
    items: float = 0.0
    peak_bytes: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    failure: str = ""

    @property
    def median(self) -> float:
        """Seconds of a repetition."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the range of the middle half of the rounds, as a fraction of the median."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / 2 / self.median


def ratios(numerator: Measurement, denominator: Measurement) -> list[float]:
    """The quotient of two contenders' seconds in each round that both finished."""
    pairs = zip(numerator.seconds, denominator.seconds, strict=False)
    return [first / second for first, second in pairs]


def run_trials(
    contenders: Sequence[Contender],
    *,
    rounds: int,
    seconds: float,
    told: Told = lambda *_: None,
    profile: Path | None = None,
) -> list[Measurement]:
    """Run every contender in turn, `rounds` times.

    Args:
        contenders: Who; one that cannot be run is a row with a reason, and the others go on.
        rounds: Trials of each.
        seconds: How long a trial lasts at least.
        told: Hears of the progress.
        profile: A folder for a TensorBoard trace of ours, after the trials.

    Returns:
        A measurement for each contender, in their order.
    """
    measurements = [Measurement(contender, failure=contender.missing()) for contender in contenders]
    entered = [each for each in measurements if not each.failure]
    turns, done = len(entered) * (rounds + 1), 0
    processes: dict[str, Process] = {}
    try:
        for each in entered:
            told(done, turns)
            try:
                process = processes[each.contender.name] = Process(each.contender, seconds)
            except BenchError as error:
                each.failure = str(error)
            else:
                each.work, each.items, each.facts = process.work, process.items, process.facts
            done += 1
        for number in range(rounds):
            # Each round has an order of its own: none always follows the same one.
            for each in random.Random(number).sample(entered, len(entered)):
                told(done, turns)
                if not each.failure:
                    _take_turn(processes[each.contender.name], each)
                done += 1
        told(turns, turns)
        if profile is not None:
            _profile(processes, entered, profile)
    finally:
        for process in processes.values():
            process.close()
    return measurements


def _take_turn(process: Process, measurement: Measurement) -> None:
    try:
        once, measurement.peak_bytes = process.trial()
        measurement.seconds.append(once)
    except BenchError as error:
        measurement.failure = str(error)


def _profile(processes: dict[str, Process], entered: Sequence[Measurement], folder: Path) -> None:
    for each in entered:
        if each.contender.role == "ours" and not each.failure:
            processes[each.contender.name].profile(folder)
