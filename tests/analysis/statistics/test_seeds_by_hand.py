"""Means over seeds and paired gains, counted by hand."""

import math
from itertools import product
from typing import get_args

import numpy as np
import pytest
from scipy import special, stats

from analysis.statistics.gains import paired_gains
from analysis.statistics.pooled_power import pooled_seeds_needed
from analysis.statistics.seeds import (
    Metric,
    holm,
    mean_std,
    seeds_needed,
    sign_flip_test,
    t_interval,
    t_test,
)
from kd.evaluation.metrics import COCO_METRICS
from tests.support.paths import REPOSITORY


def test_mean_and_std_of_three():
    assert mean_std([1.0, 2.0, 6.0]) == pytest.approx((3.0, 7**0.5, 3))


def test_one_value_has_no_std():
    assert mean_std([34.8]) == (34.8, None, 1)


def test_no_value_has_no_mean():
    assert mean_std([]) == (None, None, 0)


def test_mean_reads_any_iterable():
    assert mean_std(value for value in (1.0, 3.0)).mean == 2.0


def test_gain_is_paired_by_seed():
    """Gains 1, 2, 3 while both runs vary far more: std 1."""
    gains = paired_gains({0: 31.0, 1: 42.0, 2: 53.0}, {2: 50.0, 1: 40.0, 0: 30.0})
    assert mean_std(gains) == pytest.approx((2.0, 1.0, 3))


def test_a_seed_that_one_lacks_has_no_gain():
    assert paired_gains({0: 33.0, 1: 34.0, 5: 99.0}, {0: 32.0, 7: 0.0}) == [1.0]


def test_gains_are_in_the_order_of_the_seeds():
    assert paired_gains({2: 5.0, 0: 3.0, 9: 1.0}, {0: 2.0, 2: 1.0}) == [1.0, 4.0]


def test_no_gain_without_a_shared_seed():
    assert paired_gains({0: 33.0}, {1: 32.0}) == []


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
def test_t_interval_is_that_of_printed_tables(values, confidence, reach):
    low, high = t_interval(values, confidence)
    mean = sum(values) / len(values)
    assert (mean - low, high - mean) == pytest.approx((reach, reach), rel=2e-4)


@pytest.mark.parametrize("values", [[], [0.4], [0.4, 0.4, 0.4], [0.0, 0.0], [0.1 + 0.2, 0.3]])
def test_one_value_and_equal_ones_show_no_variation(values):
    assert t_interval(values) is None and t_test(values) is None


@pytest.mark.parametrize(
    ("gains", "p"),
    [
        # t is 2 sqrt(3) at two degrees of freedom, where the distribution has a closed form.
        ([1.0, 2.0, 3.0], 1 - 12**0.5 / (2 + 12) ** 0.5),
        ([-1.0, -2.0, -3.0], 1 - 12**0.5 / (2 + 12) ** 0.5),
        # t is 2 at one: the Cauchy distribution.
        ([1.0, 3.0], 1 - 2 * math.atan(2) / math.pi),
        ([-1.0, 1.0], 1.0),
    ],
)
def test_p_of_the_t_test(gains, p):
    assert t_test(gains) == pytest.approx(p, abs=1e-12)


def test_p_is_below_5_percent_exactly_if_the_interval_excludes_0():
    assert t_test([0.1, 0.2, 0.3, 0.4]) < 0.05 and t_interval([0.1, 0.2, 0.3, 0.4])[0] > 0
    assert t_test([0.0, 0.2, 0.3, 0.4]) > 0.05 and t_interval([0.0, 0.2, 0.3, 0.4])[0] < 0


@pytest.mark.parametrize(
    ("gains", "p"),
    [
        ([1.0, 1.0], 2 / 4),
        ([3.0, 1.0, 2.0], 2 / 8),
        # Of 7, 5, 3, 1 and their negatives all but 1 and -1 are 3 or more away from 0.
        ([1.0, -2.0, 4.0], 6 / 8),
        # 0.1 + 0.2 - 0.3 is a rounding away from 0.
        ([0.1, 0.2, -0.3], 1.0),
        # 4 or more away from 0: turned by {}, 1, 2, 3, 1 + 2, or by all but these. Ties count.
        ([0.3, -0.1, -0.2, 0.4], 10 / 16),
        ([-1.0, -1.0, -1.0, -1.0, -1.0, -1.0], 2 / 64),
        ([0.0, 0.0, 0.0], 1.0),
    ],
)
def test_p_over_all_signs(gains, p):
    assert sign_flip_test(gains) == p


