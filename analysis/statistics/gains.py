"""Gains of a student over its baseline, paired by seed, with their intervals and tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.statistics.seeds import (
    SIGNIFICANT,
    Interval,
    holm,
    mean_std,
    sign_flip_test,
    t_interval,
    t_test,
)


@dataclass(frozen=True)
class Gain:
    """A mean gain in AP points over the seeds that student and baseline share."""

    mean: float
    std: float | None = None
    """Sample standard deviation over the seeds; None of one seed."""
    over_seeds: Interval | None = None
    """95 % t interval."""
    over_images: Interval | None = None
    """95 % interval over resampled test images."""
    p: float | None = None
    """p of the paired t test."""
    p_exact: float | None = None
    """p of the sign-flip test."""
    p_holm: float | None = None
    """p of the t test, corrected for all gains of the table."""

    @property
    def significant(self) -> bool:
        """True if the corrected t test rejects a gain of 0."""
        return self.p_holm is not None and self.p_holm < SIGNIFICANT


def paired_gains(student: Mapping[int, float], baseline: Mapping[int, float]) -> list[float]:
    """Return the gains of ``student`` over ``baseline``, in the order of the seeds.

    Both map a seed to a metric; seeds that only one of them has are left out.
    """
    shared = sorted(student.keys() & baseline.keys())
    return [student[seed] - baseline[seed] for seed in shared]


def mean_gain(gains: Sequence[float], over_images: Interval | None = None) -> Gain | None:
    """Return the mean of paired gains with its interval and tests; None without a gain."""
    mean, std, _ = mean_std(gains)
    if mean is None:
        return None
    return Gain(mean, std, t_interval(gains), over_images, t_test(gains), sign_flip_test(gains))


def corrected(gains: Sequence[Gain | None]) -> list[Gain | None]:
    """Return the gains with p corrected for all of them, one family of tests (Holm)."""
    p_values = holm([gain.p if gain else None for gain in gains])
    return [
        replace(gain, p_holm=p_holm) if gain else None
        for gain, p_holm in zip(gains, p_values, strict=True)
    ]
