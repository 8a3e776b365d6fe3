"""What is measured on a run, and how runs over seeds become one number with an interval. Imports no TensorFlow."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

SEEDS_FOR_A_VERDICT = 5
"""Below so many seeds a comparison is reported without a verdict."""
CONFIDENCE = 0.95
"""Of every interval; a sign test without interval uses 1 - CONFIDENCE as its level."""

RULE = (
    f"A verdict needs at least {SEEDS_FOR_A_VERDICT} seeds that both arms finished. The ratio is the geometric mean "
    "over these seeds, the interval is the 95 % t interval of the mean log-ratio. Confirmed: the interval lies "
    "wholly on the claimed side of 1; contradicted: wholly on the other side; else inconclusive. A run that never "
    "reaches the threshold counts as censored at its last iteration: the ratio is then only a bound without an "
    "interval, and a verdict needs every seed on the same side of 1 in a sign test at 5 % (six seeds or more)."
)
"""The rule for verdicts in words; every report prints it."""


@dataclass(frozen=True)
class Crossing:
    """Where a run reached the threshold.

    Args:
        value: Steps or seconds; for a censored run its last step or second, below which the truth cannot lie.
        censored: Whether the run never reached the threshold.
    """

    value: float
    censored: bool


class Bound(StrEnum):
    """What a number that may rest on censored runs says about the truth."""

    exact = "exact"
    at_least = "at_least"
    at_most = "at_most"
    undetermined = "undetermined"


@dataclass(frozen=True)
class Ratio:
    """The ratio reference / arm over paired seeds: how many times faster `arm` is.

    Args:
        value: The geometric mean of the pairs' ratios; None where nothing can be said.
        low: Lower end of the interval; None without one (one pair, or a bound).
        high: Upper end.
        pairs: Each shared seed's own ratio; a bound for a censored pair; empty where nothing can be said.
        bound: Whether `value` is the ratio itself or only a bound for it.
    """

    value: float | None
    low: float | None
    high: float | None
    pairs: tuple[float, ...]
    bound: Bound
    n: int
    """Seeds that both arms have."""

    def contains(self, claim: float) -> bool | None:
        """Whether the interval holds `claim`; None without an interval."""
        return None if self.low is None or self.high is None else self.low <= claim <= self.high


@dataclass(frozen=True)
class Summary:
    """One arm's crossings over its seeds; with censored ones `mean` and `high` (and `median` if marked) are lower bounds."""

    n: int
    censored: int
    mean: Crossing
    median: Crossing
    low: Crossing
    high: Crossing


class Verdict(StrEnum):
    """What the rule says about a claim."""

    confirmed = "confirmed"
    contradicted = "contradicted"
    inconclusive = "inconclusive"
    none = "no verdict"


def crossing_index(errors: Sequence[float], threshold: float) -> int | None:
    """The index of the first error at or below `threshold` (all fractions); None if there is none."""
    return next((index for index, error in enumerate(errors) if error <= threshold), None)


def time_to_error(steps: Sequence[float], errors: Sequence[float], threshold: float) -> Crossing:
    """The step at which the error first comes down to the threshold, linearly interpolated.

    Between the last point (s0, e0) above and the first (s1, e1) at or below the threshold t the crossing is
    s0 + (s1 - s0) (e0 - t) / (e0 - e1). A run that starts below has its first step as crossing.

    Args:
        steps: Steps of the probe, ascending.
        errors: The probe's error at these steps, a fraction (0-1).
        threshold: A fraction (0-1).

    Returns:
        The crossing in steps, censored at the last step if the error never comes down to the threshold.

    Raises:
        ValueError: If the lengths differ or there is no point.
    """
    if len(steps) != len(errors) or not len(steps):
        raise ValueError(
            f"Expected as many steps as errors, at least one. Received {len(steps)} and {len(errors)}."
        )
    steps, errors = list(steps), list(errors)  # a pandas column is indexed by label, not by place
    index = crossing_index(errors, threshold)
    if index is None:
        return Crossing(float(steps[-1]), censored=True)
    if index == 0:
        return Crossing(float(steps[0]), censored=False)
    before, after = errors[index - 1], errors[index]
    share = (before - threshold) / (before - after)
    return Crossing(float(steps[index - 1] + share * (steps[index] - steps[index - 1])), censored=False)


