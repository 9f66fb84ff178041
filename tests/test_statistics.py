"""Means over seeds and paired gains, counted by hand."""

import pytest

from analysis.statistics import paired_gain, summary


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
