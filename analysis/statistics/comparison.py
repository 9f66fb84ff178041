"""All statistics of the gains of a table cell: the interface for tables.

The verdict on a gain joins two intervals. The pooled one assumes one variance of all runs, the
moderated one does not; a gain is shown if both exclude 0. ``python -m benchmarks.inference``
simulates studies of ten methods. If standard deviations vary by a third, or that of the baseline is
1.5 times as large, the probability of a false gain is at most 5 %, and 7 to 11 % with the pooled
interval alone. If two methods have three times the deviation of the others, it is 5 to 7 %, and 9
to 12 % with the pooled interval alone.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import scipy

from analysis.statistics.equivalence import GainJudgment, judge
from analysis.statistics.moderated import (
    confirmed_gains,
    equal_variances_p,
    gain_deviations,
    moderated_gains,
    run_deviations,
)
from analysis.statistics.pooled import CONFIDENCE, Family, PooledGain, fit, pooled_gains
from analysis.statistics.seeds import SIGNIFICANT, Interval, t_interval


@dataclass(frozen=True)
class CellComparison:
    """The gains of the methods of a cell. Methods without a gain are absent."""

    std: float
    """Residual standard deviation in AP points."""
    df: int
    """Its degrees of freedom."""
    equal_gains_p: float | None
    """p of equal variances of the paired gains of all methods; None if not testable."""
    equal_runs_p: float | None
    """p of equal variances of the runs of all rows, the baseline included."""
    pooled: Mapping[str, PooledGain]
    """Gains with one variance for all runs."""
    moderated: Mapping[str, PooledGain]
    """Gains with a moderated variance each."""
    confirmed: Mapping[str, PooledGain]
    """Gains with the interval that spans both."""
    judgments: Mapping[str, GainJudgment]
    """The word for each confirmed gain."""
    run_std: float
    """Standard deviation of a run about the mean of its row, in AP points: seed and residual."""
    run_df: float
    """Its degrees of freedom."""


def compare_cell(
    baseline: Mapping[int, float], methods: Mapping[str, Mapping[int, float]], family: Family
) -> CellComparison | None:
    """Return the statistics of AP points by seed; None if ``pooled.fit`` has no model of them."""
    model = fit(baseline, methods)
    if model is None:
        return None
    pooled, moderated = pooled_gains(model, family), moderated_gains(model, family)
    confirmed = confirmed_gains(pooled, moderated)
    run_std, run_df = run_deviation([baseline, *methods.values()], model.std)
    return CellComparison(
        std=model.std,
        df=model.df,
        equal_gains_p=equal_variances_p(model, gain_deviations(model.design)),
        equal_runs_p=equal_variances_p(model, run_deviations(model.design)),
        pooled=pooled,
        moderated=moderated,
        confirmed=confirmed,
        judgments=judge(confirmed, family),
        run_std=run_std,
        run_df=run_df,
    )


def run_deviation(
    rows: Collection[Mapping[int, float]], residual_std: float
) -> tuple[float, float]:
    """Return the deviation of a run from the mean of its row, and its degrees of freedom.

    ``rows``: AP points by seed, two or more in one row at least. The deviation is pooled over the
    rows. A seed moves the runs of all rows together by its share of the variance, so the degrees of
    freedom lie between those of one row and those of all (Satterthwaite, Biometrics Bulletin 2,
    1946).
    """
    seeds = sorted({seed for row in rows for seed in row})
    squares, df = 0.0, 0
    together = np.zeros((len(seeds), len(seeds)))
    for row in rows:
        values, has_run = np.array([*row.values()]), np.isin(seeds, [*row]).astype(float)
        squares += float(np.sum((values - values.mean()) ** 2)) if row else 0.0
        df += max(len(row) - 1, 0)
        together += np.diag(has_run) - np.outer(has_run, has_run) / max(len(row), 1)
    variance = squares / df
    share = max(1 - residual_std**2 / variance, 0.0) if variance else 0.0
    freedom = df**2 / (share**2 * float(np.sum(together**2)) + (1 - share**2) * df)
    return math.sqrt(variance), freedom


def mean_interval(
    points: Mapping[int, float], comparison: CellComparison | None
) -> Interval | None:
    """Return the 95 % interval over seeds of the mean AP of a row; None with fewer than two.

    It has the deviation of all rows of the cell. Without a cell, or if its rows have different
    variances, it is Student's interval of this row alone.
    """
    if len(points) < 2 or comparison is None or _varies(comparison):
        return t_interval(points.values())
    quantile = float(scipy.special.stdtrit(comparison.run_df, (1 + CONFIDENCE) / 2))
    mean, reach = math.fsum(points.values()) / len(points), quantile * comparison.run_std
    reach /= math.sqrt(len(points))
    return Interval(mean - reach, mean + reach)


def _varies(comparison: CellComparison) -> bool:
    """Return True if the runs of the rows are shown to have different variances."""
    p = comparison.equal_runs_p
    return p is not None and p < SIGNIFICANT
