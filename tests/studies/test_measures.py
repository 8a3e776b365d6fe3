import math

import pytest

from alexnet_tf.studies.measures import (
    Bound,
    Effect,
    Reading,
    Verdict,
    judge,
    mean_over_steps,
    paired_difference,
    paired_ratio,
    seconds_at,
    seeds_needed,
    summarize,
    time_to_error,
)


def reached(*values: float) -> dict[int, Reading]:
    return {seed: Reading(value, censored=False) for seed, value in enumerate(values)}


def test_crossing_is_interpolated():
    # From 40 % at 100 to 20 % at 200: 25 % lies three quarters of the way.
    assert time_to_error([0, 100, 200, 300], [0.9, 0.4, 0.2, 0.1], 0.25) == Reading(pytest.approx(175), False)


def test_first_crossing_counts_even_if_the_error_rises_again():
    assert time_to_error([0, 10, 20, 30], [0.5, 0.0, 0.5, 0.0], 0.25) == Reading(5.0, False)


def test_crossing_on_a_point_and_at_the_start():
    assert time_to_error([0, 10, 20], [0.5, 0.25, 0.3], 0.25) == Reading(10.0, False)
    assert time_to_error([20, 40], [0.2, 0.1], 0.25) == Reading(20.0, False)


def test_run_that_never_gets_there_is_censored_at_its_last_step():
    assert time_to_error([0, 100, 400], [0.9, 0.5, 0.2501], 0.25) == Reading(400.0, True)


def test_wrong_lengths():
    with pytest.raises(
        ValueError, match=r"Expected as many steps as errors, at least one\. Received 0 and 0"
    ):
        time_to_error([], [], 0.25)


def test_seconds_are_interpolated_from_zero():
    clock = ([100.0, 200.0], [10.0, 40.0])
    assert seconds_at(Reading(50, False), *clock) == Reading(5.0, False)
    assert seconds_at(Reading(150, False), *clock) == Reading(25.0, False)
    assert seconds_at(Reading(200, True), *clock) == Reading(40.0, True)
    assert seconds_at(Reading(0, False), [0.0, 10.0], [0.0, 1.0]) == Reading(0.0, False)


def test_constructed_factor_of_three():
    ratio = paired_ratio(reached(300, 600, 900), reached(100, 200, 300))
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((3, 3, 3))
    assert ratio.n == 3
    assert ratio.bound is Bound.exact


def test_interval_by_hand():
    # Log-ratios ln 2 and ln 8: mean ln 4, standard deviation ln 4 / sqrt 2, standard error ln 2 (n = 2);
    # Student's 97.5 % quantile with one degree of freedom is 12.7062.
    ratio = paired_ratio(reached(200, 800), reached(100, 100))
    half = 12.7062 * math.log(2)
    assert ratio.value == pytest.approx(4)
    assert ratio.low == pytest.approx(4 * math.exp(-half), rel=1e-4)
    assert ratio.high == pytest.approx(4 * math.exp(half), rel=1e-4)
    assert ratio.contains(6) is True


def test_only_shared_seeds_are_paired():
    ratio = paired_ratio(
        {0: Reading(20, False), 1: Reading(99, False)}, {0: Reading(10, False), 2: Reading(1, False)}
    )
    assert (ratio.value, ratio.low, ratio.high, ratio.n) == (pytest.approx(2), None, None, 1)
    assert ratio.contains(2) is None


def test_no_shared_seed():
    assert paired_ratio({0: Reading(1, False)}, {}) == Effect(None, None, None, (), Bound.undetermined, 0)


@pytest.mark.parametrize(
    ("top", "bottom", "bound", "value"),
    [
        (True, False, Bound.at_least, 3.0),
        (False, True, Bound.at_most, 3.0),
        (True, True, Bound.undetermined, None),
    ],
)
def test_censoring_makes_bounds_without_interval(top, bottom, bound, value):
    numerators = {0: Reading(300, top), 1: Reading(300, False)}
    denominators = {0: Reading(100, False), 1: Reading(100, bottom)}
    ratio = paired_ratio(numerators, denominators)
    assert ratio.bound is bound
    assert ratio.value == (value and pytest.approx(value))
    assert (ratio.low, ratio.high) == (None, None)


def test_crossing_at_zero_has_no_ratio():
    assert paired_ratio(reached(0), reached(10)).bound is Bound.undetermined