def test_signs_of_two_to_fifteen_gains_are_enumerated():
    assert sign_flip_test([1.0] * 15) == 2 / 2**15
    assert sign_flip_test([1.0]) is None
    assert sign_flip_test([1.0] * 16) is None


def enumerated(gains):
    """Return p by all sums of signed gains, equal ones within rounding."""
    sums = np.zeros(1)
    for gain in gains:
        sums = np.concatenate([sums + gain, sums - gain])
    return np.mean(np.abs(sums) >= abs(sums[0]) - 1e-9 * np.abs(gains).sum())


@pytest.mark.parametrize("seed", range(20))
def test_random_gains_agree_with_formulas(seed):
    """Gains of one digit have ties, up to the rounding of AP as a fraction of 1."""
    generator = np.random.default_rng(seed)
    count = generator.integers(2, 9)
    gains = [100 * (0.3 + gain / 1000) - 30 for gain in generator.integers(-9, 20, count)]
    assert sign_flip_test(gains) == enumerated(gains)
    if np.std(gains) > 1e-9:
        assert t_test(gains) == pytest.approx(stats.ttest_1samp(gains, 0).pvalue, rel=1e-9)
        reach = special.stdtrit(count - 1, 0.975) * np.std(gains, ddof=1) / count**0.5
        expected = (np.mean(gains) - reach, np.mean(gains) + reach)
        assert t_interval(gains) == pytest.approx(expected, rel=1e-9)


def test_holm_steps_down():
    """Factors 3, 2, 1; the last p is raised to the one before it; None stays None."""
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([0.5, 0.4, 0.001]) == pytest.approx([0.8, 0.8, 0.003])
    assert holm([0.9, 0.9]) == [1.0, 1.0]
    assert holm([None, 0.04]) == [None, 0.04]
    assert holm([None]) == [None]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("effect", "power", "seeds"),
    [
        # G*Power 3.1, means of two dependent groups, two tails, alpha 0.05.
        (1.0, 0.8, 10),
        (0.8, 0.8, 15),
        (0.5, 0.8, 34),
        (0.2, 0.8, 199),
        (1.0, 0.95, 16),
        (0.5, 0.95, 54),
        (0.2, 0.9, 265),
    ],
)
def test_seeds_needed_are_those_of_published_power_tables(effect, power, seeds):
    assert seeds_needed(0.5 / effect, power=power) == seeds
    assert seeds_needed(3 / effect, gain=3, power=power) == seeds


def test_power_is_the_share_of_studies_that_detect_the_gain():
    """Ten seeds are enough for a gain of one std, nine are not: 80,000 simulated studies."""
    generator = np.random.default_rng(0)

    def detected(seeds):
        gains = generator.normal(1, 1, (80_000, seeds))
        spread = gains.std(axis=1, ddof=1) / seeds**0.5
        return np.mean(gains.mean(axis=1) / spread > {9: 2.3060, 10: 2.2622}[seeds])

    assert detected(9) < 0.8 < detected(10)


def test_a_gain_without_variation_needs_two_seeds():
    assert seeds_needed(0.0) == 2
    assert seeds_needed(1e-6) == 2


def row_of(title):
    """Return the cells of a row of a table in docs/explanation/statistics.md."""
    lines = (REPOSITORY / "docs" / "explanation" / "statistics.md").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"| {title} |"))
    return [float(cell) for cell in line.split("|")[2:-1]]


def test_the_documented_numbers_are_those_of_the_functions():
    spreads = row_of("standard deviation")
    for methods, gain in product((1, 3, 10), (0.5, 1, 2)):
        needed = [pooled_seeds_needed(std, methods, gain) for std in spreads]
        rows = "1 row" if methods == 1 else f"{methods} rows"
        assert row_of(f"{rows}, gain {gain:g}") == needed


def test_the_metrics_are_those_of_the_evaluator():
    assert get_args(Metric) == (*COCO_METRICS, "VOC07", "VOC12")
