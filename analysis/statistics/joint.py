"""Intervals of a gain over seeds and test images together, and the probability of a gain.

A gain varies with the seeds of the trainings and with the test images. Drawing both with
replacement gives an interval that is too narrow for three or five seeds, because a resample of few
values varies too little. Here the seeds contribute Student's t distribution, and the images the
resamples of ``analysis.statistics.resampled``.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from analysis.statistics.dunnett import scales
from analysis.statistics.seeds import Interval
from kd.evaluation.voc import Floats

CONFIDENCE = 0.95


class Probability(NamedTuple):
    """An estimated probability, 0 to 1, and its 95 % interval."""

    value: float
    interval: Interval


def joint_interval(
    samples: Floats, standard_error: float | None = None, df: float | None = None
) -> Interval | None:
    """Return the 95 % interval of the mean gain for other seeds and other test images.

    ``samples``: (S, 1 + R) of ``analysis.statistics.resampled.gain_samples``. ``standard_error``
    and ``df``: those of the mean gain over seeds, by default of these S gains alone; pass those of
    the pooled model. None with fewer than two seeds or resamples.

    The ends are quantiles of the sum of two independent parts: Student's t times the standard
    error, and the deviation of the mean gain in resamples. Chance that seeds and images share is in
    both parts, so the second is reduced by it.
    """
    samples = samples[:, ~np.isnan(samples).any(axis=0)]
    seeds, columns = samples.shape
    if seeds < 2 or columns < 3:
        return None
    if standard_error is None or df is None:
        standard_error, df = samples[:, 0].std(ddof=1) / math.sqrt(seeds), seeds - 1
    mean = float(samples[:, 0].mean())
    shift = image_deviations(samples)
    low, high = (
        mean + _sum_quantile(p, shift, float(standard_error), df)
        for p in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    )
    return Interval(low, high)


def image_deviations(samples: Floats) -> Floats:
    """Return (R,): deviations of the mean gain in resamples, due to the images alone.

    The variance of the mean gain over resamples is that of images and 1/S of that of seed and image
    together. The latter is estimated from the differences between seeds, and removed.
    """
    seeds = len(samples)
    means = samples[:, 1:].mean(axis=0)
    together = (samples[:, 1:] - means).var(axis=1).sum() / (seeds - 1) / seeds
    whole = means.var()
    share = max(1 - together / whole, 0.0) if whole > 0 else 0.0
    return math.sqrt(share) * (means - samples[:, 0].mean())


def _sum_quantile(probability: float, shift: Floats, scale: float, df: float) -> float:
    """Return the quantile of ``scale`` times Student's t plus a random one of ``shift``."""
    if scale <= 0:
        return float(np.quantile(shift, probability))
    # Beyond the quantile of t from the smallest and the largest shift, against rounding.
    reach = 1.01 * scale * abs(float(scipy.special.stdtrit(df, probability)))
    low, high = float(shift.min()) - reach, float(shift.max()) + reach

    def excess(value: float) -> float:
        return float(scipy.special.stdtr(df, (value - shift) / scale).mean()) - probability

    return float(scipy.optimize.brentq(excess, low, high, xtol=1e-9))


def probability_of_gain(mean: float, standard_error: float, df: float, seeds: float) -> Probability:
    """Return the probability that the student of a new seed is better than its baseline.

    Gains are assumed to be normal: the probability is that of a normal gain above 0. The interval
    is that of the noncentral t distribution of ``mean / standard_error``; with the error of one row
    alone it is exact. ``seeds``: variance of one gain over that of the mean, which is the number of
    seeds if no run is missing.
    """
    if not standard_error:
        value = 0.5 + 0.5 * float(np.sign(mean))
        return Probability(value, Interval(value, value))
    t, root, tail = mean / standard_error, math.sqrt(seeds), (1 - CONFIDENCE) / 2
    low, high = (
        float(scipy.special.ndtr(_noncentrality(t, df, p) / root)) for p in (1 - tail, tail)
    )
    return Probability(float(scipy.special.ndtr(t / root)), Interval(low, high))


def _noncentrality(t: float, df: float, probability: float) -> float:
    """Return the parameter of the noncentral t distribution that is below ``t`` so often."""
    scale, weights = scales(df)
    center = t * scale

    def excess(shift: float) -> float:
        return float(weights @ scipy.special.ndtr(center - shift)) - probability

    return float(scipy.optimize.brentq(excess, center.min() - 10, center.max() + 10, xtol=1e-9))


def share_of_gains(gains: Sequence[float]) -> Probability | None:
    """Return the share of seeds whose student is better, with Wilson's interval; None of none.

    Wilson, Journal of the American Statistical Association 22, 1927. It assumes no distribution.
    Equal AP counts as not better.
    """
    if not gains:
        return None
    test = scipy.stats.binomtest(sum(gain > 0 for gain in gains), len(gains))
    low, high = test.proportion_ci(CONFIDENCE, method="wilson")
    return Probability(float(test.statistic), Interval(float(low), float(high)))
