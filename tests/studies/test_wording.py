import math
from dataclasses import replace

import pytest

from alexnet_tf.config.schema import Metric
from alexnet_tf.studies import wording
from alexnet_tf.studies.measures import Bound, Effect, Reading, summarize
from alexnet_tf.studies.results import Measure
from alexnet_tf.studies.study import Comparison


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.44, "2.4"),
        (0.384, "0.38"),
        (9.96, "10.0"),
        (123.0, "120"),
        (12345, "12,000"),
        (0, "0"),
        (math.nan, "-"),
    ],
)
def test_significant(value, text):
    assert wording.significant(value) == text


def test_crossings():
    assert wording.reading(Reading(1234.4, False)) == "1,234"
    assert wording.reading(Reading(400, True)) == "> 400"
    assert wording.reading(Reading(12.34, False), "seconds") == "12.3"
    assert wording.reading(Reading(math.nan, True), "seconds") == "-"
    assert wording.reading(None) == "-"


def test_summaries():
    assert wording.summary(summarize([Reading(100, False), Reading(200, False)])) == "150 (100-200)"
    assert wording.summary(summarize([Reading(100, False), Reading(200, True)])) == "> 150 (100 to > 200)"
    assert wording.summary(summarize([Reading(200, True), Reading(200, True)])) == "> 200"
    assert wording.summary(summarize([Reading(7, False)])) == "7"


def test_ratios():
    assert wording.effect(Effect(2.41, 1.88, 3.1, (2.0, 3.0), Bound.exact, 2)) == "2.4x [1.9, 3.1]"
    assert wording.effect(Effect(2.41, None, None, (2.41,), Bound.exact, 1)) == "2.4x"
    assert wording.effect(Effect(2.41, None, None, (2.41,), Bound.at_least, 1)) == "> 2.4x"
    assert wording.effect(Effect(0.5, None, None, (0.5,), Bound.at_most, 1)) == "< 0.50x"
    assert wording.effect(Effect(None, None, None, (), Bound.undetermined, 2)) == "undetermined"


def comparison(effect: Effect, claim: float | None = None, **changes) -> Comparison:
    race = Measure(Metric.time_to_error, "probe", 0.25)
    values = {"measure": race, "direction": 0, "margin": None, "seconds": None, "average": 1, **changes}
    values.setdefault("reference_measure", values["measure"])
    return Comparison(name="c", arm="relu", reference="tanh", claim=claim, effect=effect, **values)


def lower(*ends: float, n: int = 5) -> Effect:
    value, low, high = ends
    return Effect(value, low, high, (low, value, high, value, value)[:n], Bound.exact, n, neutral=0.0)


ERROR = Measure(Metric.error, "validation", math.nan)


def test_finding_never_gives_a_verdict_below_five_seeds():
    few = Effect(2.4, 1.9, 3.1, (2.4,) * 3, Bound.exact, 3)
    assert wording.finding(comparison(few, 6.0)) == (
        "relu reaches 25 % training error 2.4x [1.9, 3.1] as fast as tanh (claimed: 6x, outside the interval): "
        "3 seeds; no verdict below 5"
    )
    enough = Effect(2.4, 1.9, 3.1, (2.4,) * 5, Bound.exact, 5)
    assert wording.finding(comparison(enough, 6.0)).endswith("5 seeds; confirmed")


def test_finding_of_bounds_and_of_nothing():
    bound = Effect(3.0, None, None, (3.0,), Bound.at_least, 1)
    assert "at least 3.0x as fast as tanh (claimed: 6x): 1 seed;" in wording.finding(comparison(bound, 6.0))
    nothing = Effect(None, None, None, (), Bound.undetermined, 0)
    found = wording.finding(comparison(nothing, 6.0))
    assert found == "relu against tanh: no seed has finished in both arms yet"
    assert "undetermined" in wording.finding(
        comparison(Effect(None, None, None, (), Bound.undetermined, 2), 6.0)
    )


