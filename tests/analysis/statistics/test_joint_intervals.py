"""Intervals over seeds and images together, and probabilities of a gain."""

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.joint import (
    image_deviations,
    joint_interval,
    probability_of_gain,
    share_of_gains,
)
from analysis.statistics.seeds import t_interval


def samples_of(seed_gains, image_effect):
    """Return samples in which images shift all seeds alike."""
    return np.add.outer(np.array(seed_gains), np.concatenate([[0], image_effect]))


def test_without_variation_of_images_it_is_students_interval():
    gains = [0.4, 1.1, 0.2, 0.9]
    samples = samples_of(gains, np.zeros(50))
    assert joint_interval(samples) == pytest.approx(t_interval(gains), abs=1e-7)


def test_without_variation_of_seeds_it_is_the_image_interval():
    effect = np.random.default_rng(0).normal(0, 1, 999)
    interval = joint_interval(samples_of([0.5, 0.5, 0.5], effect))
    assert interval == pytest.approx(np.quantile(0.5 + effect, [0.025, 0.975]))


def test_both_variations_add_as_variances():
    """The interval of two normal parts of equal deviation is sqrt(2) times as wide."""
    effect = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    interval = joint_interval(samples_of([0.0, 0.0, 3.0], effect), standard_error=1.0, df=1e6)
    assert interval == pytest.approx((1 - 1.96 * 2**0.5, 1 + 1.96 * 2**0.5), abs=0.01)


def test_chance_of_seed_and_image_together_counts_once():
    """If each seed's images differ, all of the variation over images is in the seeds already."""
    generator = np.random.default_rng(0)
    samples = np.hstack([np.zeros((400, 1)), generator.normal(0, 1, (400, 500))])
    assert np.abs(image_deviations(samples)).max() < 0.02
    shared = samples_of([0.0] * 4, generator.normal(0, 1, 500))
    assert image_deviations(shared) == pytest.approx(shared[0, 1:])


def test_undefined_resamples_are_left_out_and_one_seed_has_no_interval():
    samples = samples_of([0.4, 1.1, 0.2], np.random.default_rng(0).normal(0, 1, 99))
    undefined = np.hstack([samples, np.full((3, 1), np.nan)])
    assert joint_interval(undefined) == joint_interval(samples)
    assert joint_interval(samples[:1]) is None
    assert joint_interval(samples[:, :1]) is None


@pytest.mark.parametrize(
    ("mean", "error", "df", "seeds", "expected"),
    [
        # R 4.2.2: pnorm of the roots of pt(t, df, ncp).
        (0.5, 0.2, 4, 5, (0.8682238, 0.4724291, 0.9872495)),
        (0.0, 0.3, 48, 5, (0.5, 0.190373, 0.809627)),
        (-1.0, 0.5, 2, 3, (0.1241065, 0.004139057, 0.670849)),
    ],
)
def test_probability_of_a_gain_is_that_of_the_noncentral_t(mean, error, df, seeds, expected):
    value, interval = probability_of_gain(mean, error, df, seeds)
    assert (value, *interval) == pytest.approx(expected, rel=1e-5)


def test_probability_of_a_gain_at_its_limits():
    assert probability_of_gain(1.0, 0.0, 2, 3) == (1.0, (1.0, 1.0))
    assert probability_of_gain(0.0, 0.0, 2, 3) == (0.5, (0.5, 0.5))
    value, (low, high) = probability_of_gain(20.0, 0.1, 2, 3)
    assert value == high == 1 and 0.9 < low <= 1


def test_interval_of_the_probability_covers():
    generator = np.random.default_rng(0)
    true, covered = stats.norm.cdf(0.8), 0
    for gains in generator.normal(0.8, 1, (400, 4)):
        _, (low, high) = probability_of_gain(gains.mean(), gains.std(ddof=1) / 2, 3, 4)
        covered += low <= true <= high
    # Of 400 studies, 368 to 391 with probability 0.99.
    assert 368 <= covered <= 391


def test_share_of_gains_has_wilsons_interval():
    """Package statsmodels 0.15.0: proportion_confint(method="wilson")."""
    assert share_of_gains([1.0, 2.0, 3.0]) == (1.0, pytest.approx((0.43850296824, 1.0)))
    share, interval = share_of_gains([0.1, 0.2, -0.1, 0.3, 0.4])
    assert share == 0.8 and interval == pytest.approx((0.37553462976, 0.96377589136))
    assert share_of_gains([0.0, 1.0]).value == 0.5
    assert share_of_gains([]) is None
