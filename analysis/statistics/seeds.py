"""Figures of several seeds, gains paired by seed, and how sure these are: docs/statistics.md."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

Metric = Literal[
    "AP", "AP50", "AP75", "APS", "APM", "APL",
    "AR1", "AR10", "AR100", "ARS", "ARM", "ARL", "VOC07", "VOC12",
]  # fmt: skip
"""The figures of ``metrics.json``, named here because ``kd.evaluation.metrics`` is slow to
import."""
POINTS = 100
"""A figure is stored as a fraction of 1 and printed in AP points."""
SIGNIFICANT = 0.05
"""The level of tests: a corrected p below it gets a mark."""
WORTH_FINDING = 0.5
"""AP points: the smallest gain that is asked for, and the largest that still counts as none."""
MOST_FLIPPED = 20
"""Gains up to which all choices of signs are gone through: a million."""


class Summary(NamedTuple):
    """Several values in three: mean None without a value, std None with fewer than two."""

    mean: float | None
    std: float | None
    """Sample standard deviation (n - 1)."""
    n: int


def summary(values: Iterable[float]) -> Summary:
    """Return mean, sample standard deviation and number of ``values``, in their unit."""
    listed = list(values)
    mean = statistics.fmean(listed) if listed else None
    return Summary(mean, statistics.stdev(listed) if len(listed) > 1 else None, len(listed))


def paired_gains(student: Mapping[int, float], baseline: Mapping[int, float]) -> list[float]:
    """Return the gains of ``student`` over ``baseline``, seed by seed in the order of the seeds.

    Both map a seed to a figure; seeds that only one of them has are left out.
    """
    shared = sorted(student.keys() & baseline.keys())
    return [student[seed] - baseline[seed] for seed in shared]


def interval(values: Iterable[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Return Student's t interval of the mean, in the unit of ``values``; None with under two.

    ``confidence``: how often, 0 to 1, such intervals cover the mean of normal values.
    """
    from scipy.special import stdtrit

    mean, std, n = summary(values)
    if mean is None or std is None:
        return None
    reach = float(stdtrit(n - 1, (1 + confidence) / 2)) * std / math.sqrt(n)
    return mean - reach, mean + reach


def t_test(gains: Iterable[float]) -> float | None:
    """Return the two-sided p of a mean gain of 0 by Student's t test; None with under two gains.

    It is below 0.05 where the 95 % ``interval`` leaves out 0. Equal gains have p 0, or 1 if all
    are 0: the limits.
    """
    from scipy.special import stdtr

    mean, std, n = summary(gains)
    if mean is None or std is None:
        return None
    if std == 0:
        return 0.0 if mean else 1.0
    return 2 * float(stdtr(n - 1, -abs(mean) / std * math.sqrt(n)))


def sign_flip_test(gains: Iterable[float]) -> float | None:
    """Return the exact two-sided p of the mean gain if the sign of each gain were a coin's.

    The share of the 2^n choices of signs whose mean is as far from 0 as the one seen, or farther
    (Fisher 1935), hence 2/2^n or more. None with fewer than 2 or more than 20 gains.
    """
    import numpy as np

    listed = list(gains)
    if not 2 <= len(listed) <= MOST_FLIPPED:
        return None
    sums = np.zeros(1)
    for gain in listed:
        sums = np.concatenate([sums + gain, sums - gain])
    # Sums that are equal on paper differ by roundings; the first one is the one seen.
    rounding = 1e-9 * sum(map(abs, listed))
    return float(np.mean(np.abs(sums) >= abs(sums[0]) - rounding))


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Return each p as corrected for all that are tested together (Holm 1979); None stays None.

    Of m, the k-th smallest is multiplied by m - k + 1, is at least as large as those before it,
    and at most 1.
    """
    tested = sorted((value, place) for place, value in enumerate(p) if value is not None)
    corrected: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, place) in enumerate(tested):
        largest = max(largest, min((len(tested) - rank) * value, 1.0))
        corrected[place] = largest
    return corrected


def seeds_needed(
    std: float, gain: float = WORTH_FINDING, power: float = 0.8, alpha: float = SIGNIFICANT
) -> int:
    """Return the fewest seeds, 2 or more, with which a paired two-sided t test finds a gain.

    ``std``: of the paired gains, in the unit of ``gain``; ``power``: how often, 0 to 1, a true gain
    of that size is found at level ``alpha`` (noncentral t; Cohen 1988).
    """
    from scipy.special import nctdtr, ndtri, stdtrit

    if std == 0:
        return 2
    effect = gain / std
    # The normal distribution needs fewer than Student's: a place to start.
    normal = ((ndtri(1 - alpha / 2) + ndtri(power)) / effect) ** 2
    n = max(2, math.floor(normal))
    while True:
        critical = stdtrit(n - 1, 1 - alpha / 2)
        # That the test errs on the other side of 0 hardly happens: 1e-6 at most at power 0.8.
        if 1 - nctdtr(n - 1, effect * math.sqrt(n), critical) >= power:
            return n
        n += 1
