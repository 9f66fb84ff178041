"""Statistics of values over seeds: mean, t interval, tests and power."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Metric = Literal[
    "AP", "AP50", "AP75", "APS", "APM", "APL",
    "AR1", "AR10", "AR100", "ARS", "ARM", "ARL", "VOC07", "VOC12",
]  # fmt: skip
"""Metrics of ``metrics.json``, repeated here because ``kd.evaluation.metrics`` imports slowly."""
POINTS = 100
"""AP points of a metric of 1: files store metrics as fractions, tables print points."""
SIGNIFICANT = 0.05
"""Level of the tests: a corrected p below it is marked."""
WORTH_FINDING = 0.5
"""AP points: the smallest gain of interest, and the largest that still counts as no gain."""
ROUNDING = 1e-9
"""AP points: gains and deviations below it are rounding errors of equal values."""
MOST_FLIPPED = 15
"""Gains up to which all sign choices are enumerated, 2^15 at most."""


class MeanStd(NamedTuple):
    """Mean and spread of values: no mean without a value, no std with fewer than two."""

    mean: float | None
    std: float | None
    """Sample standard deviation (n - 1)."""
    n: int


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float


def mean_std(values: Iterable[float]) -> MeanStd:
    """Return mean, sample standard deviation and number of ``values``, in their unit."""
    numbers = list(values)
    mean = statistics.fmean(numbers) if numbers else None
    return MeanStd(mean, statistics.stdev(numbers) if len(numbers) > 1 else None, len(numbers))


def t_interval(values: Iterable[float], confidence: float = 0.95) -> Interval | None:
    """Return Student's t interval of the mean, in the unit of ``values``.

    ``confidence``: the share, 0 to 1, of such intervals that cover the mean of normal values. None
    with fewer than two values, and if all are equal: they do not show how others would vary.
    """
    from scipy.special import stdtrit

    mean, std, n = mean_std(values)
    if mean is None or std is None or std < ROUNDING:
        return None
    low, high = stdtrit(n - 1, [(1 - confidence) / 2, (1 + confidence) / 2])
    error = std / math.sqrt(n)
    return Interval(float(low * error + mean), float(high * error + mean))


def t_test(gains: Iterable[float]) -> float | None:
    """Return the two-sided p of Student's t test that the mean gain is 0.

    The p is below 0.05 where the 95 % ``t_interval`` excludes 0, and None without that interval.
    """
    from scipy.special import stdtr

    mean, std, n = mean_std(gains)
    if mean is None or std is None or std < ROUNDING:
        return None
    # As stats.ttest_1samp, which warns of a loss of precision where gains are nearly equal.
    return 2 * float(stdtr(n - 1, -abs(mean) / (std / math.sqrt(n))))


def sign_flip_test(gains: Iterable[float]) -> float | None:
    """Return the exact two-sided p of the mean gain under random signs of the gains.

    The p is the share of the 2^n sign choices whose mean is at least as far from 0 as the measured
    one (Fisher 1935), hence 2/2^n or more. None with fewer than 2 or more than 15 gains.
    """
    import numpy as np

    rounded_gains = np.round(list(gains), 9)  # so that sums of equal gains tie
    count = len(rounded_gains)
    if not 2 <= count <= MOST_FLIPPED:
        return None
    signs = 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
    distances = np.abs(signs @ rounded_gains)
    return float(np.mean(distances >= distances[0] - ROUNDING / 2))


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Return each p corrected for all that are tested together (Holm 1979); None stays None.

    Of m, the k-th smallest is multiplied by m - k + 1. It is at least as large as those before it,
    and at most 1.
    """
    ranked = sorted((value, index) for index, value in enumerate(p) if value is not None)
    corrected: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, index) in enumerate(ranked):
        largest = max(largest, min((len(ranked) - rank) * value, 1.0))
        corrected[index] = largest
    return corrected


def seeds_needed(
    std: float, gain: float = WORTH_FINDING, power: float = 0.8, alpha: float = SIGNIFICANT
) -> int:
    """Return the fewest seeds, 2 or more, with which a paired two-sided t test detects a gain.

    ``std``: of the paired gains, in the unit of ``gain``; ``power``: the probability, 0 to 1, of
    detecting a true gain of that size at level ``alpha`` (noncentral t; Cohen 1988).
    """
    from scipy.special import nctdtr, ndtri, stdtrit

    if std == 0:
        return 2
    effect = gain / std
    # The normal distribution needs fewer seeds than Student's: a lower bound to start from.
    normal = ((ndtri(1 - alpha / 2) + ndtri(power)) / effect) ** 2
    n = max(2, math.floor(normal))
    while True:
        critical = stdtrit(n - 1, 1 - alpha / 2)
        # A significant result of the wrong sign is ignored: 1e-6 at most at power 0.8.
        if 1 - nctdtr(n - 1, effect * math.sqrt(n), critical) >= power:
            return n
        n += 1
