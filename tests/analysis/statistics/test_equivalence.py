"""Equivalence with no gain, the four words, and the false discovery rate."""

import numpy as np
import pytest

from analysis.statistics.equivalence import two_one_sided, word
from analysis.statistics.screening import false_discovery_q
from analysis.statistics.seeds import Interval


def test_p_is_that_of_statsmodels_and_r():
    """Package statsmodels 0.15.0 ttost_paired and two one-sided t.test of R 4.2.2 agree."""
    gains = np.array([0.054, 0.21, -0.12, 0.3, -0.05])
    test = two_one_sided(gains.mean(), gains.std(ddof=1) / 5**0.5, 4)
    assert test.p == pytest.approx(0.0028962652612184, rel=1e-9)
    assert test.interval == pytest.approx((-0.08829436326, 0.24589436326), abs=1e-9)


@pytest.mark.parametrize("mean", [-0.4, 0.0, 0.1, 0.3])
@pytest.mark.parametrize("error", [0.05, 0.1, 0.2, 0.4])
def test_p_is_below_5_percent_if_the_90_percent_interval_lies_between_the_limits(mean, error):
    test = two_one_sided(mean, error, 7)
    inside = max(-test.interval.low, test.interval.high) < 0.5
    assert (test.p < 0.05) == inside
    assert two_one_sided(-mean, error, 7).p == pytest.approx(test.p)


def test_p_of_a_gain_at_the_limit_is_one_half():
    assert two_one_sided(0.5, 0.1, 3).p == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("interval", "p", "expected"),
    [
        (Interval(0.1, 2.0), 0.9, "helps"),
        (Interval(-2.0, -0.1), 0.9, "hurts"),
        (Interval(-0.4, 0.4), 0.049, "no gain worth half a point"),
        (Interval(-0.6, 0.6), 0.001, "no gain worth half a point"),
        (Interval(-0.4, 0.4), 0.05, "undetermined"),
        # Ends belong to the interval.
        (Interval(0.0, 2.0), 0.9, "undetermined"),
        (Interval(-2.0, 0.0), 0.9, "undetermined"),
        (Interval(1e-9, 2.0), 0.9, "helps"),
        # A small gain whose sign is shown helps.
        (Interval(0.1, 0.3), 0.001, "helps"),
        (Interval(-0.3, -0.1), 0.001, "hurts"),
        (Interval(0.0, 0.0), 0.0, "no gain worth half a point"),
        (None, None, "undetermined"),
        (None, 0.01, "no gain worth half a point"),
        (Interval(-1.0, 1.0), None, "undetermined"),
    ],
)
def test_the_first_word_that_applies(interval, p, expected):
    assert word(interval, p) == expected


def test_q_is_that_of_benjamini_and_hochberg():
    """R 4.2.2: p.adjust(p, "BH")."""
    p = [0.01, None, 0.04, 0.03, 0.5, 0.0005]
    assert false_discovery_q(p) == pytest.approx([0.025, None, 0.05, 0.05, 0.5, 0.0025])
    assert false_discovery_q([None]) == [None]
    assert false_discovery_q([]) == []