def test_summary_marks_what_censoring_touches():
    summary = summarize([Reading(100, False), Reading(200, False), Reading(400, True)])
    assert summary is not None
    assert (summary.n, summary.censored) == (3, 1)
    assert summary.mean == Reading(pytest.approx(700 / 3), True)
    assert summary.median == Reading(200, False)
    assert summary.low == Reading(100, False)
    assert summary.high == Reading(400, True)
    assert summarize([]) is None


def exact(low: float, high: float, n: int = 5) -> Effect:
    return Effect(math.sqrt(low * high), low, high, (1.0,) * n, Bound.exact, n)


@pytest.mark.parametrize(
    ("low", "high", "claim", "verdict"),
    [
        (1.5, 3, 6, Verdict.confirmed),
        (0.5, 0.9, 6, Verdict.contradicted),
        (0.9, 3, 6, Verdict.inconclusive),
        (0.5, 0.9, 0.5, Verdict.confirmed),
        (1.5, 3, 0.5, Verdict.contradicted),
        (1.5, 3, None, Verdict.none),
        (1.5, 3, 1, Verdict.none),
    ],
)
def test_verdict_of_an_interval(low, high, claim, verdict):
    assert judge(exact(low, high), claim) is verdict
    assert judge(exact(low, high, n=4), claim) is Verdict.none


@pytest.mark.parametrize(
    ("pairs", "bound", "verdict"),
    [
        ((2.0,) * 6, Bound.at_least, Verdict.confirmed),
        ((2.0,) * 5, Bound.at_least, Verdict.inconclusive),  # the sign test has p = 0.0625
        ((2.0,) * 5 + (0.9,), Bound.at_least, Verdict.inconclusive),
        ((2.0,) * 6, Bound.at_most, Verdict.inconclusive),
        ((0.5,) * 6, Bound.at_most, Verdict.contradicted),
        ((0.5,) * 6, Bound.at_least, Verdict.inconclusive),
    ],
)
def test_verdict_of_a_bound(pairs, bound, verdict):
    assert judge(Effect(1.0, None, None, pairs, bound, len(pairs)), 6.0) is verdict


def test_difference_by_hand():
    # Differences 1, 2, 3: mean 2, standard deviation 1, Student's 97.5 % quantile with 2 degrees of freedom 4.3027.
    effect = paired_difference({0: 11.0, 1: 22.0, 2: 33.0, 9: 1.0}, {0: 10.0, 1: 20.0, 2: 30.0, 8: 1.0})
    half = 4.3027 / math.sqrt(3)
    assert (effect.value, effect.n, effect.neutral) == (2.0, 3, 0.0)
    assert (effect.low, effect.high) == (pytest.approx(2 - half, rel=1e-4), pytest.approx(2 + half, rel=1e-4))
    assert paired_difference({0: math.nan}, {0: 1.0}).n == 0
    assert paired_difference({0: 3.0}, {0: 1.0}).low is None


def test_mean_over_steps_weighs_by_width():
    assert mean_over_steps([0, 10, 40], [1.0, 0.0, 0.0]) == pytest.approx(5 / 40)
    assert mean_over_steps([7], [0.3]) == 0.3
    assert math.isnan(mean_over_steps([], []))


def test_seeds_needed():
    sure = paired_difference(dict(enumerate([2.0, 2.1, 1.9, 2.0, 2.0])), dict.fromkeys(range(5), 0.0))
    assert seeds_needed(sure) == 5  # fewer would do, but give no verdict
    none = paired_difference(dict(enumerate([1.0, -1.0])), dict.fromkeys(range(2), 0.0))
    assert seeds_needed(none) is None
    # Log-ratios of mean ln 1.1 and standard deviation 0.2: t(19) 0.2 / sqrt(20) = 0.0936 < 0.0953 < 0.0964 of n = 19.
    spread = 0.2 * math.sqrt(3 / 4)
    tops = {s: 1.1 * math.exp(d) for s, d in enumerate([-spread, spread, -spread, spread])}
    ratio = paired_ratio({s: Reading(v) for s, v in tops.items()}, dict.fromkeys(range(4), Reading(1.0)))
    assert seeds_needed(ratio) == 20


def test_equality_of_ratios_has_a_margin_on_both_sides():
    inside = Effect(1.0, 0.92, 1.09, (1.0,) * 5, Bound.exact, 5)
    assert judge(inside, 1.0, margin=0.1) is Verdict.confirmed
    assert judge(inside, 1.0, margin=0.05) is Verdict.inconclusive
    assert judge(Effect(2.0, 1.8, 2.2, (2.0,) * 5, Bound.exact, 5), 1.0, margin=0.1) is Verdict.contradicted
