"""Numbers and findings as text: the one place that rounds, for the page, the pictures and the terminal alike."""

import math

from alexnet_tf.studies.measures import SEEDS_FOR_A_VERDICT, Bound, Crossing, Ratio, Summary, Verdict, judge

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


def seconds(value: float) -> str:
    """Seconds: two decimals below 1, one below 100, integers above."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:,.{2 if abs(value) < 1 else 1 if abs(value) < 100 else 0}f}"


def crossing(value: Crossing | None, unit: str = "steps") -> str:
    """A crossing in steps or seconds; a censored one is '> 400'."""
    if value is None:
        return MISSING
    text = steps(value.value) if unit == "steps" else seconds(value.value)
    return f"> {text}" if value.censored and text != MISSING else text


def summary(value: Summary | None, unit: str = "steps") -> str:
    """'mean (min to max)' over seeds; one seed has no range."""
    if value is None:
        return MISSING
    mean = crossing(value.mean, unit)
    if value.n == 1 or mean == MISSING:
        return mean
    low, high = crossing(value.low, unit), crossing(value.high, unit)
    between = " to " if high.startswith(">") else "-"
    return mean if low == high else f"{mean} ({low}{between}{high})"


def ratio(value: Ratio) -> str:
    """'2.4x [1.9, 3.1]', '2.4x' without an interval, '> 2.4x' or '< 0.5x' for a bound."""
    if value.value is None:
        return "undetermined" if value.n else MISSING
    mark = {Bound.at_least: "> ", Bound.at_most: "< "}.get(value.bound, "")
    text = f"{mark}{significant(value.value)}x"
    if value.low is None or value.high is None:
        return text
    return f"{text} [{significant(value.low)}, {significant(value.high)}]"


def claimed(value: Ratio, claim: float | None) -> str:
    """The claimed number and, where there is an interval, whether it lies inside: '6x (outside)'."""
    if claim is None:
        return MISSING
    inside = value.contains(claim)
    return f"{claim:g}x" if inside is None else f"{claim:g}x ({'inside' if inside else 'outside'})"


def verdict(value: Ratio, claim: float | None) -> str:
    """The verdict, or why there is none."""
    if claim is None:
        return "no claim to judge"
    if value.n < SEEDS_FOR_A_VERDICT:
        return f"none (< {SEEDS_FOR_A_VERDICT} seeds)"
    found = judge(value, claim)
    return "no direction claimed" if found is Verdict.none else found.value


def seeds(count: int) -> str:
    """'1 seed', '3 seeds'."""
    return f"{count} seed{'' if count == 1 else 's'}"


def finding(arm: str, reference: str, threshold: float, value: Ratio, claim: float | None) -> str:
    """One comparison as a clause: the ratio, its interval, the claimed number and the verdict or why none is given."""
    goal = f"{threshold_text(threshold)} training error"
    if not value.n:
        return f"{arm} against {reference}: no seed has finished in both arms yet"
    if value.value is None:
        why = f"runs of both did not reach {goal}, or a number is missing or 0"
        text = f"{arm} against {reference}: undetermined ({why})"
    else:
        bound = {Bound.at_least: "at least ", Bound.at_most: "at most "}.get(value.bound, "")
        number = f"{bound}{ratio(value).lstrip('<> ')}"
        text = f"{arm} reaches {goal} {number} as fast as {reference}"
    inside = None if claim is None else value.contains(claim)
    size = "" if inside is None else f", {'inside' if inside else 'outside'} the interval"
    against = "" if claim is None else f" (claimed: {claim:g}x{size})"
    few = value.n < SEEDS_FOR_A_VERDICT
    end = f"no verdict below {SEEDS_FOR_A_VERDICT}" if few and claim is not None else verdict(value, claim)
    return f"{text}{against}: {seeds(value.n)}; {end}"
