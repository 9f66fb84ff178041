"""Means over seeds and paired gains, counted by hand."""

from typing import get_args

import pytest

from analysis.statistics import Metric, interval, paired_gain, summary
from kd.evaluation import COCO_FIGURES


def test_summary_of_three():
    assert summary([1.0, 2.0, 6.0]) == pytest.approx((3.0, 7**0.5, 3))


def test_summary_of_one_has_no_spread():
    assert summary([34.8]) == (34.8, None, 1)


def test_summary_of_none_has_no_mean():
    assert summary([]) == (None, None, 0)


def test_summary_reads_any_iterable():
    assert summary(value for value in (1.0, 3.0)).mean == 2.0


def test_gain_is_paired_by_seed():
    """Gains 1, 2, 3 while both columns spread by far more: std 1."""
    gain = paired_gain({0: 31.0, 1: 42.0, 2: 53.0}, {2: 50.0, 1: 40.0, 0: 30.0})
    assert gain == pytest.approx((2.0, 1.0, 3))


def test_gain_leaves_out_a_seed_that_one_lacks():
    assert paired_gain({0: 33.0, 1: 34.0, 5: 99.0}, {0: 32.0, 7: 0.0}) == (1.0, None, 1)


def test_gain_without_a_shared_seed():
    assert paired_gain({0: 33.0}, {1: 32.0}) == (None, None, 0)


@pytest.mark.parametrize(
    ("values", "confidence", "reach"),
    [
        # Student's t from a printed table, times std / sqrt(n).
        ([1.0, 3.0], 0.95, 12.706 * 2**0.5 / 2**0.5),
        ([1.0, 2.0, 3.0], 0.95, 4.303 * 1 / 3**0.5),
        ([0.0, 1.0, 2.0, 3.0, 4.0], 0.95, 2.776 * 2.5**0.5 / 5**0.5),
        ([0.0, 1.0, 2.0, 3.0, 4.0], 0.90, 2.132 * 2.5**0.5 / 5**0.5),
    ],
)
def test_interval_is_that_of_the_table(values, confidence, reach):
    low, high = interval(values, confidence)
    mean = sum(values) / len(values)
    assert (mean - low, high - mean) == pytest.approx((reach, reach), rel=2e-4)


def test_no_interval_of_fewer_than_two_and_none_wide_of_equal_ones():
    assert interval([]) is None
    assert interval([0.4]) is None
    assert interval([0.4, 0.4, 0.4]) == pytest.approx((0.4, 0.4))


def test_the_figures_are_those_of_the_evaluator():
    assert get_args(Metric) == (*COCO_FIGURES, "VOC07", "VOC12")