def test_differences_in_points():
    item = comparison(lower(-0.8, -1.3, -0.3), -1.4, measure=ERROR)
    assert wording.finding(item) == (
        "Validation error at the end of relu against tanh: -0.80 points [-1.30, -0.30] (claimed: -1.4 points, "
        "outside the interval): 5 seeds; confirmed"
    )
    assert wording.claimed(comparison(lower(-0.8, -1.9, 0.3), -1.4, measure=ERROR)) == "-1.4 points (inside)"
    assert wording.verdict(comparison(lower(0.8, 0.3, 1.3), -1.4, measure=ERROR)) == "contradicted"
    assert wording.claimed(comparison(lower(0.8, 0.3, 1.3), direction=-1, measure=ERROR)) == "lower"
    assert wording.verdict(comparison(lower(0.8, 0.3, 1.3), measure=ERROR)) == "no claim to judge"


def test_inconclusive_says_how_many_seeds_would_do():
    spread = Effect(-0.5, -1.7, 0.7, (-1.5, 0.5, -1.5, 0.5, -0.5), Bound.exact, 5, neutral=0.0)
    # s = 1: t(n - 1) / sqrt(n) first falls below 0.5 at n = 18 (2.110 / 4.243 = 0.497).
    assert wording.verdict(comparison(spread, -1.4, measure=ERROR)) == "inconclusive: about 18 seeds needed"


def test_so_many_seeds_that_nobody_trains_them_are_not_counted():
    tiny = Effect(-0.001, -1.2, 1.2, (-1.001, 0.999, -1.001, 0.999, -0.001), Bound.exact, 5, neutral=0.0)
    expected = "inconclusive: more than 1,000 seeds needed"
    assert wording.verdict(comparison(tiny, -1.4, measure=ERROR)) == expected
    none = Effect(0.0, -1.2, 1.2, (-1.0, 1.0, -1.0, 1.0, 0.0), Bound.exact, 5, neutral=0.0)
    assert wording.verdict(comparison(none, -1.4, measure=ERROR)) == expected
    bound = Effect(2.0, None, None, (2.0,) * 5, Bound.at_least, 5)
    assert wording.verdict(comparison(bound, 6.0)) == "inconclusive"


def test_views_and_averages_are_named():
    one, ten = (replace(ERROR, views=views) for views in (1, 10))
    item = comparison(lower(-1.2, -1.6, -0.8), -1.5, measure=ten, reference_measure=one)
    assert wording.sides(item) == ("relu over 10 views", "tanh over 1 view")
    assert wording.compared(item) == "validation error at the end"
    item = comparison(lower(-1.2, -1.6, -0.8), -1.5, measure=one, average=3)
    assert wording.sides(item) == ("the average of 3 runs of relu", "one of them")
    assert wording.compared(item) == "validation error over 1 view"


def test_no_effect_within_a_margin():
    item = comparison(lower(0.1, -0.2, 0.4), 0.0, measure=ERROR, margin=0.5)
    assert wording.claimed(item) == "no effect within 0.5 points"
    assert wording.verdict(item) == "confirmed"
    assert wording.verdict(comparison(lower(0.1, -0.2, 0.6), margin=0.5, measure=ERROR)) == "inconclusive"
    assert wording.verdict(comparison(lower(0.9, 0.6, 1.2), margin=0.5, measure=ERROR)) == "contradicted"


@pytest.mark.parametrize(
    ("metric", "split", "name"),
    [
        (Metric.time_to_error, "validation", "iterations to 25 % validation error"),
        (Metric.error, "probe", "training error at the end"),
        (Metric.best_error, "validation", "lowest validation error"),
        (Metric.gap, "probe", "validation error less training error at the end"),
        (Metric.area, "train", "mean running training error over the run"),
    ],
)
def test_measures_have_names(metric, split, name):
    assert wording.measure_name(Measure(metric, split, 0.25)) == name
