"""Numbers and findings as text: the one place that rounds, for the page, the pictures and the terminal alike."""

import math
from dataclasses import replace

from alexnet_tf.config.schema import Metric
from alexnet_tf.studies.measures import (
    MOST_SEEDS,
    SEEDS_FOR_A_VERDICT,
    Bound,
    Effect,
    Reading,
    Summary,
    Verdict,
    seeds_needed,
)
from alexnet_tf.studies.results import Measure
from alexnet_tf.studies.study import SMOKE, Comparison, ComparisonSpec

MISSING = "-"
"""Stands in a table where there is no number."""


def significant(value: float, digits: int = 2) -> str:
    """`value` with so many significant digits, never in scientific notation: 2.4, 0.38, 120."""
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, decimals):,.{max(decimals, 0)}f}"


def percent(fraction: float | None, decimals: int = 1) -> str:
    """A fraction as per cent: 0.25 is '25.0 %'."""
    return MISSING if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.{decimals}f} %"


def threshold_text(fraction: float) -> str:
    """A threshold as people write it: 0.25 is '25 %', 0.125 is '12.5 %'."""
    return f"{100 * fraction:g} %"


def steps(value: float) -> str:
    """Iterations as an integer with thousands separators."""
    return f"{value:,.0f}" if math.isfinite(value) else MISSING


def seconds_text(value: float) -> str:
    """Seconds: two decimals below 1, one below 100, integers above."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:,.{2 if abs(value) < 1 else 1 if abs(value) < 100 else 0}f}"


def reading(value: Reading | None, unit: str = "steps") -> str:
    """A reading in steps, seconds or per cent; a censored one is '> 400'."""
    if value is None:
        return MISSING
    text = UNITS[unit](value.value)
    return f"> {text}" if value.censored and text != MISSING else text


def unit_of(measure: Measure) -> str:
    """The unit of a measure's readings, as `reading` takes it."""
    return "steps" if measure.is_time else "percent"


def summary(value: Summary | None, unit: str = "steps") -> str:
    """'mean (min to max)' over seeds; one seed has no range, and a low end below 0 gets 'to' too."""
    if value is None:
        return MISSING
    mean = reading(value.mean, unit)
    if value.n == 1 or mean == MISSING:
        return mean
    low, high = reading(value.low, unit), reading(value.high, unit)
    between = " to " if high.startswith(">") or "-" in low + high else "-"
    return mean if low == high else f"{mean} ({low}{between}{high})"


def counted(count: int, noun: str) -> str:
    """'1 seed', '3 seeds'."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def capitalized(text: str) -> str:
    """A text as the beginning of a sentence or a heading; the rest stays as it is."""
    return text[:1].upper() + text[1:]


def error_name(split: str) -> str:
    """A split's error as readers call it; the probe is a part of the training images."""
    return {"probe": "training error", "train": "running training error"}.get(split, f"{split} error")


def measure_name(measure: Measure) -> str:
    """A measure as the heading of a column: 'iterations to 25 % training error'."""
    error = error_name(measure.split)
    if measure.views:
        return f"{error} over {counted(measure.views, 'view')}"
    return {
        Metric.time_to_error: f"iterations to {threshold_text(measure.threshold)} {error}",
        Metric.error: f"{error} at the end",
        Metric.best_error: f"lowest {error}",
        Metric.gap: f"validation error less {error} at the end",
        Metric.area: f"mean {error} over the run",
    }[measure.metric]


def effect(value: Effect) -> str:
    """'2.4x [1.9, 3.1]', '-0.80 points [-1.3, -0.30]', '2.4x' without an interval, '> 2.4x' for a bound."""
    if value.value is None:
        return "undetermined" if value.n else MISSING
    mark = {Bound.at_least: "> ", Bound.at_most: "< "}.get(value.bound, "")
    text = f"{mark}{size(value, value.value)}"
    if value.low is None or value.high is None:
        return text
    ends = [significant(end) if value.is_ratio else f"{end:+.2f}" for end in (value.low, value.high)]
    return f"{text} [{', '.join(ends)}]"


def size(value: Effect, number: float) -> str:
    """A number in an effect's unit: '2.4x' or '-0.80 points'."""
    return f"{significant(number)}x" if value.is_ratio else f"{number:+.2f} points"


