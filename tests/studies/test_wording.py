import math

import pytest

from alexnet_tf.studies import wording
from alexnet_tf.studies.measures import Bound, Crossing, Ratio, summarize


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
    assert wording.crossing(Crossing(1234.4, False)) == "1,234"
    assert wording.crossing(Crossing(400, True)) == "> 400"
    assert wording.crossing(Crossing(12.34, False), "seconds") == "12.3"
    assert wording.crossing(Crossing(math.nan, True), "seconds") == "-"
    assert wording.crossing(None) == "-"


def test_summaries():
    assert wording.summary(summarize([Crossing(100, False), Crossing(200, False)])) == "150 (100-200)"
    assert wording.summary(summarize([Crossing(100, False), Crossing(200, True)])) == "> 150 (100 to > 200)"
    assert wording.summary(summarize([Crossing(200, True), Crossing(200, True)])) == "> 200"
    assert wording.summary(summarize([Crossing(7, False)])) == "7"


def test_ratios():
    assert wording.ratio(Ratio(2.41, 1.88, 3.1, (2.0, 3.0), Bound.exact, 2)) == "2.4x [1.9, 3.1]"
    assert wording.ratio(Ratio(2.41, None, None, (2.41,), Bound.exact, 1)) == "2.4x"
    assert wording.ratio(Ratio(2.41, None, None, (2.41,), Bound.at_least, 1)) == "> 2.4x"
    assert wording.ratio(Ratio(0.5, None, None, (0.5,), Bound.at_most, 1)) == "< 0.50x"
    assert wording.ratio(Ratio(None, None, None, (), Bound.undetermined, 2)) == "undetermined"


def test_finding_never_gives_a_verdict_below_five_seeds():
    few = Ratio(2.4, 1.9, 3.1, (2.4,) * 3, Bound.exact, 3)
    assert wording.finding("relu", "tanh", 0.25, few, 6.0) == (
        "relu reaches 25 % training error 2.4x [1.9, 3.1] as fast as tanh (claimed: 6x, outside the interval): "
        "3 seeds; no verdict below 5"
    )
    enough = Ratio(2.4, 1.9, 3.1, (2.4,) * 5, Bound.exact, 5)
    assert wording.finding("relu", "tanh", 0.25, enough, 6.0).endswith("5 seeds; confirmed")


def test_finding_of_bounds_and_of_nothing():
    bound = Ratio(3.0, None, None, (3.0,), Bound.at_least, 1)
    assert "at least 3.0x as fast as tanh (claimed: 6x): 1 seed;" in wording.finding(
        "relu", "tanh", 0.25, bound, 6.0
    )
    nothing = Ratio(None, None, None, (), Bound.undetermined, 0)
    assert (
        wording.finding("a", "b", 0.25, nothing, 6.0) == "a against b: no seed has finished in both arms yet"
    )
    unclear = Ratio(None, None, None, (), Bound.undetermined, 2)
    assert "undetermined" in wording.finding("a", "b", 0.25, unclear, 6.0)
