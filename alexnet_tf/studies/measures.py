"""What is measured on a run, and how runs over seeds become one number with an interval. Imports no TensorFlow."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

SEEDS_FOR_A_VERDICT = 5
"""Below so many seeds a comparison is reported without a verdict."""
MOST_SEEDS = 1000
"""An estimate of how many seeds would be needed ends here: nobody trains more."""
CONFIDENCE = 0.95
"""Of every interval; a sign test without interval uses 1 - CONFIDENCE as its level."""

RULE = (
    f"A verdict needs at least {SEEDS_FOR_A_VERDICT} seeds that both arms finished; arms share their seeds, so the "
    "effect is the mean over pairs, of differences in percentage points (no effect: 0) or of the logarithms of "
    "ratios (no effect: 1), with its 95 % t interval. Confirmed: the interval lies wholly on the claimed side of no "
    "effect; contradicted: wholly on the other side; else inconclusive, with the number of seeds that would be needed "
    "if the mean and the spread stayed as they are. A claim of no effect is confirmed by an interval wholly within "
    "the stated margin and contradicted by one wholly outside. A run that never reaches the threshold counts as "
    "censored at its last iteration: the ratio is then only a bound without an interval, and a verdict needs every "
    "seed on the same side of 1 in a sign test at 5 % (six seeds or more). Smoke scale never gives a verdict."
)
"""The rule for verdicts in words; every report prints it."""


@dataclass(frozen=True)
class Reading:
    """What was measured on a run.

    Args:
        value: Steps or seconds to the threshold, or per cent; for a censored run its last step or second, below which
            the truth cannot lie.
        censored: Whether the run never reached the threshold.
    """

    value: float
    censored: bool = False


class Bound(StrEnum):
    """What a number that may rest on censored runs says about the truth."""

    exact = "exact"
    at_least = "at_least"
    at_most = "at_most"
    undetermined = "undetermined"


@dataclass(frozen=True)
class Effect:
    """How far an arm lies from its reference over paired seeds: a ratio or a difference.

    Args:
        value: For ratios the geometric mean of reference / arm (how many times faster `arm` is), for differences
            the mean of arm - reference; None where nothing can be said.
        low: Lower end of the interval; None without one (one pair, or a bound).
        high: Upper end.
        pairs: Each shared seed's own effect; a bound for a censored pair; empty where nothing can be said.
        bound: Whether `value` is the effect itself or only a bound for it.
        n: Seeds that both arms have.
        neutral: The value that means no effect: 1 for ratios, 0 for differences.
    """

    value: float | None
    low: float | None
    high: float | None
    pairs: tuple[float, ...]
    bound: Bound
    n: int
    neutral: float = 1.0

    @property
    def is_ratio(self) -> bool:
        """Whether it is a ratio and not a difference."""
        return self.neutral == 1.0

    def contains(self, claim: float) -> bool | None:
        """Whether the interval holds `claim`; None without an interval."""
        return None if self.low is None or self.high is None else self.low <= claim <= self.high


@dataclass(frozen=True)
class Summary:
    """One arm's crossings over its seeds; with censored ones `mean` and `high` (and `median` if marked) are lower bounds."""

    n: int
    censored: int
    mean: Reading
    median: Reading
    low: Reading
    high: Reading


class Verdict(StrEnum):
    """What the rule says about a claim."""

    confirmed = "confirmed"
    contradicted = "contradicted"
    inconclusive = "inconclusive"
    none = "no verdict"


def crossing_index(errors: Sequence[float], threshold: float) -> int | None:
    """The index of the first error at or below `threshold` (all fractions); None if there is none."""
    return next((index for index, error in enumerate(errors) if error <= threshold), None)


def time_to_error(steps: Sequence[float], errors: Sequence[float], threshold: float) -> Reading:
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
        return Reading(float(steps[-1]), censored=True)
    if index == 0:
        return Reading(float(steps[0]), censored=False)
    before, after = errors[index - 1], errors[index]
    share = (before - threshold) / (before - after)
    return Reading(float(steps[index - 1] + share * (steps[index] - steps[index - 1])), censored=False)


def seconds_at(crossing: Reading, steps: Sequence[float], seconds: Sequence[float]) -> Reading:
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
            return Reading(float(last_second + share * (second - last_second)), crossing.censored)
        last_step, last_second = step, second
    return Reading(float(last_second), crossing.censored)


def paired_ratio(numerators: Mapping[int, Reading], denominators: Mapping[int, Reading]) -> Effect:
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
        return Effect(None, None, None, (), Bound.undetermined, len(seeds))
    logs = [math.log(a.value / b.value) for a, b in zip(top, bottom, strict=True)]
    mean = statistics.fmean(logs)
    pairs = tuple(math.exp(value) for value in logs)
    if len(seeds) == 1 or bound is not Bound.exact:
        return Effect(math.exp(mean), None, None, pairs, bound, len(seeds))
    half = t_half_width(logs)
    return Effect(math.exp(mean), math.exp(mean - half), math.exp(mean + half), pairs, bound, len(seeds))


