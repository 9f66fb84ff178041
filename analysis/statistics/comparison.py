"""All statistics of the gains of a table cell: the interface for tables.

The verdict on a gain joins two intervals. The pooled one assumes one variance of all runs, the
moderated one does not; a gain is shown if both exclude 0. ``python -m benchmarks.inference``
simulates studies of ten methods. If standard deviations vary by a third, or that of the baseline is
1.5 times as large, the probability of a false gain is at most 5 %, and 7 to 11 % with the pooled
interval alone. If two methods have three times the deviation of the others, it is 5 to 7 %, and 9
to 12 % with the pooled interval alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.statistics.equivalence import GainJudgment, judge
from analysis.statistics.moderated import (
    confirmed_gains,
    equal_variances_p,
    gain_deviations,
    moderated_gains,
    run_deviations,
)
from analysis.statistics.pooled import Family, PooledGain, fit, pooled_gains


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


def compare_cell(
    baseline: Mapping[int, float], methods: Mapping[str, Mapping[int, float]], family: Family
) -> CellComparison | None:
    """Return the statistics of AP points by seed; None without a gain or a degree of freedom."""
    model = fit(baseline, methods)
    if model is None:
        return None
    pooled, moderated = pooled_gains(model, family), moderated_gains(model, family)
    confirmed = confirmed_gains(pooled, moderated)
    return CellComparison(
        std=model.std,
        df=model.df,
        equal_gains_p=equal_variances_p(model, gain_deviations(model.design)),
        equal_runs_p=equal_variances_p(model, run_deviations(model.design)),
        pooled=pooled,
        moderated=moderated,
        confirmed=confirmed,
        judgments=judge(confirmed, family),
    )
