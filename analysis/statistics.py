"""Figures of several seeds, and gains paired by seed."""

import statistics
from collections.abc import Iterable, Mapping
from typing import NamedTuple


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