def claim_of(item: ComparisonSpec) -> str:
    """What a source claims: '6x', '-1.4 points', 'lower', 'no effect within 0.5 points'; empty: nothing."""
    ratio = item.measure.is_time
    if item.margin is not None:
        return f"no effect within {f'{100 * item.margin:g} %' if ratio else f'{item.margin:g} points'}"
    if item.claim is not None:
        return f"{item.claim:g}x" if ratio else f"{item.claim:+g} points"
    words = ("faster", "slower") if ratio else ("higher", "lower")
    return {1: words[0], -1: words[1]}.get(item.direction, "")


def claimed(item: Comparison) -> str:
    """The claim and, where there are a number and an interval, whether it lies inside: '6x (outside)'."""
    text = claim_of(item)
    inside = _inside(item)
    return f"{text} ({'inside' if inside else 'outside'})" if text and inside is not None else text or MISSING


def _inside(item: Comparison) -> bool | None:
    """Whether the claimed number lies in the interval; None without either, or where it is that of no effect."""
    return None if item.claim is None or item.margin is not None else item.effect.contains(item.claim)


def verdict(item: Comparison) -> str:
    """The verdict, or why there is none."""
    if not claim_of(item):
        return "no claim to judge"
    if item.scale == SMOKE:
        return "no verdict at smoke scale"
    if item.effect.n < SEEDS_FOR_A_VERDICT:
        return f"none (< {SEEDS_FOR_A_VERDICT} seeds)"
    found = item.verdict
    if found is Verdict.none:
        return "no direction claimed"
    if found is Verdict.inconclusive and item.margin is None and item.effect.low is not None:
        needed = seeds_needed(item.effect)
        return f"inconclusive: {f'about {needed}' if needed else f'more than {MOST_SEEDS:,}'} seeds needed"
    return found.value


def sides(item: ComparisonSpec) -> tuple[str, str]:
    """What is compared: the arms, with the views or the averaging that make the difference."""
    if item.average > 1:
        return f"the average of {item.average} runs of {item.arm}", "one of them"
    if not _views_differ(item):
        return item.arm, item.reference
    return (
        f"{item.arm} over {counted(item.measure.views, 'view')}",
        f"{item.reference} over {counted(item.reference_measure.views, 'view')}",
    )


def sides_text(item: ComparisonSpec) -> str:
    """'net over 10 views against net over 1 view'."""
    return " against ".join(sides(item))


def compared(item: ComparisonSpec) -> str:
    """By what they are compared; where views differ, `sides` tells them."""
    return measure_name(replace(item.measure, views=0) if _views_differ(item) else item.measure)


def _views_differ(item: ComparisonSpec) -> bool:
    return item.average == 1 and item.measure.views != item.reference_measure.views


def finding(item: Comparison) -> str:
    """One comparison as a sentence: the effect, its interval, the claim and the verdict or why none is given."""
    value = item.effect
    if not value.n:
        return f"{sides_text(item)}: no seed has finished in both arms yet"
    text = _time_finding(item) if item.measure.is_time else _difference_finding(item)
    claim = claim_of(item)
    inside = _inside(item)
    where = "" if inside is None else f", {'inside' if inside else 'outside'} the interval"
    against = f" (claimed: {claim}{where})" if claim else ""
    few = value.n < SEEDS_FOR_A_VERDICT and item.scale != SMOKE
    end = f"no verdict below {SEEDS_FOR_A_VERDICT}" if few and claim else verdict(item)
    return f"{text}{against}: {counted(value.n, 'seed')}; {end}"


def _time_finding(item: Comparison) -> str:
    goal = f"{threshold_text(item.measure.threshold)} {error_name(item.measure.split)}"
    if item.effect.value is None:
        why = f"runs of both did not reach {goal}, or a number is missing or 0"
        return f"{item.arm} against {item.reference}: undetermined ({why})"
    bound = {Bound.at_least: "at least ", Bound.at_most: "at most "}.get(item.effect.bound, "")
    number = f"{bound}{effect(item.effect).lstrip('<> ')}"
    return f"{item.arm} reaches {goal} {number} as fast as {item.reference}"


def _difference_finding(item: Comparison) -> str:
    return f"{capitalized(compared(item))} of {sides_text(item)}: {effect(item.effect)}"


UNITS = {"steps": steps, "seconds": seconds_text, "percent": lambda value: percent(value / 100)}
"""How a reading is written, by its unit."""