def seconds_at(crossing: Crossing, steps: Sequence[float], seconds: Sequence[float]) -> Crossing:
    """A crossing in steps as one in seconds of training, linear between the measured points and from (0, 0).

    Args:
        crossing: In steps.
        steps: Steps at which the clock was read, ascending.
        seconds: The training time so far at these steps.
    """
    last_step, last_second = 0.0, 0.0
    for step, second in zip(steps, seconds, strict=True):
        if step >= crossing.value:
            width = step - last_step
            share = (crossing.value - last_step) / width if width > 0 else 1.0
            return Crossing(float(last_second + share * (second - last_second)), crossing.censored)
        last_step, last_second = step, second
    return Crossing(float(last_second), crossing.censored)


def paired_ratio(numerators: Mapping[int, Crossing], denominators: Mapping[int, Crossing]) -> Ratio:
    """The ratio of two arms over the seeds they share, exp(mean of log(numerator / denominator)).

    The interval is exp(mean +- t s / sqrt(n)), s the standard deviation of the n log-ratios (n - 1 in its
    denominator) and t the quantile of Student's distribution with n - 1 degrees of freedom.

    Args:
        numerators: The reference arm's crossing for each seed.
        denominators: The arm's crossing for each seed.

    Returns:
        With a censored numerator a lower bound, with a censored denominator an upper bound, with both (in any
        seeds), without a shared seed, or with a crossing at 0, undetermined. Bounds have no interval.
    """
    seeds = sorted(numerators.keys() & denominators.keys())
    top, bottom = [numerators[seed] for seed in seeds], [denominators[seed] for seed in seeds]
    bound = _bound(any(value.censored for value in top), any(value.censored for value in bottom))
    positive = all(value.value > 0 for value in (*top, *bottom))
    if not seeds or not positive or bound is Bound.undetermined:
        return Ratio(None, None, None, (), Bound.undetermined, len(seeds))
    logs = [math.log(a.value / b.value) for a, b in zip(top, bottom, strict=True)]
    mean = statistics.fmean(logs)
    pairs = tuple(math.exp(value) for value in logs)
    if len(seeds) == 1 or bound is not Bound.exact:
        return Ratio(math.exp(mean), None, None, pairs, bound, len(seeds))
    half = t_half_width(logs)
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half), pairs, bound, len(seeds))


def t_half_width(values: Sequence[float]) -> float:
    """Half the width of the t interval of the mean of at least two values."""
    from scipy import stats  # slow to import, and only intervals need it

    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def summarize(crossings: Iterable[Crossing]) -> Summary | None:
    """Mean, median and range over seeds; None without any.

    Censored runs enter the mean at their last value, which makes it a lower bound; they rank behind all others
    for the median and the maximum.
    """
    ordered = sorted(crossings, key=lambda crossing: (crossing.censored, crossing.value))
    if not ordered:
        return None
    n, censored = len(ordered), sum(crossing.censored for crossing in ordered)
    middle = ordered[(n - 1) // 2 : n // 2 + 1]
    return Summary(
        n=n,
        censored=censored,
        mean=_mean(ordered),
        median=_mean(middle),
        low=min(ordered, key=lambda crossing: (crossing.value, not crossing.censored)),
        high=Crossing(max(crossing.value for crossing in ordered), censored > 0),
    )


def judge(ratio: Ratio, claim: float | None) -> Verdict:
    """The verdict on a claimed ratio by `RULE`; a claim of exactly 1 has no side and gets none."""
    if claim is None or claim == 1 or ratio.n < SEEDS_FOR_A_VERDICT:
        return Verdict.none
    side = _side(ratio)
    if side == 0:
        return Verdict.inconclusive
    return Verdict.confirmed if (side > 0) == (claim > 1) else Verdict.contradicted


def _side(ratio: Ratio) -> int:
    """1 where the evidence lies wholly above 1, -1 wholly below, 0 otherwise."""
    if ratio.low is not None and ratio.high is not None:
        return 1 if ratio.low > 1 else -1 if ratio.high < 1 else 0
    if not ratio.pairs or 2 * 0.5**ratio.n > 1 - CONFIDENCE:  # the two-sided sign test, all seeds on one side
        return 0
    # A lower bound can only show that a ratio is above 1, an upper bound only that it is below.
    if ratio.bound is Bound.at_least and min(ratio.pairs) > 1:
        return 1
    return -1 if ratio.bound is Bound.at_most and max(ratio.pairs) < 1 else 0


def _bound(numerator_censored: bool, denominator_censored: bool) -> Bound:
    if numerator_censored and denominator_censored:
        return Bound.undetermined
    if numerator_censored:
        return Bound.at_least
    return Bound.at_most if denominator_censored else Bound.exact


def _mean(crossings: Sequence[Crossing]) -> Crossing:
    mean = statistics.fmean(crossing.value for crossing in crossings)
    return Crossing(mean, any(crossing.censored for crossing in crossings))