def paired_difference(minuends: Mapping[int, float], subtrahends: Mapping[int, float]) -> Effect:
    """The difference of two arms over the seeds they share, with its t interval, mean +- t s / sqrt(n).

    Args:
        minuends: The arm's number for each seed.
        subtrahends: The reference's. A seed with a NaN in either does not count.
    """
    shared = minuends.keys() & subtrahends.keys()
    found = {seed: minuends[seed] - subtrahends[seed] for seed in sorted(shared)}
    pairs = tuple(value for value in found.values() if math.isfinite(value))
    n = len(pairs)
    if not pairs:
        return Effect(None, None, None, (), Bound.undetermined, 0, neutral=0.0)
    mean = statistics.fmean(pairs)
    half = t_half_width(pairs) if n > 1 else math.nan
    low, high = (mean - half, mean + half) if n > 1 else (None, None)
    return Effect(mean, low, high, pairs, Bound.exact, n, neutral=0.0)


def mean_over_steps(steps: Sequence[float], values: Sequence[float]) -> float:
    """The mean height of a curve, by trapezoids between the first and the last step; NaN without any point."""
    if not len(steps):
        return math.nan
    steps, values = list(steps), list(values)
    width = steps[-1] - steps[0]
    if width == 0:
        return float(values[-1])
    pieces = zip(steps, steps[1:], values, values[1:], strict=False)
    return float(sum((s1 - s0) * (v0 + v1) / 2 for s0, s1, v0, v1 in pieces) / width)


def t_half_width(values: Sequence[float]) -> float:
    """Half the width of the t interval of the mean of at least two values."""
    from scipy import stats  # slow to import, and only intervals need it

    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def summarize(crossings: Iterable[Reading]) -> Summary | None:
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
        high=Reading(max(crossing.value for crossing in ordered), censored > 0),
    )


def judge(effect: Effect, claim: float | None, direction: int = 0, margin: float | None = None) -> Verdict:
    """The verdict on a claim by `RULE`.

    Args:
        effect: What was measured.
        claim: The claimed size, in the effect's unit; None: none was given.
        direction: The claimed side of no effect, where there is no number: 1 above, -1 below.
        margin: For a claim of no effect, the largest distance from it that would still count as none.
    """
    if effect.n < SEEDS_FOR_A_VERDICT:
        return Verdict.none
    if margin is not None:
        return _judge_equality(effect, margin)
    claimed = _claimed_side(effect, claim, direction)
    if claimed == 0:
        return Verdict.none
    side = _side(effect)
    if side == 0:
        return Verdict.inconclusive
    return Verdict.confirmed if side == claimed else Verdict.contradicted


def _claimed_side(effect: Effect, claim: float | None, direction: int = 0) -> int:
    """The side of no effect, 1 or -1, on which a claim lies; 0: it has none."""
    if claim is None or claim == effect.neutral:
        return direction
    return 1 if claim > effect.neutral else -1


def seeds_needed(effect: Effect, most: int = MOST_SEEDS) -> int | None:
    """The seeds with which the interval would just not hold no effect any more, if mean and spread stayed as they are.

    The smallest n with t(n - 1) s / sqrt(n) < |mean|, both of logarithms for ratios.

    Returns:
        None where there is no interval to judge by, or more than `most` are needed.
    """
    if effect.low is None or len(effect.pairs) < 2:
        return None
    from scipy import stats  # slow to import, and only intervals need it

    values = [math.log(pair) for pair in effect.pairs] if effect.is_ratio else list(effect.pairs)
    mean, spread = abs(statistics.fmean(values)), statistics.stdev(values)
    for n in range(2, most + 1):
        if float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * spread / math.sqrt(n) < mean:
            return max(n, SEEDS_FOR_A_VERDICT)
    return None


def _judge_equality(effect: Effect, margin: float) -> Verdict:
    if effect.low is None or effect.high is None:
        return Verdict.inconclusive
    lowest, highest = (
        (1 / (1 + margin), 1 + margin)
        if effect.is_ratio
        else (effect.neutral - margin, effect.neutral + margin)
    )
    if lowest <= effect.low and effect.high <= highest:
        return Verdict.confirmed
    outside = effect.low > highest or effect.high < lowest
    return Verdict.contradicted if outside else Verdict.inconclusive


def _side(effect: Effect) -> int:
    """1 where the evidence lies wholly above no effect, -1 wholly below, 0 otherwise."""
    if effect.low is not None and effect.high is not None:
        return 1 if effect.low > effect.neutral else -1 if effect.high < effect.neutral else 0
    # Without an interval the two-sided sign test, all seeds on one side.
    if not effect.pairs or 2 * 0.5**effect.n > 1 - CONFIDENCE:
        return 0
    # A lower bound can only show that a ratio is above 1, an upper bound only that it is below.
    if effect.bound is Bound.at_least and min(effect.pairs) > 1:
        return 1
    return -1 if effect.bound is Bound.at_most and max(effect.pairs) < 1 else 0


def _bound(numerator_censored: bool, denominator_censored: bool) -> Bound:
    if numerator_censored and denominator_censored:
        return Bound.undetermined
    if numerator_censored:
        return Bound.at_least
    return Bound.at_most if denominator_censored else Bound.exact


def _mean(crossings: Sequence[Reading]) -> Reading:
    mean = statistics.fmean(crossing.value for crossing in crossings)
    return Reading(mean, any(crossing.censored for crossing in crossings))
