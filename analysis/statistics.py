"""Figures of several seeds, and gains paired by seed."""

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

Metric = Literal[
    "AP", "AP50", "AP75", "APS", "APM", "APL",
    "AR1", "AR10", "AR100", "ARS", "ARM", "ARL", "VOC07", "VOC12",
]  # fmt: skip
"""The figures of ``metrics.json``, named here because ``kd.evaluation`` is slow to import."""


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


def paired_gain(student: Mapping[int, float], baseline: Mapping[int, float]) -> Summary:
    """Return the gain of ``student`` over ``baseline``, taken seed by seed.

    Both map a seed to a figure; seeds that only one of them has are left out.
    """
    shared = sorted(student.keys() & baseline.keys())
    return summary(student[seed] - baseline[seed] for seed in shared)


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
