"""Verdicts on published gains, at the edges of the rule."""

import pytest

from analysis.statistics.gains import Gain
from analysis.statistics.seeds import Interval
from analysis.statistics.verdicts import conditions, level_verdict, verdict

ONE_SEED = Gain(0.0)
WIDE = Gain(0.0, simultaneous=Interval(-5.0, 5.0))


def verdict_on(low, high, published):
    gain = Gain((low + high) / 2, simultaneous=Interval(low, high))
    return verdict(gain, published, "paper", comparable=True)


@pytest.mark.parametrize(
    ("low", "high", "published", "expected"),
    [
        (0.5, 1.4, 1.0, "reproduced"),
        (0.5, 1.5, 1.0, "inconclusive"),
        (1.5, 2.0, 1.0, "reproduced"),
        (0.5, 1.0, 1.0, "reproduced"),
        (0.5, 0.999, 1.0, "partly"),
        (0.001, 0.5, 1.0, "partly"),
        (0.001, 5.0, 1.0, "inconclusive"),
        (0.0, 0.5, 1.0, "not reproduced"),
        (-0.5, 0.999, 1.0, "not reproduced"),
        (-2.0, -1.0, 1.0, "not reproduced"),
        (0.0, 1.0, 1.0, "inconclusive"),
        (-0.5, 1.0, 1.0, "inconclusive"),
        (-5.0, 5.0, 1.0, "inconclusive"),
    ],
)
def test_gains_and_losses_have_the_same_rule(low, high, published, expected):
    assert verdict_on(low, high, published) == expected
    assert verdict_on(-high, -low, -published) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.5, 0.5, "reproduced"),
        (0.0, 0.5, "reproduced"),
        (-0.501, 0.5, "inconclusive"),
        (-0.5, 0.501, "inconclusive"),
        (0.001, 0.4, "not reproduced"),
        (-0.4, -0.001, "not reproduced"),
        (1.0, 2.0, "not reproduced"),
    ],
)
def test_a_narrow_interval_around_0_reproduces_a_gain_of_0(low, high, expected):
    assert verdict_on(low, high, 0.0) == expected


ENDS = (-3.0, -2.3, -1.2, -0.6, -0.5, -0.4, 0.0, 0.4, 0.5, 0.6, 1.2, 2.3, 3.0)


@pytest.mark.parametrize("published", [2.3, -2.3, 0.6, 0.0])
def test_the_printed_conditions_are_the_rule(published):
    """A verdict's condition holds for the intervals with this verdict and for no other."""
    printed = conditions(published)
    met = set()
    for low in ENDS:
        for high in (end for end in ENDS if end >= low):
            holds = [name for name, text in printed.items() if is_met(text, low, high)]
            expected = verdict_on(low, high, published)
            assert holds == ([] if expected == "inconclusive" else [expected]), (low, high)
            met |= {*holds}
    assert met == {*printed}


def is_met(condition, low, high):
    for sign, operator in (("≥", ">="), ("≤", "<="), (",", " and")):
        condition = condition.replace(sign, operator)
    return eval(condition, {"l": low, "h": high})


def test_conditions_are_in_points():
    assert conditions(37.4 - 35.1) == {
        "reproduced": "l > 0, h ≥ 2.3, h - l < 2.3",
        "partly": "l > 0, h < 2.3",
        "not reproduced": "l ≤ 0, h < 2.3",
    }
    assert conditions(-0.25)["reproduced"] == "h < 0, l ≤ -0.25, h - l < 0.25"
    assert conditions(10.0)["partly"] == "l > 0, h < 10"


def test_one_seed_is_inconclusive():
    assert verdict(ONE_SEED, 1.0, "paper", comparable=True) == "inconclusive"


def test_conditions_before_the_interval_apply_in_order():
    assert verdict(None, None, "smoke", comparable=False) == ""
    assert verdict(WIDE, None, "paper", comparable=True) == ""
    assert verdict(None, 1.0, "smoke", comparable=False) == "not run"
    assert verdict(None, 1.0, "paper", comparable=False) == "not run"
    assert verdict(WIDE, 1.0, "smoke", comparable=False) == "ran at smoke"
    assert verdict(ONE_SEED, 1.0, "mini", comparable=True) == "ran at mini"
    assert verdict(WIDE, 1.0, "paper", comparable=False) == "not comparable"
    assert verdict(ONE_SEED, 1.0, "paper", comparable=False) == "not comparable"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (29.5, 30.5, "reproduced"),
        (30.1, 30.5, "reproduced"),
        (29.4, 30.5, "inconclusive"),
        (20.0, 40.0, "inconclusive"),
        (30.1, 30.6, "not reproduced"),
        (28.0, 29.9, "not reproduced"),
        (30.0, 33.0, "inconclusive"),
    ],
)
def test_an_ap_is_reproduced_within_half_a_point_of_30(low, high, expected):
    assert level_verdict(True, Interval(low, high), 30.0, "paper", True) == expected


def test_conditions_of_an_ap_apply_in_the_order_of_those_of_a_gain():
    near = Interval(30, 30)
    assert level_verdict(True, near, None, "paper", True) == ""
    assert level_verdict(False, None, 30.0, "smoke", False) == "not run"
    assert level_verdict(True, near, 30.0, "smoke", False) == "ran at smoke"
    assert level_verdict(True, near, 30.0, "paper", False) == "not comparable"
    assert level_verdict(True, None, 30.0, "paper", True) == "inconclusive"
